# SPDX-License-Identifier: Apache-2.0
"""Clusters: one for each port of each visible host, and one more for each subset of a DestinationRule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from labkit.ground.labels import selects
from labkit.ground.names import is_ip
from labkit.ground.numbers import whole
from meshbox.doors import CAPTURE_SOCKET
from meshbox.images.proxy.constants import named
from meshbox.mesh import policies, transport
from meshbox.mesh.endpoints import UNIX, lb_endpoint, locality_endpoints, resolved
from meshbox.mesh.envoy import ADS, BLACK_HOLE, PASSTHROUGH, Json, address, encode, extension, made_by, typed
from meshbox.mesh.field_values import duration
from meshbox.mesh.locality import Place, grouped
from meshbox.mesh.model import Endpoint, Port, Service, Workload
from meshbox.mesh.scope import Scope
from meshbox.mesh.security import mtls_mode
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.tracing import Collector
from meshbox.port_protocols import is_raw

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRuleSpec, Subset, TrafficPolicy

__all__ = [
    "BLACK_HOLE_TUNNEL",
    "DNS_CACHE",
    "HTTP_PROXY_PASSTHROUGH",
    "Outbound",
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


class Outbound(NamedTuple):
    """What proxies call: name → JSON, for each kind.

    Args:
        clusters: How each is called.
        endpoints: Where those lead that are told of it (EDS), by the clusters' names.
    """

    clusters: dict[str, bytes]
    endpoints: dict[str, bytes]

    def take(self, name: str, other: Outbound) -> None:
        """Add a cluster of another one, with its endpoints."""
        self.clusters[name] = other.clusters[name]
        if name in other.endpoints:
            self.endpoints[name] = other.endpoints[name]


def outbound(snapshot: Snapshot, scope: Scope, client: Workload) -> Outbound:
    """All outbound clusters of a scope for proxies such as that of `client`."""
    found = Outbound({}, {})
    place = snapshot.place(client)
    for service in (*scope.services, *scope.reached):
        made = _of_service(snapshot, scope, service, place, client.proxy)
        for name in made.clusters.keys() - found.clusters.keys():
            found.take(name, made)
    return found


def _of_service(snapshot: Snapshot, scope: Scope, service: Service, place: Place, proxy: str) -> Outbound:
    rule, name = scope.destination_rule(service), scope.rule_name(service)
    # Which rule it is, as istioctl looks for it.
    origin = {"config": made_by("destination-rule", *name, legacy=snapshot.legacy)} if name else {}
    credentials = not rule or proxy == "router" or bool(rule.get("workloadSelector")) or not _named(rule)

    def build() -> Outbound:
        found = Outbound({}, {})
        subsets: list[Subset] = [{"name": ""}, *((rule or {}).get("subsets") or [])]
        for port in service.ports:
            if port.protocol == "UDP" or not _reached(service, port):
                continue
            for subset in subsets:
                name = outbound_name(service.host, port.number, subset["name"])
                if name not in found.clusters:
                    made = _outbound(snapshot, service, port, subset, rule, place, credentials=credentials)
                    made["metadata"]["filter_metadata"]["istio"] |= origin
                    if made.get("type") == "EDS":
                        found.endpoints[name] = encode(made.pop("load_assignment"))
                    found.clusters[name] = encode(made)
        return found

    endpoints = [endpoint for port in service.ports for endpoint in service.endpoints.get(port.number, ())]
    if not all(is_ip(endpoint.address) for endpoint in endpoints):
        # A name may be another Service, whose endpoints come and go by themselves.
        return build()
    modes = tuple(mtls_mode(snapshot, e.workload, e.port) if e.workload else "" for e in endpoints)
    # Most changes leave most Services as they were.
    told = encode({"rule": rule, "origin": origin}) if rule else b""
    accounts = snapshot.accounts.get((service.namespace, service.host))
    key = ("clusters", service, told, snapshot.mesh, modes, place, credentials, accounts)
    made: Outbound = snapshot.memo(key, build)
    return made


def _named(rule: DestinationRuleSpec) -> bool:
    """Whether a rule names a credential as a user does: what is made from the Gateway API says where it is."""
    names = ((policy.get("tls") or {}).get("credentialName") or "" for policy in policies.every_policy(rule))
    return any(name and "://" not in name for name in names)


def _reached(service: Service, port: Port) -> bool:
    """Whether anything tells, of what is sent to a Service's port, where it is to go."""
    return service.resolution != "DYNAMIC_DNS" or port.http or port.protocol in ("AUTO", "TLS")


def _told(service: Service, subset: str, *, legacy: bool) -> Json:
    """What telemetry and istioctl are told of a cluster for a Service."""
    found: Json = {
        # Envoy's format strings reach no element of a list, and our telemetry is written with them.
        "service": service.host,
        "service_name": service.name,
        "service_namespace": service.namespace if service.kubernetes or not legacy else "unknown",
    }
    if not legacy:
        found["services"] = [_summary(service)]
    return found | ({"subset": subset} if subset else {})


