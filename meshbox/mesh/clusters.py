# SPDX-License-Identifier: Apache-2.0
"""Clusters: one for each port of each visible host, and one more for each subset of a DestinationRule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from labkit.ground.labels import selects
from labkit.ground.names import is_ip
from meshbox.doors import CAPTURE_SOCKET
from meshbox.mesh import policies, transport
from meshbox.mesh.envoy import BLACK_HOLE, PASSTHROUGH, Json, address, encode, extension, typed
from meshbox.mesh.field_values import duration
from meshbox.mesh.model import Endpoint, Port, Service, Workload
from meshbox.mesh.security import mtls_mode
from meshbox.mesh.snapshot import Scope, Snapshot
from meshbox.port_protocols import is_raw

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRuleSpec, Subset

__all__ = [
    "BLACK_HOLE_TUNNEL",
    "DNS_CACHE",
    "HTTP_PROXY_PASSTHROUGH",
    "inbound_cluster",
    "inbound_name",
    "outbound",
    "outbound_name",
    "passthrough_name",
    "standing",
    "zipkin",
]


_CLUSTER = "envoy.config.cluster.v3.Cluster"

HTTP_PROXY_PASSTHROUGH = "PassthroughCluster_by_name"
"""Where a request to an unknown host goes that came to the HTTP proxy port: by its name, since no address was captured.
"""

BLACK_HOLE_TUNNEL = "BlackHoleCluster_by_tunnel"
"""Where a tunnel goes that came to the HTTP proxy port and must lead nowhere."""

DNS_CACHE = {"name": "http_proxy", "dns_lookup_family": "V4_ONLY"}


def outbound_name(host: str, port: int, subset: str = "") -> str:
    """Istio's name of an outbound cluster."""
    return f"outbound|{port}|{subset}|{host}"


def passthrough_name(port: int) -> str:
    """The cluster for calls to `port` of this cluster's own addresses where that port is really another."""
    return f"{PASSTHROUGH}_{port}"


def inbound_name(port: int, service: tuple[Service, Port] | None, *, legacy: bool) -> str:
    """Istio's name of the cluster for the application's own `port`."""
    if not legacy:
        return f"inbound|{port}||"
    if service is None:
        return f"inbound|{port}||mgmtCluster"
    return f"inbound|{service[1].number}|{service[1].name}|{service[0].host}"


def outbound(snapshot: Snapshot, scope: Scope) -> dict[str, bytes]:
    """All outbound clusters of a scope, by name, as JSON."""
    found: dict[str, bytes] = {}
    for service in (*scope.services, *scope.reached):
        for name, body in _of_service(snapshot, service, scope.destination_rule(service)).items():
            found.setdefault(name, body)
    return found


def _of_service(snapshot: Snapshot, service: Service, rule: DestinationRuleSpec | None) -> dict[str, bytes]:
    def build() -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        subsets: list[Subset] = [{"name": ""}, *((rule or {}).get("subsets") or [])]
        for port in service.ports:
            if port.protocol == "UDP":
                continue
            for subset in subsets:
                name = outbound_name(service.host, port.number, subset["name"])
                if name not in found:
                    found[name] = encode(_outbound(snapshot, service, port, subset, rule))
        return found

    endpoints = [endpoint for port in service.ports for endpoint in service.endpoints.get(port.number, ())]
    if not all(is_ip(endpoint.address) for endpoint in endpoints):
        # A name may be another Service, whose endpoints come and go by themselves.
        return build()
    modes = tuple(mtls_mode(snapshot, e.workload, e.port) if e.workload else "" for e in endpoints)
    # Most changes leave most Services as they were.
    made: dict[str, bytes] = snapshot.memo(
        ("clusters", service, encode(rule) if rule else b"", snapshot.mesh, modes), build
    )
    return made


