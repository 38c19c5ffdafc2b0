# SPDX-License-Identifier: Apache-2.0
"""Clusters: one for each port of each visible host, and one more for each subset of a DestinationRule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from labkit.ground.labels import selects
from labkit.ground.names import is_ip
from labkit.ground.numbers import whole
from meshbox.doors import CAPTURE_SOCKET
from meshbox.mesh import policies, transport
from meshbox.mesh.envoy import BLACK_HOLE, PASSTHROUGH, Json, address, encode, extension, typed
from meshbox.mesh.field_values import duration
from meshbox.mesh.locality import Group, Place, envoy_locality, grouped
from meshbox.mesh.model import Endpoint, Port, Service, Workload
from meshbox.mesh.scope import Scope
from meshbox.mesh.security import mtls_mode
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.tracing import OPENTELEMETRY, Collector
from meshbox.port_protocols import is_raw

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRuleSpec, Subset, TrafficPolicy

__all__ = [
    "BLACK_HOLE_TUNNEL",
    "DNS_CACHE",
    "HTTP_PROXY_PASSTHROUGH",
    "by_name",
    "collector",
    "inbound_cluster",
    "inbound_name",
    "outbound",
    "outbound_name",
    "passthrough_name",
    "standing",
]


_CLUSTER = "envoy.config.cluster.v3.Cluster"
_FORWARD_PROXY = (
    "envoy.clusters.dynamic_forward_proxy",
    "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
)

UNIX = "unix://"
"""What the address of an endpoint at a Unix socket begins with."""

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


def outbound(snapshot: Snapshot, scope: Scope, client: Workload) -> dict[str, bytes]:
    """All outbound clusters of a scope, by name, as JSON, for proxies such as that of `client`."""
    found: dict[str, bytes] = {}
    place = snapshot.place(client)
    for service in (*scope.services, *scope.reached):
        for name, body in _of_service(snapshot, service, scope.destination_rule(service), place, client.proxy).items():
            found.setdefault(name, body)
    return found


def _of_service(
    snapshot: Snapshot, service: Service, rule: DestinationRuleSpec | None, place: Place, proxy: str
) -> dict[str, bytes]:
    credentials = not rule or proxy == "router" or bool(rule.get("workloadSelector")) or not _named(rule)

    def build() -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        subsets: list[Subset] = [{"name": ""}, *((rule or {}).get("subsets") or [])]
        for port in service.ports:
            if port.protocol == "UDP" or not _reached(service, port):
                continue
            for subset in subsets:
                name = outbound_name(service.host, port.number, subset["name"])
                if name not in found:
                    made = _outbound(snapshot, service, port, subset, rule, place, credentials=credentials)
                    found[name] = encode(made)
        return found

    endpoints = [endpoint for port in service.ports for endpoint in service.endpoints.get(port.number, ())]
    if not all(is_ip(endpoint.address) for endpoint in endpoints):
        # A name may be another Service, whose endpoints come and go by themselves.
        return build()
    modes = tuple(mtls_mode(snapshot, e.workload, e.port) if e.workload else "" for e in endpoints)
    # Most changes leave most Services as they were.
    made: dict[str, bytes] = snapshot.memo(
        ("clusters", service, encode(rule) if rule else b"", snapshot.mesh, modes, place, credentials), build
    )
    return made


def _named(rule: DestinationRuleSpec) -> bool:
    """Whether a rule names a credential as a user does: what is made from the Gateway API says where it is."""
    names = ((policy.get("tls") or {}).get("credentialName") or "" for policy in policies.every_policy(rule))
    return any(name and "://" not in name for name in names)


def _reached(service: Service, port: Port) -> bool:
    """Whether anything tells, of what is sent to a Service's port, where it is to go."""
    return service.resolution != "DYNAMIC_DNS" or port.http or port.protocol in ("AUTO", "TLS")


