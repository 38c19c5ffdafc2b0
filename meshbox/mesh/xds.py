# SPDX-License-Identifier: Apache-2.0
"""The xDS server: Envoy asks over REST and is kept waiting until there is something new.

Changes are ordered so that traffic never falls between two versions: clusters that are new come before the routes that
use them, clusters that are gone leave after. Over REST Envoy does not say that it refused something; it asks again with
the version before. So does an Envoy that an answer did not reach in time; and one that had let go of a table or a
secret, and wants it again, asks as if it had never had it. So the answer is given once more; who then asks for it again
has refused it: that is reported, and the request is kept waiting like any other, or it would ask in a hot loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from aiohttp import web

from labkit.ground.guard import same_secret
from meshbox import failures
from meshbox.exposition import CONTENT_TYPE
from meshbox.listening import Site
from meshbox.mesh.envoy import XDS_CLUSTER
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.translate import Config
from meshbox.serving import BoundedServer

__all__ = ["Channel", "ProxyState", "XdsServer"]

log = logging.getLogger(__name__)

HOLD = 20.0
"""Seconds a request waits for news; Envoy itself gives up after 30."""

_MOMENT = 2.0
"""Seconds after its last answer until a proxy that asks for nothing counts as gone."""

STEP = 1.0
"""Seconds to wait for a proxy to take one step of a change before the next is taken all the same."""

_KINDS = ("clusters", "listeners", "routes", "secrets")


class _Node(msgspec.Struct):
    id: str
    metadata: dict[str, Any] = {}


class _Request(msgspec.Struct):
    """What matters of a discovery request; the rest, Envoy's list of its hundreds of extensions, is skipped unread."""

    node: _Node
    version_info: str = ""
    resource_names: list[str] = []


_read = msgspec.json.Decoder(_Request).decode


