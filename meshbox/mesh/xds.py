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
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from labkit.ground.guard import same_secret
from meshbox import failures
from meshbox.exposition import CONTENT_TYPE
from meshbox.listening import Site
from meshbox.mesh.assignments import Assignments
from meshbox.mesh.channels import Channel
from meshbox.mesh.envoy import XDS_CLUSTER
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.translate import Config
from meshbox.serving import BoundedServer

__all__ = ["ProxyState", "XdsServer"]

log = logging.getLogger(__name__)

HOLD = 60.0
"""Seconds a request waits for news, of a proxy that has all there is; Envoy itself gives up after 90."""

TRY_AGAIN = 20.0
"""The same of one that has refused what there is, and is then given it again."""

_MOMENT = 2.0
"""Seconds after its last answer until a proxy that asks for nothing counts as gone."""

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
    endpoints: Assignments = field(init=False)
    instance: str = ""
    node: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    config: Config | None = None
    asking: int = 0
    asked: float = float("-inf")
    _began: float = 0.0
    _since: float = 0.0
    _behind: float = 0.0
    _target: Config | None = None
    _rolling: asyncio.Task[None] | None = None
    _offered: Mapping[str, bytes] = field(default_factory=dict)
    _sent: Mapping[str, bytes] = field(default_factory=dict)
    _made: Mapping[str, bytes] = field(default_factory=dict)
    _anew: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        def refused(name: str, suspects: tuple[bytes, ...]) -> None:
            self.monitor.rejected("endpoints", self.node)
            self.refused(self.name, f"endpoints {name}", suspects)

        def pushed(size: int) -> None:
            self.monitor.pushed("endpoints", size, time.monotonic() - self._began if self._began else 0.0)

        self.endpoints = Assignments(refused, pushed)

    def channel(self, kind: str, name: str = "") -> Channel:
        """The channel for `kind`, and for a named resource of it."""
        found = self.channels.get((kind, name))
        if found is None:
            found = self.channels[kind, name] = Channel()
        return found

    def seen(self, instance: str) -> None:
        """A request came from this Envoy process; a new one starts from nothing."""
        if instance != self.instance:
            self.instance, self._sent, self._made, self._anew = instance, {}, {}, set()
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

    @property
    def rolling(self) -> bool:
        """Whether it is still being told."""
        return self._rolling is not None and not self._rolling.done()

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
                self.endpoints.offer(target.endpoints)
                self._offer_clusters(target.clusters)
                self._offer_rest(target)
                continue
            leaving = {name: body for name, body in before.clusters.items() if name not in target.clusters}
            # Whoever asks for a new cluster's endpoints finds them there, and a cluster that goes keeps its own until
            # then.
            kept = {name: body for name, body in before.endpoints.items() if name in leaving}
            self.endpoints.offer({**target.endpoints, **kept} if kept else target.endpoints)
            if self._offer_clusters({**target.clusters, **leaving}):
                await clusters.taken()
                if clusters.refused == clusters.version:
                    # Routes to clusters that the proxy will not have would only break what works.
                    self.config, self._behind = before, 0.0
                    if self._target is target:
                        return
                    # What came while it was being refused is told all the same.
                    continue
                # A cluster without endpoints is not there yet.
                await self.endpoints.taken(
                    [name for name in target.endpoints if target.clusters[name] != before.clusters.get(name)]
                )
            rest = self._offer_rest(target, before)
            if leaving:
                await asyncio.gather(*(channel.taken() for channel in rest))
                self._offer_clusters(target.clusters)
                self.endpoints.offer(target.endpoints)
        self._rolling = None
        self.settled()

    def _offer_clusters(self, wanted: Mapping[str, bytes]) -> bool:
        self._offered = wanted
        return self._offer(self.channel("clusters"), wanted.values())

    def sends_clusters(self) -> None:
        """The proxy is sent what it is offered, and has the clusters of before, or of any that it was sent since."""
        for known in (self._made, self._sent):
            self._anew.update(name for name, body in self._offered.items() if known.get(name, body) != body)
        self._sent = self._offered

    def made_clusters(self, *, all_of_them: bool) -> None:
        """The proxy asks for clusters, and so has made of the last answer what it could. Those that it had otherwise
        before need endpoints again: it goes on asking for these by the same names, and so asks for nothing.

        Args:
            all_of_them: Whether it says that it has what it is offered.
        """
        if self._anew:
            self.endpoints.again(self._anew)
        if all_of_them:
            self._made, self._anew = self._offered, set()

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

    def _offer_rest(self, target: Config, before: Config | None = None) -> list[Channel]:
        changed = []
        known = before.routes if before is not None else {}
        for name, body in target.routes.items():
            if known.get(name) is body:
                continue
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
        others: Answers what else these pods ask.
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
        others: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None,
    ) -> None:
        self._where = host, port
        self._token = f"Bearer {token}"
        self._state = state
        self._secret = secret
        self._monitor = monitor or MeshMonitor()
        self._page, self._others = page, others
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
            if self._others is not None:
                return await self._others(request)
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
        state.node, state.metadata = asked.node.id, asked.node.metadata
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
        if kind == "clusters":
            state.made_clusters(all_of_them=wait)
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
        refuses = wait and channel.there and held != channel.version
        news = wait or not channel.version
        idle = news and not await self._news(channel, TRY_AGAIN if refuses else HOLD)
        # What was refused is tried again then: an address may be free by now.
        if idle and (held == channel.version or not channel.there):
            return web.Response(status=304)
        # Meanwhile another Envoy may have taken the place of this one: what is sent to the dead is not sent to it, and
        # when it asks for just that it would be taken for one that refuses it.
        if not channel.version or state.instance != instance:
            return web.Response(status=304)
        channel.sent = channel.version
        if kind == "clusters":
            state.sends_clusters()
        self._monitor.pushed(kind, channel.size, time.monotonic() - max(came, channel.began))
        state.settled()
        log.debug("%s %s %s: %d", state.name, kind, name, channel.version)
        body = b'{"version_info":"%d","resources":[%s]}' % (channel.version, channel.body)
        return web.Response(body=body, content_type="application/json")

    @staticmethod
    async def _news(channel: Channel, hold: float) -> bool:
        """Wait until there is something for a proxy that has, or has refused, what there is; whether it came."""
        try:
            return await channel.change(hold)
        except asyncio.CancelledError:
            # Who stops waiting before the time has let go of it; when it is wanted again, that is from the beginning.
            channel.restart()
            raise