def _outbound(
    snapshot: Snapshot, service: Service, port: Port, subset: Subset, rule: DestinationRuleSpec | None
) -> Json:
    subset_name = subset["name"]
    name = outbound_name(service.host, port.number, subset_name)
    policy = policies.merged_policy(rule, subset_name, port)
    fields = policies.cluster_fields(policy, port, snapshot.mesh, legacy=snapshot.legacy)
    wanted = subset.get("labels") or {}
    endpoints = [e for e in _resolved(snapshot, service, port) if selects(wanted, e.labels)]
    passes = service.resolution == "NONE" or fields["lb_policy"] == "CLUSTER_PROVIDED"
    secured = transport.upstream(service, port, subset_name, policy, snapshot.mesh, legacy=snapshot.legacy)
    raw = is_raw(port.protocol)
    if raw:
        secured = transport.introduced(secured)
    cluster: Json = typed(
        _CLUSTER,
        name=name,
        # Envoy's tag rules end a cluster's name at the semicolon, dots and bars inside it notwithstanding.
        alt_stat_name=f"{name};",
        type="ORIGINAL_DST" if passes else "STATIC" if all(is_ip(e.address) for e in endpoints) else "STRICT_DNS",
        metadata={
            "filter_metadata": {
                "istio": {
                    "service": service.host,
                    "service_name": service.name,
                    "service_namespace": service.namespace if service.kubernetes or not snapshot.legacy else "unknown",
                    "protocol": "grpc" if port.protocol.startswith("GRPC") else "http",
                    "default_original_port": port.number,
                    "subset": subset_name,
                }
            }
        },
        **fields,
        **secured,
    )
    if service.headless and any(e.hostname for e in endpoints):
        # Routes to one pod by its own name choose it by that.
        selector = {"keys": ["hostname"]}
        cluster["lb_subset_config"] = {"fallback_policy": "ANY_ENDPOINT", "subset_selectors": [selector]}
    if passes:
        cluster["lb_policy"] = "CLUSTER_PROVIDED"
    else:
        cluster["load_assignment"] = {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [_lb_endpoint(snapshot, e, raw=raw) for e in endpoints]}]
            if endpoints
            else [],
        }
    if cluster["type"] == "STRICT_DNS":
        cluster |= {"dns_lookup_family": "V4_ONLY", "dns_refresh_rate": "60s", "respect_dns_ttl": True}
    return cluster


def _resolved(snapshot: Snapshot, service: Service, port: Port) -> Iterable[Endpoint]:
    """The endpoints of a port; a DNS name that is a Service of this cluster is answered by its endpoints.

    The machine's resolver, which Envoy asks, does not know the cluster's names.
    """
    for endpoint in service.endpoints.get(port.number, ()):
        inside = None if is_ip(endpoint.address) else snapshot.by_host.get(endpoint.address.rstrip("."))
        if inside is None or not inside.kubernetes or inside.host == service.host:
            yield endpoint
        else:
            yield from inside.endpoints.get(endpoint.port, ())


def _lb_endpoint(snapshot: Snapshot, endpoint: Endpoint, *, raw: bool = False) -> Json:
    workload = endpoint.workload
    port = snapshot.plan.port(endpoint.port) if workload else endpoint.port
    metadata: Json = {}
    if workload is not None:
        metadata["istio"] = peer_metadata(workload)
        if workload.proxy == "sidecar":
            match = {"tlsMode": "istio"} if mtls_mode(snapshot, workload, endpoint.port) != "DISABLE" else {}
            if raw:
                match["proxy"] = "sidecar"
            if match:
                metadata["envoy.transport_socket_match"] = match
    if endpoint.hostname:
        metadata["envoy.lb"] = {"hostname": endpoint.hostname}
    return {
        "endpoint": {"address": address(endpoint.address, port)},
        "load_balancing_weight": max(endpoint.weight, 1),
        **({"metadata": {"filter_metadata": metadata}} if metadata else {}),
    }


def peer_metadata(workload: Workload) -> Mapping[str, str]:
    """What telemetry says of a workload, as metadata of its endpoints."""
    return {
        "workload": workload.name,
        "namespace": workload.namespace,
        "canonical_service": workload.canonical_service,
        "canonical_revision": workload.canonical_revision,
        "app": workload.app,
        "version": workload.version,
        "cluster": "Kubernetes",
        "principal": workload.principal,
    }