def _outbound(
    snapshot: Snapshot,
    service: Service,
    port: Port,
    subset: Subset,
    rule: DestinationRuleSpec | None,
    place: Place,
    *,
    credentials: bool,
) -> Json:
    subset_name, legacy = subset["name"], snapshot.legacy
    name = outbound_name(service.host, port.number, subset_name)
    policy = policies.merged_policy(rule, subset_name, port, legacy=legacy)
    by_request = transport.names_by_request(service, policy) if not legacy and not is_raw(port.protocol) else {}
    fields = policies.cluster_fields(policy, port, snapshot.mesh, legacy=legacy, names=by_request)
    wanted = subset.get("labels") or {}
    endpoints = [e for e in _resolved(snapshot, service, port) if selects(wanted, e.labels)]
    cluster: Json = typed(
        _CLUSTER,
        name=name,
        # Envoy's tag rules end a cluster's name at the semicolon, dots and bars inside it notwithstanding.
        alt_stat_name=f"{name};",
        metadata={
            "filter_metadata": {
                "istio": {
                    "service": service.host,
                    "service_name": service.name,
                    "service_namespace": service.namespace if service.kubernetes or not legacy else "unknown",
                    "protocol": "grpc" if port.protocol.startswith("GRPC") else "http",
                    "default_original_port": port.number,
                    "subset": subset_name,
                }
            }
        },
        **fields,
        **_transport(snapshot, service, port, subset_name, policy, credentials=credentials),
    )
    if service.headless and any(e.hostname for e in endpoints):
        # Routes to one pod by its own name choose it by that.
        selector = {"keys": ["hostname"]}
        cluster["lb_subset_config"] = {"fallback_policy": "ANY_ENDPOINT", "subset_selectors": [selector]}
    if service.resolution == "DYNAMIC_DNS":
        fields = {"dns_cache_config": by_name(service.host)}
        if (policy.get("tls") or {}).get("insecureSkipVerify"):
            fields["allow_insecure_cluster_options"] = True
        return cluster | {"lb_policy": "CLUSTER_PROVIDED", "cluster_type": extension(*_FORWARD_PROXY, **fields)}
    if service.resolution == "NONE" or fields["lb_policy"] == "CLUSTER_PROVIDED":
        return cluster | {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    cluster["type"] = _discovery(service, endpoints)
    setting, failover = policies.locality_setting(policy, snapshot.mesh, legacy=legacy), "outlier_detection" in fields
    if service.nearest and not (policy.get("loadBalancer") or {}).get("localityLbSetting"):
        setting, failover = {"failoverPriority": list(service.nearest)}, True
    # Names are resolved by proxies themselves, which know of no labels there.
    by_labels = not service.resolution.startswith("DNS")
    groups = grouped(endpoints, place, setting, failover=failover, by_labels=by_labels)
    if any(group.weight for group in groups) and (failover or not legacy):
        cluster["common_lb_config"] = {**fields["common_lb_config"], "locality_weighted_lb_config": {}}
    raw = is_raw(port.protocol)
    cluster["load_assignment"] = {
        "cluster_name": name,
        "endpoints": [_locality_endpoints(snapshot, group, raw=raw) for group in groups],
    }
    if cluster["type"] in ("STRICT_DNS", "LOGICAL_DNS"):
        cluster |= {"dns_lookup_family": "V4_ONLY", "dns_refresh_rate": "60s", "respect_dns_ttl": True}
    return cluster


def _transport(
    snapshot: Snapshot, service: Service, port: Port, subset: str, policy: TrafficPolicy, *, credentials: bool
) -> Json:
    legacy = snapshot.legacy
    fields = transport.upstream(service, port, subset, policy, snapshot.mesh, legacy=legacy, credentials=credentials)
    if is_raw(port.protocol):
        fields = transport.introduced(fields)
    header = policy.get("proxyProtocol")
    return fields if header is None else transport.proxied(fields, header.get("version") or "V1")


def _discovery(service: Service, endpoints: list[Endpoint]) -> str:
    if all(is_ip(e.address) or e.address.startswith(UNIX) for e in endpoints):
        return "STATIC"
    # A connection to any one address of a name, as of old; it is for one name only.
    return "LOGICAL_DNS" if service.resolution == "DNS_ROUND_ROBIN" and len(endpoints) == 1 else "STRICT_DNS"


def by_name(host: str) -> Json:
    """The DNS cache of a wildcard host, whose requests go wherever their own host is."""
    return {"name": f"{host}_dfp_dns_cache", "dns_lookup_family": "V4_ONLY"}


def _resolved(snapshot: Snapshot, service: Service, port: Port) -> Iterable[Endpoint]:
    """The endpoints of a port; a DNS name that is a Service of this cluster is answered by its endpoints.

    The machine's resolver, which Envoy asks, does not know the cluster's names.
    """
    for endpoint in service.endpoints.get(port.number, ()):
        inside = None if is_ip(endpoint.address) else snapshot.by_host.get(endpoint.address.rstrip("."))
        # A ServiceEntry may have a Service's own name, where that one is not told of.
        if inside is None or not inside.kubernetes or (inside.host == service.host and service.kubernetes):
            yield endpoint
        elif service.kubernetes:
            yield from inside.endpoints.get(endpoint.port, ())
        else:
            # Of what a name leads to a proxy knows the address, and nothing else.
            yield from (Endpoint(one.address, one.port) for one in inside.endpoints.get(endpoint.port, ()))


def _locality_endpoints(snapshot: Snapshot, group: Group, *, raw: bool) -> Json:
    found: Json = {"lb_endpoints": [_lb_endpoint(snapshot, endpoint, raw=raw) for endpoint in group.endpoints]}
    if where := envoy_locality(group.locality):
        found["locality"] = where
    if group.priority:
        found["priority"] = group.priority
    if group.weight:
        found["load_balancing_weight"] = group.weight
    return found


def _lb_endpoint(snapshot: Snapshot, endpoint: Endpoint, *, raw: bool = False) -> Json:
    workload = endpoint.workload
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
        "endpoint": {"address": _where(snapshot, endpoint)},
        "load_balancing_weight": max(endpoint.weight, 1),
        **({"metadata": {"filter_metadata": metadata}} if metadata else {}),
    }


