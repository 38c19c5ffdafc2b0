# SPDX-License-Identifier: Apache-2.0
"""How proxies hear of their configuration: each keeps a stream on which it is told what is new (ADS, incremental).

It says once who it is, and of each message whether it took it or why it refuses it.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from labkit.ground.guard import same_secret
from meshbox import failures
from meshbox.images.grpc import wire
from meshbox.listening import ours_only
from meshbox.mesh.envoy import XDS_CLUSTER
from meshbox.mesh.http2 import Http2, Stream
from meshbox.mesh.proxies import ProxyState
from meshbox.mesh.resources import KINDS, Kind

__all__ = ["AdsServer"]

log = logging.getLogger(__name__)

_STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_INVALID_ARGUMENT, _UNIMPLEMENTED, _UNAVAILABLE, _UNAUTHENTICATED = 3, 12, 14, 16
_BACKLOG = 128
_MOST_CONNECTIONS = 2048
_BY_URL = {kind.url: kind for kind in KINDS}


def _text(message: bytes, number: int) -> str:
    """The last text of a field; "" where there is none."""
    found = [value for n, value in wire.fields(message) if n == number and isinstance(value, bytes)]
    return found[-1].decode() if found else ""


class _Request(NamedTuple):
    """What a DeltaDiscoveryRequest says.

    Args:
        pod: Namespace and name of whose proxy it is; empty where a proxy has said that before.
        node: What the proxy calls itself.
        metadata: What it says of itself.
        url: The kind of resource.
        more: Names that it asks for.
        fewer: Names that it asks for no more.
        had: Names of what it has from before its stream.
        version: The message that it answers; 0 for none.
        reason: Why it refuses that; None where it does not.
    """

    pod: tuple[str, str]
    node: str
    metadata: dict[str, Any]
    url: str
    more: list[str]
    fewer: list[str]
    had: list[str]
    version: int
    reason: str | None


def _read(body: bytes) -> _Request:
    """Read a request.

    Raises:
        ValueError: it is none.
    """
    node, url, nonce = b"", "", "0"
    reason: str | None = None
    more: list[str] = []
    fewer: list[str] = []
    had: list[str] = []
    for number, value in wire.fields(body):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            node = value
        elif number == 2:
            url = value.decode()
        elif number == 3:
            more.append(value.decode())
        elif number == 4:
            fewer.append(value.decode())
        elif number == 5:
            had.append(_text(value, 1))
        elif number == 6:
            nonce = value.decode() or "0"
        elif number == 7:
            reason = _text(value, 2)
    name = _text(node, 1)
    _, _, pod, _ = name.split("~") if name else ("",) * 4
    pod_name, _, namespace = pod.rpartition(".")
    metadata = next((wire.read_struct(v) for n, v in wire.fields(node) if n == 3 and isinstance(v, bytes)), {})
    return _Request((namespace, pod_name), name, metadata, url, more, fewer, had, int(nonce), reason)


class _Talk:
    """The talk with one proxy: what it asks on its stream, and what it is told.

    Args:
        stream: The stream.
        find: Gives the proxy of a pod (namespace, name).
        failed: Told of what nobody foresaw.
    """

    def __init__(self, stream: Stream, find: Callable[[tuple[str, str]], ProxyState], failed: failures.Tell) -> None:
        self._stream, self._find, self._failed = stream, find, failed
        self._proxy: ProxyState | None = None

    def message(self, body: bytes) -> None:
        """A DeltaDiscoveryRequest."""
        with failures.spared(self._failed):
            try:
                request = _read(body)
            except ValueError:
                request = None
            if request is None or (self._proxy is None and not request.node):
                self.closed()
                self._stream.end(_INVALID_ARGUMENT, "no request of a proxy that says who it is")
            else:
                self._act(request)

    def closed(self) -> None:
        """The stream has ended."""
        if self._proxy is not None:
            self._proxy.closed(self)
            self._proxy = None

    def _act(self, request: _Request) -> None:
        if self._proxy is None:
            self._proxy = self._find(request.pod)
            self._proxy.opened(self, request.node, request.metadata)
        kind = _BY_URL.get(request.url)
        if kind is None:
            # Only what somebody patched into the proxy asks for that; the rest of it is told as ever.
            log.warning("the proxy of %s/%s asks for %s, of which there is none", *self._proxy.name, request.url)
            return
        if request.more or request.fewer or not request.version:
            self._proxy.ask(kind.name, request.more, request.fewer, request.had)
        if request.version:
            self._proxy.told[kind.name].settle(request.version, request.reason)

    def end(self) -> None:
        """It is not told any more, its pod being gone or another one there: who still listens comes again."""
        self._proxy = None
        self._stream.end(_UNAVAILABLE, "its pod is gone, or another proxy has come for it")

    def say(self, kind: Kind, version: int, found: Mapping[str, bytes], gone: Collection[str]) -> int:
        """A DeltaDiscoveryResponse."""
        number = wire.text(1, str(version))
        parts = [number]
        for name, told in found.items():
            parts.append(wire.length(2, number + wire.length(2, told) + wire.text(3, name)))
        parts += (wire.text(4, kind.url), wire.text(5, str(version)), *(wire.text(6, name) for name in gone))
        message = b"".join(parts)
        log.debug("%d %s, %d bytes", len(found), kind.name, len(message))
        self._stream.send(message)
        return len(message)


class AdsServer:
    """Serves the stream ``DeltaAggregatedResources``.

    It holds a bounded number of connections; beyond it those go whose token nobody has seen yet.

    Args:
        host: The address to listen on.
        port: The port.
        token: What proxies must show.
        find: Gives the proxy of a pod (namespace, name).
        failed: Told of what nobody foresaw.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        find: Callable[[tuple[str, str]], ProxyState],
        failed: failures.Tell,
    ) -> None:
        self._where = host, port
        self._token = f"Bearer {token}"
        self._find, self._failed = find, failed
        self._server: asyncio.Server | None = None
        self._connections: weakref.WeakSet[Http2] = weakref.WeakSet()

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(ours_only(self._connection), *self._where, backlog=_BACKLOG)

    async def stop(self) -> None:
        """Stop listening, and hang up."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.hang_up()

    def _connection(self) -> Http2:
        if len(self._connections) >= _MOST_CONNECTIONS:
            unknown = (one for one in self._connections if not one.known)
            if (first := next(unknown, None)) is not None:
                first.hang_up()
                self._connections.discard(first)
        connection = Http2(self._opened)
        self._connections.add(connection)
        return connection

    def _opened(self, headers: Mapping[str, str], stream: Stream) -> _Talk | None:
        if headers.get(":path") != _STREAM or headers.get(":authority") != XDS_CLUSTER or "origin" in headers:
            stream.end(_UNIMPLEMENTED, "only proxies of this sandbox are served here")
        elif not same_secret(headers.get("authorization", ""), self._token):
            stream.end(_UNAUTHENTICATED, "no valid token")
        else:
            return _Talk(stream, self._find, self._failed)
        return None
