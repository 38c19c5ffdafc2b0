# SPDX-License-Identifier: Apache-2.0
"""What Envoy itself says of patched resources, before any proxy is told of them.

Over REST a proxy does not say why it refuses something, and one that is new would have nothing to go on with. So an
Envoy reads each patched part first, in its validation mode: one process for all that waits, a tenth of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from labkit.ground.errors import LabError
from meshbox import failures
from meshbox.images.proxy.binary import envoy_binary
from meshbox.images.proxy.constants import VARIABLES
from meshbox.mesh.envoy import XDS_CLUSTER, Json, typed

__all__ = ["Candidate", "Trials", "validated"]

log = logging.getLogger(__name__)

_MOST = 512
_LONGEST = 60.0
"""Seconds that Envoy may take to read a configuration: a script in it may never end, and would stop a proxy."""

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": typed("envoy.extensions.filters.http.router.v3.Router"),
}
_WHERE = re.compile(r"^.*error initializing configuration '[^']*': ", re.DOTALL)


@dataclass(frozen=True)
class Candidate:
    """What a proxy's patches have made.

    Args:
        listeners: Patched listeners.
        clusters: Patched clusters.
        tables: Patched route tables.
        others: The names of the proxy's other clusters, which filters may name.
    """

    listeners: tuple[Json, ...] = ()
    clusters: tuple[Json, ...] = ()
    tables: tuple[Json, ...] = ()
    others: tuple[str, ...] = field(default=(), compare=False)

    @property
    def empty(self) -> bool:
        """Whether nothing was patched."""
        return not (self.listeners or self.clusters or self.tables)

    @cached_property
    def key(self) -> str:
        """What tells its content from that of others."""
        text = json.dumps([self.listeners, self.clusters, self.tables], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _bare(body: Json, **fields: object) -> Json:
    return {**{k: v for k, v in body.items() if k != "@type"}, **fields}


def _table(body: Json) -> Json:
    # A table that is part of a listener would have to name clusters that are there, one that a proxy fetches need not.
    return _bare(body, validate_clusters=bool(body.get("validate_clusters")))


def _bootstrap(candidates: list[Candidate]) -> Json:
    """A configuration with all that is to be read; names and addresses are made different where they could meet."""
    listeners: list[Json] = []
    clusters: dict[str, Json] = {}

    def address() -> Json:
        number = len(listeners)
        return {"socket_address": {"address": f"127.0.{number // 200}.1", "port_value": 20000 + number}}

    for index, one in enumerate(candidates):
        for body in one.listeners:
            own = {} if "address" in body and not isinstance(body["address"], dict) else {"address": address()}
            listeners.append(_bare(body, name=f"{index}:{body.get('name')}", **own))
        for table in one.tables:
            manager = typed(_MANAGER, stat_prefix="trial", route_config=_table(table), http_filters=[_ROUTER])
            chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
            listeners.append(
                {"name": f"{index}:{table.get('name')}:routes", "address": address(), "filter_chains": [chain]}
            )
        for body in one.clusters:
            name = f"{index}:{body.get('name')}"
            clusters[name] = _bare(body, name=name)
    for name in {XDS_CLUSTER, *(name for one in candidates for name in one.others)}:
        clusters.setdefault(name, {"name": name, "type": "STATIC", "connect_timeout": "1s"})
    runtime = {"re2.max_program_size.error_level": 32768, "re2.max_program_size.warn_level": 32768}
    return {
        "node": {"id": "trial", "cluster": "trial"},
        "static_resources": {"listeners": listeners, "clusters": list(clusters.values())},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": runtime}]},
    }


async def validated(candidates: list[Candidate]) -> str:
    """Why Envoy refuses one of these; "" where it takes all."""
    with tempfile.TemporaryDirectory(prefix="labkit-trial-") as folder:
        file = Path(folder) / "envoy.json"
        file.write_text(json.dumps(_bootstrap(candidates)))
        process = await asyncio.create_subprocess_exec(
            *(envoy_binary(), "--mode", "validate", "-c", str(file), "--log-level", "critical", "--log-format", "%v"),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **VARIABLES},
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), _LONGEST)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
    if process.returncode == 0:
        return ""
    text = _WHERE.sub("", said.decode(errors="replace")).strip()
    return " ".join(text.split())[:600] or f"it ended with {process.returncode}"


class Trials:
    """Verdicts on candidates, each found once.

    Args:
        found: Called when there are new ones.
        failed: Told of what nobody foresaw.
        read: Has Envoy read some.
    """

    def __init__(
        self,
        found: Callable[[], None],
        failed: failures.Tell,
        read: Callable[[list[Candidate]], Awaitable[str]] = validated,
    ) -> None:
        self._found = found
        self._failed = failed
        self._read = read
        self._known: OrderedDict[str, str] = OrderedDict()
        self._waiting: dict[str, Candidate] = {}
        self._task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()

    def verdict(self, candidate: Candidate) -> str | None:
        """Why Envoy refuses a candidate, "" where it takes it; None while that is being found out."""
        if candidate.empty:
            return ""
        known = self._known.get(candidate.key)
        if known is not None:
            self._known.move_to_end(candidate.key)
            return known
        self._waiting.setdefault(candidate.key, candidate)
        if self._task is None or self._task.done():
            self._task = failures.minded(self._work(), self._failed)
        return None

    async def _work(self) -> None:
        while self._waiting:
            waiting = list(self._waiting.values())
            reason = await self._ask(waiting)
            if reason and len(waiting) > 1:
                for one in waiting:
                    self._learn(one, await self._ask([one]))
            else:
                for one in waiting:
                    self._learn(one, reason)
            self._found()

    async def _ask(self, candidates: list[Candidate]) -> str:
        try:
            return await self._read(candidates)
        except TimeoutError:
            return f"it was not read within {_LONGEST:g} seconds"
        except (OSError, LabError) as error:
            # Nobody can say: the proxies themselves will.
            log.warning("patched resources are not tried before proxies get them: %s", error)
            return ""

    def _learn(self, candidate: Candidate, reason: str) -> None:
        self._waiting.pop(candidate.key, None)
        self._known[candidate.key] = reason
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