def _where(snapshot: Snapshot, endpoint: Endpoint) -> Json:
    if endpoint.address.startswith(UNIX):
        return {"pipe": {"path": endpoint.address.removeprefix(UNIX)}}
    own = endpoint.workload is not None or snapshot.plan.of_pods(endpoint.address)
    return address(endpoint.address, snapshot.plan.port(endpoint.port) if own else endpoint.port)


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
    limits = {"thresholds": [{"max_connections": policies.NO_LIMIT, "max_requests": policies.NO_LIMIT}]}
    connect_timeout = duration(snapshot.mesh.connect_timeout)
    common: Json = {"connect_timeout": connect_timeout, "circuit_breakers": limits, "lb_policy": "CLUSTER_PROVIDED"}
    passing, refusing = (_outside(name, legacy=snapshot.legacy) for name in (PASSTHROUGH, BLACK_HOLE))
    forward = extension(*_FORWARD_PROXY, dns_cache_config=DNS_CACHE)
    found = {
        PASSTHROUGH: typed(_CLUSTER, name=PASSTHROUGH, type="ORIGINAL_DST", **passing, **common),
        HTTP_PROXY_PASSTHROUGH: typed(_CLUSTER, name=HTTP_PROXY_PASSTHROUGH, cluster_type=forward, **passing, **common),
        BLACK_HOLE: typed(_CLUSTER, name=BLACK_HOLE, type="STATIC", connect_timeout=connect_timeout, **refusing),
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


def _outside(name: str, *, legacy: bool) -> Json:
    """What telemetry says of a destination that is no Service: in Istio 1.2, nothing."""
    return {} if legacy else {"metadata": {"filter_metadata": {"istio": {"service_name": name}}}}


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


def collector(snapshot: Snapshot, taker: Collector) -> Json:
    """The cluster that spans go to: the Service that `taker` names, empty while there is none."""
    host, _, port = taker.where.partition(":")
    # "zipkin.istio-system", or any longer form of a Service's name.
    name, _, rest = host.partition(".")
    namespace = rest.split(".")[0] or snapshot.mesh.root_namespace
    assignment: Json = {"cluster_name": taker.form, "endpoints": []}
    for service in snapshot.services:
        if service.name == name and service.namespace == namespace:
            endpoints = service.endpoints.get(whole(port or "9411") or 0, ())
            if endpoints:
                assignment["endpoints"] = [{"lb_endpoints": [_lb_endpoint(snapshot, e) for e in endpoints]}]
    found = typed(_CLUSTER, name=taker.form, type="STATIC", connect_timeout="1s", load_assignment=assignment)
    if taker.form == OPENTELEMETRY and not taker.path:
        kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        options: Json = {"explicit_http_config": {"http2_protocol_options": {}}}
        found["typed_extension_protocol_options"] = {kind: typed(kind, **options)}
    return found