class Channel:
    """One kind of resource (or one named route table or secret) on its way to one proxy."""

    def __init__(self) -> None:
        self.version = 0
        self.body = b""
        self.acknowledged = -1
        self.refused = -1
        self.sent = -1
        self.repeated = -1
        self.began = 0.0
        self.there = True
        self._parts: tuple[bytes, ...] = ()
        self._taken_parts: tuple[bytes, ...] = ()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    def offer(self, resources: Iterable[bytes]) -> bool:
        """Set what the proxy should have; whether that is new."""
        parts = tuple(resources)
        joined = b",".join(parts)
        if self.version and joined == self.body and self.there:
            return False
        self.version += 1
        self.body, self.there, self._parts = joined, True, parts
        self._changed.set()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        return True

    def withdraw(self) -> None:
        """There is nothing any more: who has it may keep it, and nobody else gets it."""
        self.there = False

    def restart(self) -> None:
        """Another Envoy asks, or one that has let go of it: it has nothing yet."""
        self.sent = self.acknowledged = self.refused = self.repeated = -1
        self._taken_parts = ()

    def asked(self, held: int) -> Literal["new", "again", "refused"]:
        """What a request means that comes with another version than the one there is.

        Args:
            held: The version that the proxy says it has; 0 for none.
        """
        if self.sent != self.version:
            return "new"
        if not held and self.acknowledged > 0:
            # It had taken one, so it has let go of it since: a listener went, and came back.
            self.restart()
            return "new"
        if self.repeated != self.version:
            self.repeated = self.version
            return "again"
        return "refused"

    def suspects(self) -> tuple[bytes, ...]:
        """What the proxy is offered and has not taken before."""
        known = set(self._taken_parts)
        return tuple(part for part in self._parts if part not in known)

    def settle(self, version: int, *, refused: bool) -> None:
        """The proxy has taken, or refused, `version`."""
        if refused:
            self.refused = version
        else:
            self.acknowledged = version
        if version == self.version:
            if not refused:
                self._taken_parts = self._parts
            self._taken.set()

    async def taken(self, timeout: float = STEP) -> None:
        """Wait until the proxy has taken or refused what was offered, or `timeout` seconds."""
        if self.sent < 0 or self.version in (self.acknowledged, self.refused):
            return
        try:
            await asyncio.wait_for(self._taken.wait(), timeout)
        except TimeoutError:
            log.debug("version %s is still on its way", self.version)

    async def change(self, timeout: float) -> bool:
        """Wait for something new; whether it came."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return False
        return True


@dataclass
class ProxyState:
    """What one proxy has, and what it should have.

    Args:
        name: Namespace and name of its pod.
        refused: Called with the kind of resource that the proxy refused, and what of it was new.
        monitor: Counts what it is sent.
        failed: Told of what nobody foresaw while it was being told.
    """

    name: tuple[str, str]
    refused: Callable[[tuple[str, str], str, tuple[bytes, ...]], None]
    monitor: MeshMonitor = field(default_factory=MeshMonitor)
    failed: failures.Tell = field(default_factory=lambda: failures.in_log("a proxy is not told"))
    channels: dict[tuple[str, str], Channel] = field(default_factory=dict)
    instance: str = ""
    config: Config | None = None
    asking: int = 0
    asked: float = float("-inf")
    _began: float = 0.0
    _since: float = 0.0
    _behind: float = 0.0
    _target: Config | None = None
    _rolling: asyncio.Task[None] | None = None

    def channel(self, kind: str, name: str = "") -> Channel:
        """The channel for `kind`, and for a named resource of it."""
        return self.channels.setdefault((kind, name), Channel())

    def seen(self, instance: str) -> None:
        """A request came from this Envoy process; a new one starts from nothing."""
        if instance != self.instance:
            self.instance = instance
            for channel in self.channels.values():
                channel.restart()

    @property
    def connected(self) -> bool:
        """Whether an Envoy asks, or did so a moment ago."""
        return self.asking > 0 or time.monotonic() - self.asked < _MOMENT

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

    def stop(self) -> None:
        """End the work on this proxy."""
        if self._rolling is not None:
            self._rolling.cancel()

    async def _roll(self) -> None:
        while self._target is not None and self._target is not self.config:
            target, before = self._target, self.config
            self.config = target
            clusters = self.channel("clusters")
            if before is None:
                self._offer(clusters, target.clusters.values())
                self._offer_rest(target)
                continue
            leaving = {name: body for name, body in before.clusters.items() if name not in target.clusters}
            if self._offer(clusters, [*target.clusters.values(), *leaving.values()]):
                await clusters.taken()
                if clusters.refused == clusters.version:
                    # Routes to clusters that the proxy will not have would only break what works.
                    self.config, self._behind = before, 0.0
                    return
            rest = self._offer_rest(target)
            if leaving:
                await asyncio.gather(*(channel.taken() for channel in rest))
                self._offer(clusters, target.clusters.values())
        self._rolling = None
        self.settled()

    def _offer(self, channel: Channel, resources: Iterable[bytes]) -> bool:
        if not channel.offer(resources):
            return False
        channel.began = self._began
        if channel.sent >= 0 and not self._behind:
            self._behind = self._since
        return True

    def settled(self) -> None:
        """Take note if an Envoy that was behind has been sent everything there is for it."""
        if not self._behind or (self._rolling is not None and not self._rolling.done()):
            return
        if all(channel.sent in (-1, channel.version) for channel in self.channels.values()):
            self.monitor.converged(time.monotonic() - self._behind)
            self._behind = 0.0

    def _offer_rest(self, target: Config) -> list[Channel]:
        changed = []
        for name, body in target.routes.items():
            channel = self.channel("routes", name)
            if self._offer(channel, [body]):
                changed.append(channel)
        listeners = self.channel("listeners")
        if self._offer(listeners, target.listeners.values()):
            changed.append(listeners)
        return changed


class XdsServer:
    """Serves ``POST /v3/discovery:{clusters,listeners,routes,secrets}``.

    Args:
        host: The address to listen on.
        port: The port.
        token: What proxies must show.
        state: Gives the state of the proxy of a pod (namespace, name), or None if there is no such pod.
        secret: Gives a secret of that proxy by name as JSON bytes, or None while there is none.
        monitor: Counts what is sent.
        page: Gives the metrics of a component of the control plane to one of its pods (namespace, name).
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        state: Callable[[tuple[str, str]], ProxyState],
        secret: Callable[[tuple[str, str], str], bytes | None],
        *,
        monitor: MeshMonitor | None = None,
        page: Callable[[str, tuple[str, str]], str] | None = None,
    ) -> None:
        self._where = host, port
        self._token = f"Bearer {token}"
        self._state = state
        self._secret = secret
        self._monitor = monitor or MeshMonitor()
        self._page = page
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen."""
        # The request of an Envoy that was killed ends with its connection, instead of waiting for news to send it.
        server = BoundedServer(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await Site(self._runner, *self._where, backlog=512).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # A page in a browser can neither choose the Host nor leave out the Origin of such a request.
        if request.headers.get("Host") != XDS_CLUSTER or "Origin" in request.headers:
            return web.Response(status=403, text="only proxies of this sandbox are served here\n")
        if not same_secret(request.headers.get("Authorization", ""), self._token):
            return web.Response(status=401, text="no valid token\n")
        if request.method == "GET" and request.path.startswith("/metrics/") and self._page is not None:
            return self._metrics(request, self._page)
        kind = request.path.removeprefix("/v3/discovery:")
        if request.method != "POST" or kind not in _KINDS:
            return web.Response(status=404, text="no such resource\n")
        try:
            asked = _read(await request.read())
            _, _, pod, _ = asked.node.id.split("~")
            held = int(asked.version_info or 0)
        except (ValueError, RecursionError):
            return web.Response(status=400, text="not a discovery request\n")
        name, _, namespace = pod.rpartition(".")
        state = self._state((namespace, name))
        state.seen(str(asked.node.metadata.get("INSTANCE", "")))
        names = asked.resource_names or [""]
        state.asking += 1
        try:
            name = names[0] if kind in ("routes", "secrets") else ""
            return await self._answer(state, asked.node.id, kind, name, held)
        except Exception as error:
            state.failed(error)
            raise
        finally:
            state.asking -= 1
            state.asked = time.monotonic()

    def _metrics(self, request: web.BaseRequest, page: Callable[[str, tuple[str, str]], str]) -> web.Response:
        pod = request.query.get("namespace", ""), request.query.get("pod", "")
        text = page(request.path.removeprefix("/metrics/"), pod)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _answer(self, state: ProxyState, node: str, kind: str, name: str, held: int) -> web.StreamResponse:
        channel, came = state.channel(kind, name), time.monotonic()
        if kind == "secrets" and not (channel.version and channel.there):
            body = self._secret(state.name, name)
            if body is not None:
                channel.offer([body])
        wait = held == channel.version
        if wait:
            channel.settle(held, refused=False)
        elif not channel.there:
            wait = True
        elif channel.version and channel.asked(held) == "refused":
            if channel.refused != channel.version:
                channel.settle(channel.version, refused=True)
                state.refused(state.name, f"{kind} {name}".strip(), channel.suspects())
                self._monitor.rejected(kind, node)
            wait = True
        instance = state.instance
        idle = (wait or not channel.version) and not await self._news(channel)
        # What was refused is tried again then: an address may be free by now.
        if idle and (held == channel.version or not channel.there):
            return web.Response(status=304)
        # Meanwhile another Envoy may have taken the place of this one: what is sent to the dead is not sent to it, and
        # when it asks for just that it would be taken for one that refuses it.
        if not channel.version or state.instance != instance:
            return web.Response(status=304)
        channel.sent = channel.version
        self._monitor.pushed(kind, len(channel.body), time.monotonic() - max(came, channel.began))
        state.settled()
        log.debug("%s %s %s: %d", state.name, kind, name, channel.version)
        body = b'{"version_info":"%d","resources":[%s]}' % (channel.version, channel.body)
        return web.Response(body=body, content_type="application/json")

    @staticmethod
    async def _news(channel: Channel) -> bool:
        """Wait until there is something for a proxy that has, or has refused, what there is; whether it came."""
        try:
            return await channel.change(HOLD)
        except asyncio.CancelledError:
            # Who stops waiting before the time has let go of it; when it is wanted again, that is from the beginning.
            channel.restart()
            raise
