"""The xDS server: Envoy asks over REST and is kept waiting until there is something new.

Changes are ordered so that traffic never falls between two versions: clusters that are new come before the routes that
use them, clusters that are gone leave after. Over REST Envoy does not say that it refused something; it asks again with
the version before. Such a request is kept waiting like any other, or it would ask in a hot loop, and the refusal is
reported.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from labkit.sandbox.mesh.envoy import XDS_CLUSTER
from labkit.sandbox.mesh.translate import Config

__all__ = ["Channel", "ProxyState", "XdsServer"]

log = logging.getLogger(__name__)

HOLD = 20.0
"""Seconds a request waits for news; Envoy itself gives up after 30."""

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
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    def offer(self, resources: Iterable[bytes]) -> bool:
        """Set what the proxy should have; whether that is new."""
        joined = b",".join(resources)
        if self.version and joined == self.body:
            return False
        self.version += 1
        self.body = joined
        self._changed.set()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        return True

    def restart(self) -> None:
        """Another Envoy asks: it has nothing yet."""
        self.sent = self.acknowledged = self.refused = -1

    def settle(self, version: int, *, refused: bool) -> None:
        """The proxy has taken, or refused, `version`."""
        if refused:
            self.refused = version
        else:
            self.acknowledged = version
        if version == self.version:
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
        refused: Called with the kind of resource that the proxy refused.
    """

    name: tuple[str, str]
    refused: Callable[[tuple[str, str], str], None]
    channels: dict[tuple[str, str], Channel] = field(default_factory=dict)
    instance: str = ""
    config: Config | None = None
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

    def update(self, config: Config) -> None:
        """Bring the proxy to `config`, step by step."""
        self._target = config
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.get_running_loop().create_task(self._roll())

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
                clusters.offer(target.clusters.values())
                self._offer_rest(target)
                continue
            leaving = {name: body for name, body in before.clusters.items() if name not in target.clusters}
            if clusters.offer([*target.clusters.values(), *leaving.values()]):
                await clusters.taken()
                if clusters.refused == clusters.version:
                    # Routes to clusters that the proxy will not have would only break what works.
                    self.config = before
                    return
            rest = self._offer_rest(target)
            if leaving:
                await asyncio.gather(*(channel.taken() for channel in rest))
                clusters.offer(target.clusters.values())

    def _offer_rest(self, target: Config) -> list[Channel]:
        changed = []
        for name, body in target.routes.items():
            channel = self.channel("routes", name)
            if channel.offer([body]):
                changed.append(channel)
        listeners = self.channel("listeners")
        if listeners.offer(target.listeners.values()):
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
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        state: Callable[[tuple[str, str]], ProxyState],
        secret: Callable[[tuple[str, str], str], bytes | None],
    ) -> None:
        self._where = host, port
        self._token = f"Bearer {token}"
        self._state = state
        self._secret = secret
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen."""
        server = web.Server(self._handle, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._where, backlog=512).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # A page in a browser can neither choose the Host nor leave out the Origin of such a request.
        if request.headers.get("Host") != XDS_CLUSTER or "Origin" in request.headers:
            return web.Response(status=403, text="only proxies of this sandbox are served here\n")
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), self._token.encode()):
            return web.Response(status=401, text="no valid token\n")
        kind = request.path.removeprefix("/v3/discovery:")
        if request.method != "POST" or kind not in _KINDS:
            return web.Response(status=404, text="no such resource\n")
        try:
            asked = _read(await request.read())
            _, _, pod, _ = asked.node.id.split("~")
            held = int(asked.version_info or 0)
        except ValueError:
            return web.Response(status=400, text="not a discovery request\n")
        name, _, namespace = pod.rpartition(".")
        state = self._state((namespace, name))
        state.seen(str(asked.node.metadata.get("INSTANCE", "")))
        names = asked.resource_names or [""]
        return await self._answer(state, kind, names[0] if kind in ("routes", "secrets") else "", held)

    async def _answer(self, state: ProxyState, kind: str, name: str, held: int) -> web.StreamResponse:
        channel = state.channel(kind, name)
        if kind == "secrets" and not channel.version:
            body = self._secret(state.name, name)
            if body is not None:
                channel.offer([body])
        wait = held == channel.version
        if wait:
            channel.settle(held, refused=False)
        elif channel.sent == channel.version and channel.version:
            if channel.refused != channel.version:
                channel.settle(channel.version, refused=True)
                state.refused(state.name, f"{kind} {name}".strip())
            wait = True
        if (wait or not channel.version) and not await channel.change(HOLD) and held == channel.version:
            return web.Response(status=304)
        if not channel.version:
            return web.Response(status=304)
        channel.sent = channel.version
        log.debug("%s %s %s: %d", state.name, kind, name, channel.version)
        body = b'{"version_info":"%d","resources":[%s]}' % (channel.version, channel.body)
        return web.Response(body=body, content_type="application/json")
