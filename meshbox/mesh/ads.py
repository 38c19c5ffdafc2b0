# SPDX-License-Identifier: Apache-2.0
"""Endpoints over gRPC (ADS, incremental): a pod that becomes ready is some hundred bytes to each proxy.

All other kinds of resources go over REST (`meshbox.mesh.xds`), as JSON: what they are made of has no protobuf here. An
endpoint has few fields, which `assignment` writes itself; and over REST each cluster would keep a connection waiting,
and each answer be asked for with the 77 kB in which an Envoy says what it is.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import weakref
from collections.abc import Callable, Collection, Mapping

from labkit.ground.guard import same_secret
from meshbox import failures
from meshbox.images.grpc import wire
from meshbox.listening import ours_only
from meshbox.mesh.assignments import Assignments
from meshbox.mesh.envoy import XDS_CLUSTER, Json
from meshbox.mesh.http2 import Http2, Stream

__all__ = ["EndpointServer", "assignment"]

log = logging.getLogger(__name__)

_STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
_OK, _INVALID_ARGUMENT, _UNIMPLEMENTED, _UNAUTHENTICATED = 0, 3, 12, 16
_BACKLOG = 128


def _whole(field: int, value: int) -> bytes:
    """A google.protobuf.UInt32Value."""
    return wire.length(field, wire.number(1, value))


def _locality(where: Json) -> bytes:
    return b"".join(wire.text(n, where.get(key, "")) for n, key in enumerate(("region", "zone", "sub_zone"), 1))


def _address(where: Json) -> bytes:
    if "pipe" in where:
        return wire.length(2, wire.text(1, where["pipe"]["path"]))
    socket = where["socket_address"]
    return wire.length(1, wire.text(2, socket["address"]) + wire.number(3, socket["port_value"]))


def _endpoint(one: Json) -> bytes:
    found = wire.length(1, wire.length(1, _address(one["endpoint"]["address"])))
    if metadata := (one.get("metadata") or {}).get("filter_metadata"):
        entries = (
            wire.length(1, wire.text(1, key) + wire.length(2, wire.struct(value))) for key, value in metadata.items()
        )
        found += wire.length(3, b"".join(entries))
    return found + _whole(4, one["load_balancing_weight"])


def _group(group: Json) -> bytes:
    found = wire.length(1, _locality(group["locality"])) if "locality" in group else b""
    found += b"".join(wire.length(2, _endpoint(one)) for one in group["lb_endpoints"])
    if "load_balancing_weight" in group:
        found += _whole(3, group["load_balancing_weight"])
    return found + (wire.number(5, group["priority"]) if group.get("priority") else b"")


@functools.lru_cache(4096)
def assignment(body: bytes) -> bytes:
    """A ClusterLoadAssignment, which `meshbox.mesh.clusters` has made as JSON, in protobuf's form."""
    made = json.loads(body)
    return wire.text(1, made["cluster_name"]) + b"".join(wire.length(2, _group(one)) for one in made["endpoints"])


class _Talk:
    """The talk with one proxy: what it asks on its stream, and what it is told.

    Args:
        stream: The stream.
        find: Gives the assignments of the proxy of a pod (namespace, name).
        failed: Told of what nobody foresaw.
    """

    def __init__(self, stream: Stream, find: Callable[[tuple[str, str]], Assignments], failed: failures.Tell) -> None:
        self._stream, self._find, self._failed = stream, find, failed
        self._assignments: Assignments | None = None

    def message(self, body: bytes) -> None:
        """A DeltaDiscoveryRequest."""
        with failures.spared(self._failed):
            try:
                self._read(body)
            except (wire.WireError, UnicodeDecodeError, ValueError) as error:
                self.closed()
                self._stream.end(_INVALID_ARGUMENT, ascii(str(error))[1:-1])

    def closed(self) -> None:
        """The stream has ended."""
        if self._assignments is not None:
            self._assignments.closed(self)
            self._assignments = None

    def _read(self, body: bytes) -> None:
        node, kind, nonce, refused = "", "", "", False
        more: list[str] = []
        fewer: list[str] = []
        for number, value in wire.fields(body):
            if not isinstance(value, bytes):
                continue
            if number == 1:
                node = next((v.decode() for n, v in wire.fields(value) if n == 1 and isinstance(v, bytes)), "")
            elif number == 2:
                kind = value.decode()
            elif number == 3:
                more.append(value.decode())
            elif number == 4:
                fewer.append(value.decode())
            elif number == 6:
                nonce = value.decode()
            elif number == 7:
                refused = True
        if kind != _TYPE:
            raise ValueError(f"{kind} is told of over REST")
        if self._assignments is None:
            _, _, pod, _ = node.split("~")
            name, _, namespace = pod.rpartition(".")
            self._assignments = self._find((namespace, name))
            self._assignments.opened(self)
        if more or fewer:
            self._assignments.ask(more, fewer)
        if nonce:
            self._assignments.settle(int(nonce), refused=refused)

    def say(self, version: int, found: Mapping[str, bytes], gone: Collection[str]) -> int:
        """A DeltaDiscoveryResponse."""
        parts = [wire.text(1, str(version))]
        for name, body in found.items():
            told = wire.text(1, _TYPE) + wire.length(2, assignment(body))
            parts.append(wire.length(2, wire.text(1, str(version)) + wire.length(2, told) + wire.text(3, name)))
        parts += (wire.text(4, _TYPE), wire.text(5, str(version)), *(wire.text(6, name) for name in gone))
        message = b"".join(parts)
        log.debug("endpoints of %d clusters, %d bytes", len(found), len(message))
        self._stream.send(message)
        return len(message)


class EndpointServer:
    """Serves the stream ``DeltaAggregatedResources`` for endpoints.

    Args:
        host: The address to listen on.
        port: The port.
        token: What proxies must show.
        find: Gives the assignments of the proxy of a pod (namespace, name).
        failed: Told of what nobody foresaw.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        find: Callable[[tuple[str, str]], Assignments],
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