def standing(snapshot: Snapshot, scope: Scope) -> dict[str, Json]:
    """The clusters every proxy has: pass through to where the caller was going, by address or by name, and nowhere."""
    connect_timeout = duration(snapshot.mesh.connect_timeout)
    limits = {"thresholds": [{"max_connections": policies.NO_LIMIT, "max_requests": policies.NO_LIMIT}]}
    common: Json = {"connect_timeout": connect_timeout, "circuit_breakers": limits, "lb_policy": "CLUSTER_PROVIDED"}
    by_name = extension(
        "envoy.clusters.dynamic_forward_proxy",
        "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
        dns_cache_config=DNS_CACHE,
    )
    found = {
        PASSTHROUGH: typed(_CLUSTER, name=PASSTHROUGH, type="ORIGINAL_DST", metadata=_outside(PASSTHROUGH), **common),
        HTTP_PROXY_PASSTHROUGH: typed(
            _CLUSTER, name=HTTP_PROXY_PASSTHROUGH, cluster_type=by_name, metadata=_outside(PASSTHROUGH), **common
        ),
        BLACK_HOLE: typed(
            _CLUSTER, name=BLACK_HOLE, type="STATIC", connect_timeout=connect_timeout, metadata=_outside(BLACK_HOLE)
        ),
    }
    for number, (real, _) in scope.shifted.items():
        name = passthrough_name(number)
        found[name] = {**found[PASSTHROUGH], "name": name, "original_dst_lb_config": {"upstream_port_override": real}}
    if scope.registry_only:
        # The way in for captured connections takes none that does not say first where it was meant to go.
        nowhere = [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": CAPTURE_SOCKET}}}}]}]
        assignment = {"cluster_name": BLACK_HOLE_TUNNEL, "endpoints": nowhere}
        found[BLACK_HOLE_TUNNEL] = {**found[BLACK_HOLE], "name": BLACK_HOLE_TUNNEL, "load_assignment": assignment}
    return found


def _outside(name: str) -> Json:
    """What telemetry says of a destination that is no Service."""
    return {"filter_metadata": {"istio": {"service_name": name}}}


def inbound_cluster(name: str, local: str, port: int, protocol: str) -> Json:
    """The cluster for the application's own port on its localhost, where `protocol` is spoken."""
    cluster: Json = typed(
        _CLUSTER,
        name=name,
        alt_stat_name=f"{name};",
        type="STATIC",
        connect_timeout="10s",
        circuit_breakers={
            "thresholds": [
                {
                    "max_connections": policies.NO_LIMIT,
                    "max_pending_requests": policies.NO_LIMIT,
                    "max_requests": policies.NO_LIMIT,
                }
            ]
        },
        load_assignment={
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(local, port)}}]}],
        },
    )
    if protocol in ("HTTP2", "GRPC", "GRPC-WEB"):
        options: Json = {"explicit_http_config": {"http2_protocol_options": {}}}
    elif protocol == "AUTO":
        options = {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}
    else:
        return cluster
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    cluster["typed_extension_protocol_options"] = {kind: typed(kind, **options)}
    return cluster


def zipkin(snapshot: Snapshot, where: str) -> Json:
    """The cluster that spans go to: the Service at `where` ("zipkin.istio-system:9411"), empty while there is none."""
    host, _, port = where.partition(":")
    # "zipkin.istio-system", or any longer form of a Service's name.
    name, _, rest = host.partition(".")
    namespace = rest.split(".")[0] or snapshot.mesh.root_namespace
    assignment: Json = {"cluster_name": "zipkin", "endpoints": []}
    for service in snapshot.services:
        if service.name == name and service.namespace == namespace:
            endpoints = service.endpoints.get(int(port or 9411), ())
            if endpoints:
                assignment["endpoints"] = [{"lb_endpoints": [_lb_endpoint(snapshot, e) for e in endpoints]}]
    return typed(_CLUSTER, name="zipkin", type="STATIC", connect_timeout="1s", load_assignment=assignment)
