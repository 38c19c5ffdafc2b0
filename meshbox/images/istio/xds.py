# SPDX-License-Identifier: Apache-2.0
"""What istioctl asks istiod by xDS: which proxies there are, and whether they have what they should have.

Proxies are told by the mesh itself, over REST. Here is what Istio's own types of resources
answer ("istio.io/…"), on the stream that every client of Istio opens.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from meshbox.images.grpc import wire
from meshbox.images.grpc.server import INVALID_ARGUMENT, UNAVAILABLE, UNIMPLEMENTED, Call, CallError
from meshbox.images.istio.work import ask_mesh
from meshbox.images.standin import tag

__all__ = ["STREAM", "answerer"]

STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"

_UNAUTHENTICATED = 16
_SYNCED, _STALE, _ERROR = 1, 3, 4
"""ConfigStatus of envoy.service.status.v3."""

_ENVOY = "type.googleapis.com/envoy."
_TYPES = {
    "cluster": f"{_ENVOY}config.cluster.v3.Cluster",
    "listener": f"{_ENVOY}config.listener.v3.Listener",
    "endpoint": f"{_ENVOY}config.endpoint.v3.ClusterLoadAssignment",
    "route": f"{_ENVOY}config.route.v3.RouteConfiguration",
}
_SHORT = {"cluster": "CDS", "listener": "LDS", "endpoint": "EDS", "route": "RDS"}
_NOT_COMPARED = (
    "the sandbox's istiod does not send what a proxy should have in protobuf, so that istioctl cannot compare; "
    "`istioctl proxy-config all POD` shows what the proxy has, and `istioctl x internal-debug "
    "config_dump?proxyID=POD.NAMESPACE` what it should have"
)


def answerer(namespace_of: Callable[[str], str], system: str) -> Callable[[Call], bytes]:
    """The stream's method: from a DiscoveryRequest the DiscoveryResponse.

    Args:
        namespace_of: Gives the namespace of the account that a token is of; "" for nobody's.
        system: Istio's own namespace, whose accounts may ask.
    """

    def answer(call: Call) -> bytes:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        try:
            caller = namespace_of(token.strip()) if scheme.lower() == "bearer" and token else ""
        except OSError as error:
            raise CallError(UNAVAILABLE, f"the caller's token cannot be reviewed: {error}") from error
        if not caller:
            raise CallError(_UNAUTHENTICATED, "authentication failure")
        type_url, names = _read(call.message)
        if caller != system:
            raise CallError(_UNAUTHENTICATED, f"the debug info is not available for current identity: {caller}")
        return _response(type_url, _resources(type_url, names))

    return answer


def _read(message: bytes) -> tuple[str, list[str]]:
    """The type and the names of resources in a DiscoveryRequest."""
    type_url, names = "", []
    try:
        for number, value in wire.fields(message):
            if number == 3 and isinstance(value, bytes):
                names.append(value.decode())
            elif number == 4 and isinstance(value, bytes):
                type_url = value.decode()
    except (wire.WireError, UnicodeDecodeError) as error:
        raise CallError(INVALID_ARGUMENT, f"no DiscoveryRequest: {error}") from error
    return type_url, names


def _resources(type_url: str, names: list[str]) -> list[bytes]:
    if type_url == "istio.io/debug/syncz":
        return [_any(f"{_ENVOY}service.status.v3.ClientConfig", _client(row)) for row in _page("syncz")]
    if type_url in ("istio.io/connections", "istio.io/connect"):
        return [_any(f"{_ENVOY}config.core.v3.Node", _node(row, row["node"])) for row in _nodes()]
    if type_url == "istio.io/debug":
        if len(names) != 1:
            raise CallError(
                INVALID_ARGUMENT, "only one debug request is allowed" if names else "debug type is required"
            )
        where = urlsplit(names[0])
        answer = _mesh(f"/control-plane/debug/{where.path}", dict(parse_qsl(where.query)))
        return [_any("istio.io/debug", answer)]
    if type_url == "istio.io/debug/config_dump":
        raise CallError(UNIMPLEMENTED, _NOT_COMPARED)
    raise CallError(UNIMPLEMENTED, f"{type_url} is not sent here: the sandbox's mesh tells its proxies over REST")


def _mesh(path: str, query: dict[str, str] | None = None) -> bytes:
    try:
        return ask_mesh(path, query).body
    except OSError as error:
        raise CallError(UNAVAILABLE, f"the mesh does not answer: {error}") from error


def _page(name: str) -> Any:
    return json.loads(_mesh(f"/control-plane/debug/{name}"))


def _nodes() -> list[dict[str, Any]]:
    """The rows of proxies, with their nodes' ids."""
    ids = {one["connectionId"]: one["node"] for one in _page("connections")["clients"]}
    return [{**row, "node": ids[row["proxy"]]} for row in _page("syncz") if row["proxy"] in ids]


def _node(row: dict[str, Any], name: str) -> bytes:
    namespace = row["proxy"].rpartition(".")[2]
    about = {
        "CLUSTER_ID": row["cluster_id"],
        "ISTIO_VERSION": row["istio_version"],
        "NAMESPACE": namespace,
        "PROXY_CONFIG": {},
    }
    return wire.text(1, name) + wire.length(3, wire.struct(about))


def _client(row: dict[str, Any]) -> bytes:
    """A ClientConfig: a proxy, and of each type that it asks for whether it has what it was sent last."""
    refused = row.get("refused", "").split(",")
    parts = [wire.length(1, _node(row, row["proxy"]))]
    for field, type_url in _TYPES.items():
        if (sent := row.get(f"{field}_sent")) is None:
            continue
        status = _SYNCED if row.get(f"{field}_acked") == sent else _ERROR if _SHORT[field] in refused else _STALE
        parts.append(wire.length(3, wire.text(1, type_url) + wire.text(3, sent) + wire.number(6, status)))
    return b"".join(parts)


def _any(type_url: str, value: bytes) -> bytes:
    return wire.text(1, type_url) + wire.length(2, value)


def _response(type_url: str, resources: list[bytes]) -> bytes:
    version = tag()
    info = {"version": version, "revision": "labkit", "golang_version": "", "status": "stand-in", "tag": version}
    identifier = json.dumps({"Component": "istiod", "ID": os.environ.get("HOSTNAME", ""), "Info": info})
    return b"".join(
        (
            wire.text(1, "1"),
            *(wire.length(2, one) for one in resources),
            wire.text(4, type_url),
            wire.text(5, "1"),
            wire.length(6, wire.text(1, identifier)),
        )
    )
