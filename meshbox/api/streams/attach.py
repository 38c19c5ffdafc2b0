# SPDX-License-Identifier: Apache-2.0
"""``kubectl attach``, and with it ``kubectl run -it``: a container's output as it comes."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

from aiohttp import web

from meshbox.api.streams.container import chosen_container, node_required
from meshbox.api.streams.execute import SilentSession, converse, requested_streams
from meshbox.api.streams.peers import STDIN
from meshbox.api.tables.formats import timestamp
from meshbox.contracts import ApiError, Obj, PodRuntime

__all__ = ["log_was_read", "serve_attach"]

_FRESH = 10.0
"""Seconds for which a container is new, or its end or a look at its log recent."""

_REMEMBERED = 64

_reads: WeakKeyDictionary[PodRuntime, OrderedDict[tuple[str, str, int], tuple[float, int]]] = WeakKeyDictionary()


def log_was_read(runtime: PodRuntime, pod: Obj, container: str, size: int) -> None:
    """Remember that a client has just read the whole log of a container, `size` bytes.

    ``kubectl run -it`` reads the log and then attaches, to miss nothing. Here processes are quicker than that: what
    they say in between would be lost, were it not remembered where the log ended.
    """
    reads = _reads.setdefault(runtime, OrderedDict())
    reads[_run(pod, container)] = (time.monotonic(), size)
    while len(reads) > _REMEMBERED:
        reads.popitem(last=False)


def _run(pod: Obj, container: str) -> tuple[str, str, int]:
    return pod["metadata"].get("uid", ""), container, _status(pod, container).get("restartCount") or 0


async def serve_attach(request: web.Request, runtime: PodRuntime, pod: Obj) -> web.StreamResponse:
    """Show a container's output from now on; what the client types goes to a container that has a stdin.

    Raises:
        ApiError: 400, 403 or 404, before the upgrade.
    """
    streams = requested_streams(request)
    container = chosen_container(pod, request.query.get("container", ""))
    node_required(pod)
    skip = _skipped(runtime, pod, container, interactive=STDIN in streams)
    metadata = pod["metadata"]
    if _interactive(pod, container) and "running" in (_status(pod, container).get("state") or {}):
        session = await runtime.attach(metadata["namespace"], metadata["name"], container, skip=skip)
        return await converse(request, streams, session)
    tail = 0 if skip is None else None
    output = runtime.logs(metadata["namespace"], metadata["name"], container, follow=True, tail_lines=tail)
    return await converse(request, streams, _Attached(output, skip or 0))


_KINDS = ("container", "initContainer", "ephemeralContainer")


def _interactive(pod: Obj, name: str) -> bool:
    spec = pod["spec"]
    everyone = [one for kind in _KINDS for one in spec.get(f"{kind}s") or ()]
    container: Obj = next((one for one in everyone if one.get("name") == name), {})
    return bool(container.get("stdin") or container.get("tty"))


def _skipped(runtime: PodRuntime, pod: Obj, container: str, *, interactive: bool) -> int | None:
    """How many bytes of the log so far are not shown again; None for all of them."""
    now = datetime.now(UTC)

    def recent(moment: datetime | None) -> bool:
        return moment is not None and (now - moment).total_seconds() < _FRESH

    state = _status(pod, container).get("state") or {}
    running, terminated = state.get("running"), state.get("terminated")
    if running is not None or (terminated and recent(timestamp(terminated.get("finishedAt")))):
        read, size = _reads.get(runtime, OrderedDict()).get(_run(pod, container), (0.0, 0))
        if read and time.monotonic() - read < _FRESH:
            return size
        if interactive and recent(timestamp((running or terminated or {}).get("startedAt"))):
            return 0
        if running is not None:
            return None
    metadata = pod["metadata"]
    message = f"container {container} not found in pod {metadata['name']}_{metadata['namespace']}"
    raise ApiError(400, "BadRequest", message)


def _status(pod: Obj, container: str) -> Obj:
    status = pod.get("status") or {}
    entries = [one for kind in _KINDS for one in status.get(f"{kind}Statuses") or ()]
    return next((entry for entry in entries if entry.get("name") == container), {})


class _Attached(SilentSession):
    """A container's output, as its log has it."""

    def __init__(self, output: AsyncIterator[bytes], skip: int) -> None:
        self._output = output
        self._skip = skip
        self._ended: asyncio.Future[ApiError | None] = asyncio.get_running_loop().create_future()

    async def read_stdout(self) -> bytes:
        """The container's next words."""
        try:
            async for data in self._output:
                fresh = data[self._skip :]
                self._skip -= len(data) - len(fresh)
                if fresh:
                    return fresh
        except ApiError as error:
            self._end(error)
        self._end(None)
        return b""

    async def wait(self) -> int:
        """The end of the output: success, unless the node refused it."""
        error = await self._ended
        if error is not None:
            raise error
        return 0

    def _end(self, error: ApiError | None) -> None:
        if not self._ended.done():
            self._ended.set_result(error)