def _summary(service: Service) -> Json:
    return {"host": service.host, "name": service.name, "namespace": service.namespace}


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
    by_request = transport.names_by_request(policy) if not legacy and not is_raw(port.protocol) else {}
    fields = policies.cluster_fields(policy, port, snapshot.mesh, legacy=legacy, names=by_request)
    wanted = subset.get("labels") or {}
    endpoints = [e for e in resolved(snapshot, service, port) if selects(wanted, e.labels)]
    cluster: Json = typed(
        _CLUSTER,
        name=name,
        **named(name, legacy=legacy),
        metadata={"filter_metadata": {"istio": _told(service, subset_name, legacy=legacy)}},
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
        if port.target and port.target != port.number:
            cluster["original_dst_lb_config"] = {"upstream_port_override": port.target}
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
        "endpoints": [locality_endpoints(snapshot, group, raw=raw) for group in groups],
    }
    if cluster["type"] == "EDS":
        cluster["eds_cluster_config"] = {"eds_config": ADS, "service_name": name}
        # What is new of an endpoint (its weight, whether it speaks mTLS) holds at once, and not up to a second later.
        cluster["common_lb_config"] = {**cluster.get("common_lb_config", {}), "update_merge_window": "0s"}
    else:
        cluster |= {"dns_lookup_family": "V4_ONLY", "dns_refresh_rate": "60s", "respect_dns_ttl": True}
    return cluster


def _transport(
    snapshot: Snapshot, service: Service, port: Port, subset: str, policy: TrafficPolicy, *, credentials: bool
) -> Json:
    legacy = snapshot.legacy
    accounts = snapshot.accounts.get((service.namespace, service.host), ())
    fields = transport.upstream(
        service, port, subset, policy, snapshot.mesh, legacy=legacy, credentials=credentials, accounts=accounts
    )
    if is_raw(port.protocol):
        fields = transport.introduced(fields)
    header = policy.get("proxyProtocol")
    return fields if header is None else transport.proxied(fields, header.get("version") or "V1")


def _discovery(service: Service, endpoints: list[Endpoint]) -> str:
    if all(is_ip(e.address) or e.address.startswith(UNIX) for e in endpoints):
        return "EDS"
    # A connection to any one address of a name, as of old; it is for one name only.
    return "LOGICAL_DNS" if service.resolution == "DNS_ROUND_ROBIN" and len(endpoints) == 1 else "STRICT_DNS"


def by_name(host: str) -> Json:
    """The DNS cache of a wildcard host, whose requests go wherever their own host is."""
    return {"name": f"{host}_dfp_dns_cache", "dns_lookup_family": "V4_ONLY"}


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
    if legacy:
        return {}
    return {"metadata": {"filter_metadata": {"istio": {"service_name": name}}}, **named(name, legacy=False)}


def inbound_cluster(
    name: str, local: str, port: int, protocol: str, service: Service | None = None, *, legacy: bool = False
) -> Json:
    """The cluster for the application's own port on its localhost, where `protocol` is spoken.

    Args:
        name: The cluster's.
        local: The application's address.
        port: The application's port.
        protocol: What is spoken there.
        service: Whose port it is, where that is told.
        legacy: Whether for Istio 1.2.
    """
    cluster: Json = typed(
        _CLUSTER,
        name=name,
        **named(name, legacy=legacy),
        type="STATIC",
        connect_timeout="10s",
        circuit_breakers={
            "thresholds": [
                {
                    "max_connections": policies.NO_LIMIT,
                    "max_pending_requests": policies.NO_LIMIT,
                    "max_requests": policies.NO_LIMIT,
                    **({} if legacy else {"max_retries": policies.NO_LIMIT}),
                }
            ]
        },
        load_assignment={
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(local, port)}}]}],
        },
    )
    if service is not None:
        cluster["metadata"] = {"filter_metadata": {"istio": {"services": [_summary(service)]}}}
    if protocol in ("HTTP2", "GRPC", "GRPC-WEB"):
        options: Json = {"explicit_http_config": {"http2_protocol_options": {}}}
    elif protocol == "AUTO":
        options = {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}
        if service is None and not legacy:
            options["common_http_protocol_options"] = {"idle_timeout": "300s"}
    else:
        return cluster
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    cluster["typed_extension_protocol_options"] = {kind: typed(kind, **options)}
    return cluster


def collector(snapshot: Snapshot, scope: Scope, client: Workload, taker: Collector) -> Outbound:
    """The cluster that spans go to, by name: one of the mesh's own, with the rules for it, though the proxy is told of
    no others of that Service.
    """
    if not taker.cluster:
        return Outbound({taker.form: encode(_starting(snapshot, taker))}, {})
    service = snapshot.by_host[taker.cluster.rpartition("|")[2]]
    found = Outbound({}, {})
    found.take(taker.cluster, _of_service(snapshot, scope, service, snapshot.place(client), client.proxy))
    return found


def _starting(snapshot: Snapshot, taker: Collector) -> Json:
    """The cluster that a proxy starts with: the Service of that address, empty while there is none."""
    host, _, port = taker.where.partition(":")
    # "zipkin.istio-system", or any longer form of a Service's name.
    name, _, rest = host.partition(".")
    namespace = rest.split(".")[0] or snapshot.mesh.root_namespace
    assignment: Json = {"cluster_name": taker.form, "endpoints": []}
    for service in snapshot.services:
        if service.name == name and service.namespace == namespace:
            endpoints = service.endpoints.get(whole(port or "9411") or 0, ())
            if endpoints:
                assignment["endpoints"] = [{"lb_endpoints": [lb_endpoint(snapshot, e) for e in endpoints]}]
    return typed(_CLUSTER, name=taker.form, type="STATIC", connect_timeout="1s", load_assignment=assignment)
