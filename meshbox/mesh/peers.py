# SPDX-License-Identifier: Apache-2.0
"""What proxies tell each other of the workloads they speak for: in headers of requests, and before raw bytes in a PROXY
header. The caller's proxy sets them, the server's takes them off again and keeps them for its metrics.
"""

from __future__ import annotations

import base64

from msgspec import Struct

from meshbox.mesh.envoy import Json, extension
from meshbox.mesh.model import Port, Service, Workload

__all__ = ["PEER_SPACE", "Inbound", "peer_filters", "peer_headers", "peer_keys", "peer_reader", "peer_tlvs"]


PEER_SPACE = "istio.peer"
"""Where Envoy's metadata of a connection holds what its caller said."""

_PEER = "x-istio-peer-"
_TLV_TYPES = range(0xE0, 0xE7)
"""Types that the PROXY protocol leaves to its users."""


class Inbound(Struct, frozen=True):
    """A connection manager on the server's side.

    Args:
        service: The Service and port that the application's port belongs to, if any.
        mtls: Whether it stands behind mTLS.
        port: The application's port.
    """

    service: tuple[Service, Port] | None
    mtls: bool
    port: int = 0


def peer_keys(*, legacy: bool) -> dict[str, str]:
    """Label → key of a workload's metadata."""
    keys = {"workload": "workload", "workload_namespace": "namespace", "app": "app", "version": "version"}
    if not legacy:
        keys |= {key: key for key in ("canonical_service", "canonical_revision", "cluster")}
    return keys


def said_of(workload: Workload) -> dict[str, str]:
    """What a proxy says of the workload it speaks for."""
    return {
        "workload": workload.name,
        "namespace": workload.namespace,
        "app": workload.app,
        "version": workload.version,
        "canonical_service": workload.canonical_service,
        "canonical_revision": workload.canonical_revision,
        "cluster": "Kubernetes",
    }


def peer_tlvs(workload: Workload) -> list[Json]:
    """The same for connections that carry no HTTP: additions to the PROXY header that goes before their bytes."""
    return [
        {"type": kind, "value": base64.b64encode(value.encode()).decode()}
        for kind, value in zip(_TLV_TYPES, said_of(workload).values(), strict=True)
        if value
    ]


def peer_reader() -> Json:
    """The listener filter that takes a caller's PROXY header off, if there is one, and keeps its additions."""
    names = ("workload", "namespace", "app", "version", "canonical_service", "canonical_revision", "cluster")
    rules = [
        {"tlv_type": kind, "on_tlv_present": {"metadata_namespace": PEER_SPACE, "key": name}}
        for kind, name in zip(_TLV_TYPES, names, strict=True)
    ]
    return extension(
        "envoy.filters.listener.proxy_protocol",
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        allow_requests_without_proxy_protocol=True,
        rules=rules,
    )


def peer_headers(workload: Workload, *, legacy: bool) -> Json:
    """The filter by which a proxy tells the next one whom it speaks for; what came from elsewhere is overwritten."""
    values = said_of(workload)
    mutations: list[Json] = [
        {
            "append": {
                "header": {"key": _header(key), "value": values[key]},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for key in peer_keys(legacy=legacy).values()
    ]
    return _mutation("istio.peer_headers", mutations)


def peer_filters(inbound: Inbound, *, legacy: bool) -> list[Json]:
    """The filters that take the caller's words about itself off a request, and keep them for the metrics.

    They are believed on mTLS only: in plain text anybody could say anything. Istio 1.2 did believe them there too.
    """
    strip = _mutation("istio.strip_peer_headers", [{"remove_on_match": {"key_matcher": {"prefix": _PEER}}}])
    if not inbound.mtls and not legacy:
        return [strip]
    keep = extension(
        "istio.peer_metadata",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        on_request_headers=[
            {
                "object_key": f"istio.peer.{key}",
                "factory_key": "envoy.string",
                "format_string": {"text_format_source": {"inline_string": f"%REQ({_header(key)})%"}},
                "skip_if_empty": True,
            }
            for key in peer_keys(legacy=legacy).values()
        ],
    )
    return [keep, strip]


def _header(key: str) -> str:
    return _PEER + key.replace("_", "-")


def _mutation(name: str, mutations: list[Json]) -> Json:
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    return extension(name, kind, mutations={"request_mutations": mutations})
