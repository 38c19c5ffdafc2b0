# SPDX-License-Identifier: Apache-2.0
"""What one proxy has, and what it should have: changes are brought to it step by step.

They are ordered so that traffic never falls between two versions: clusters that are new come before the routes that use
them, clusters that are gone leave after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from meshbox import failures
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.resources import KINDS, Mouth, Resources
from meshbox.mesh.translate import Config

__all__ = ["ProxyState"]


@dataclass
class ProxyState:
    """One proxy.

    Args:
        name: Namespace and name of its pod.
        refused: Called with that, with the kind and the name of what the proxy refused ("listeners 0.0.0.0_80"), with
            the resource and the proxy's reason.
        secret: Gives a secret of that proxy by name as JSON; None while there is none.
        monitor: Counts what it is sent.
        failed: Told of what nobody foresaw while it was being told.

    Attributes:
        told: What it is told, by kind.
        connected: Whether it listens.
        node: What it calls itself.
        metadata: What it says of itself.
    """

    name: tuple[str, str]
    refused: Callable[[tuple[str, str], str, bytes, str], None]
    secret: Callable[[tuple[str, str], str], bytes | None] = lambda *_: None
    monitor: MeshMonitor = field(default_factory=MeshMonitor)
    failed: failures.Tell = field(default_factory=lambda: failures.in_log("a proxy is not told"))
    told: Mapping[str, Resources] = field(init=False)
    connected: bool = False
    node: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    config: Config | None = None
    _mouth: Mouth | None = None
    _asked: float = 0.0
    _began: float = 0.0
    _since: float = 0.0
    _behind: float = 0.0
    _target: Config | None = None
    _rolling: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        def refused(kind: str, name: str, body: bytes, reason: str) -> None:
            self.monitor.rejected(kind, self.node)
            self.refused(self.name, f"{kind} {name}", body, reason)

        def pushed(kind: str, size: int) -> None:
            self.monitor.pushed(kind, size, time.monotonic() - max(self._began, self._asked))
            self.settled()

        def made(names: Collection[str]) -> None:
            # Those go on asking for endpoints by the same names, and so ask for nothing.
            ends = self.told["endpoints"]
            ends.again([name for name in names if name in ends.asked])

        self.told = {
            kind.name: Resources(
                kind,
                partial(refused, kind.name),
                partial(pushed, kind.name),
                made if kind.name == "clusters" else lambda _: None,
            )
            for kind in KINDS
        }

    def opened(self, mouth: Mouth, node: str, metadata: dict[str, Any]) -> None:
        """An Envoy of this pod listens; it has nothing yet. The one before is gone, or else has to come again."""
        former, self._mouth = self._mouth, mouth
        self.connected, self.node, self.metadata = True, node, metadata
        for resources in self.told.values():
            resources.opened(mouth)
        if former is not None and former is not mouth:
            former.end()

    def closed(self, mouth: Mouth) -> None:
        """That Envoy listens no more."""
        if self._mouth is mouth:
            self._mouth, self.connected, self._behind = None, False, 0.0
            for resources in self.told.values():
                resources.closed(mouth)

    def ask(self, kind: str, more: Collection[str], fewer: Collection[str], had: Collection[str] = ()) -> None:
        """It asks for resources by name, and no more for others; see `Resources.ask`."""
        self._asked = time.monotonic()
        self.told[kind].ask(more, fewer, had)
        if kind == "secrets":
            self.refresh_secrets()

    def refresh_secrets(self) -> None:
        """Offer it those secrets that it asked for: renewed, edited, or there by now."""
        asked = self.told["secrets"].asked
        found = {name: body for name in sorted(asked) if (body := self.secret(self.name, name)) is not None}
        self.told["secrets"].offer(found)

    def update(self, config: Config, began: float = 0.0, since: float = 0.0) -> None:
        """Bring the proxy to `config`, step by step.

        Args:
            config: What it should have.
            began: When computing that began, on the monotonic clock.
            since: When the first change came that it was computed for.
        """
        self._target, self._began, self._since = config, began, since
        if self._rolling is None or self._rolling.done():
            self._rolling = failures.minded(self._roll(), self._stuck)

    def _stuck(self, error: BaseException) -> None:
        # It begins anew with what it is told next, the same included.
        self.config, self._behind = None, 0.0
        self.failed(error)

    @property
    def rolling(self) -> bool:
        """Whether it is still being told."""
        return self._rolling is not None and not self._rolling.done()

    def stop(self) -> None:
        """End the work on this proxy, and the talk with it."""
        if self._rolling is not None:
            self._rolling.cancel()
        if (mouth := self._mouth) is not None:
            self.closed(mouth)
            mouth.end()

    async def _roll(self) -> None:
        clusters, ends, routes, listeners = (
            self.told[kind] for kind in ("clusters", "endpoints", "routes", "listeners")
        )
        while self._target is not None and self._target is not self.config:
            target, before = self._target, self.config
            self.config = target
            if before is None:
                ends.offer(target.endpoints)
                clusters.offer(target.clusters)
                routes.offer(target.routes)
                listeners.offer(target.listeners)
                continue
            if self.connected and not self._behind:
                self._behind = self._since
            leaving = {name: body for name, body in before.clusters.items() if name not in target.clusters}
            # Whoever asks for a new cluster's endpoints finds them there, and a cluster that goes keeps its own until
            # then.
            kept = {name: body for name, body in before.endpoints.items() if name in leaving}
            ends.offer({**target.endpoints, **kept} if kept else target.endpoints)
            if new := _changed(target.clusters, before.clusters):
                clusters.offer({**target.clusters, **leaving} if leaving else target.clusters)
                await clusters.taken(new)
                if clusters.refuses(new):
                    # Routes to clusters that the proxy will not have would only break what works.
                    self.config, self._behind = before, 0.0
                    if self._target is target:
                        return
                    # What came while it was being refused is told all the same.
                    continue
                # A cluster without endpoints is not there yet.
                await ends.taken([name for name in new if name in target.endpoints])
            routes.offer(target.routes)
            listeners.offer(target.listeners)
            if leaving:
                tables = [name for name in _changed(target.routes, before.routes) if name in routes.asked]
                await asyncio.gather(
                    routes.taken(tables), listeners.taken(_changed(target.listeners, before.listeners))
                )
                clusters.offer(target.clusters)
                ends.offer(target.endpoints)
        self._rolling = None
        self.settled()

    def settled(self) -> None:
        """Take note if an Envoy that was behind has been sent everything there is for it."""
        if self._behind and not self.rolling and all(resources.told for resources in self.told.values()):
            self.monitor.converged(time.monotonic() - self._behind)
            self._behind = 0.0


def _changed(now: Mapping[str, bytes], before: Mapping[str, bytes]) -> list[str]:
    return [name for name, body in now.items() if before.get(name) != body]
