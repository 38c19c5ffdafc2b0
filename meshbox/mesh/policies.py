# SPDX-License-Identifier: Apache-2.0
"""A DestinationRule's traffic policy as fields of an Envoy cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshbox.mesh.envoy import Json, typed
from meshbox.mesh.field_values import duration
from meshbox.mesh.mesh_config import MeshConfig
from meshbox.mesh.model import Port

if TYPE_CHECKING:
    from labkit.ground.typed import destination_rules as api

__all__ = [
    "HTTP_OPTIONS",
    "NO_LIMIT",
    "cluster_fields",
    "consistent_hash",
    "every_policy",
    "locality_setting",
    "merged_policy",
    "source_hashed",
]


NO_LIMIT = 4294967295
"""Istio lifts Envoy's own limits (1024 connections, 1024 pending …) unless a rule sets them."""

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def merged_policy(
    rule: api.DestinationRuleSpec | None, subset: str, port: Port, *, legacy: bool = False
) -> api.TrafficPolicy:
    """The policy that holds for `port` of `subset` ("" for the whole host)."""
    if rule is None:
        return {}
    policy = _for_port(rule.get("trafficPolicy") or {}, port)
    for candidate in rule.get("subsets") or []:
        if candidate["name"] == subset and subset:
            own = candidate.get("trafficPolicy") or {}
            if not legacy and _level(own, port) is not None:
                # A port's own settings leave nothing of the host's, where Istio 1.2 kept what they did not name.
                policy = _of_no_port(policy)
            policy = {**policy, **_for_port(own, port)}
    return policy


def _level(policy: api.TrafficPolicy, port: Port) -> api.PortTrafficPolicy | None:
    for level in policy.get("portLevelSettings") or []:
        selector = level.get("port") or {}
        if port.number == selector.get("number") or (port.name and port.name == selector.get("name")):
            return level
    return None


def _for_port(policy: api.TrafficPolicy, port: Port) -> api.TrafficPolicy:
    level = _level(policy, port)
    # A port's own settings replace the host's as a whole; what they leave out has its default.
    return {**_of_no_port(policy), **_parts(policy if level is None else level)}


def _of_no_port(policy: api.TrafficPolicy) -> api.TrafficPolicy:
    """What is never set for a single port, where it is set."""
    found: api.TrafficPolicy = {}
    if policy.get("tunnel"):
        found["tunnel"] = policy["tunnel"]
    if policy.get("proxyProtocol") is not None:
        found["proxyProtocol"] = policy["proxyProtocol"]
    if policy.get("retryBudget") is not None:
        found["retryBudget"] = policy["retryBudget"]
    return found


def _parts(policy: api.TrafficPolicy | api.PortTrafficPolicy) -> api.TrafficPolicy:
    """What may be set for a single port as well, where it is set."""
    found: api.TrafficPolicy = {}
    if policy.get("connectionPool"):
        found["connectionPool"] = policy["connectionPool"]
    if policy.get("loadBalancer"):
        found["loadBalancer"] = policy["loadBalancer"]
    if policy.get("outlierDetection") is not None:
        found["outlierDetection"] = policy["outlierDetection"]
    if policy.get("tls"):
        found["tls"] = policy["tls"]
    return found


def every_policy(rule: api.DestinationRuleSpec) -> Iterator[api.TrafficPolicy | api.PortTrafficPolicy]:
    """All policies in a rule: the host's, its subsets', their ports'."""
    for policy in (rule.get("trafficPolicy"), *(one.get("trafficPolicy") for one in rule.get("subsets") or [])):
        if policy:
            yield policy
            yield from policy.get("portLevelSettings") or []


def hash_of(rule: api.DestinationRuleSpec | None, subset: str, port: Port) -> api.ConsistentHash:
    """The `consistentHash` by which requests are hashed, empty without: what is said nearest to a port of a subset."""
    said: list[api.TrafficPolicy] = [
        *(one.get("trafficPolicy") or {} for one in (rule or {}).get("subsets") or [] if one["name"] == subset),
        (rule or {}).get("trafficPolicy") or {},
    ]
    for policy in said:
        for level in (_level(policy, port), policy):
            if level and (found := consistent_hash(level)):
                return found
    return {}


def consistent_hash(policy: api.TrafficPolicy | api.PortTrafficPolicy) -> api.ConsistentHash:
    """The `consistentHash` of a policy; empty without."""
    return (policy.get("loadBalancer") or {}).get("consistentHash") or {}


def source_hashed(policy: api.TrafficPolicy) -> bool:
    """Whether the connections of one client stay with one endpoint, also where no HTTP is spoken."""
    return bool(consistent_hash(policy).get("useSourceIp"))


def locality_setting(
    policy: api.TrafficPolicy, mesh: MeshConfig, *, legacy: bool
) -> api.LocalityLoadBalancerSetting | None:
    """The `localityLbSetting` that holds: the rule's as a whole, else the mesh's; None where it is off."""
    own = (policy.get("loadBalancer") or {}).get("localityLbSetting")
    setting = mesh.locality if own is None or legacy else own
    return None if setting is None or setting.get("enabled") is False else setting


def cluster_fields(
    policy: api.TrafficPolicy, port: Port, mesh: MeshConfig, *, legacy: bool, names: Json | None = None
) -> Json:
    """Load balancing, limits, outlier detection and protocol of a cluster; TLS is `transport.upstream`'s.

    Args:
        policy: What holds for the cluster.
        port: The Service's port.
        mesh: The mesh's settings.
        legacy: Whether Istio 1.2's rules apply.
        names: How the server's name follows a request's, as `transport.names_by_request` gives it.
    """
    fields: Json = _load_balancer(policy, legacy=legacy)
    pool = policy.get("connectionPool") or {}
    tcp, http = pool.get("tcp") or {}, pool.get("http") or {}
    fields["connect_timeout"] = duration(tcp.get("connectTimeout") or mesh.connect_timeout)
    limits: Json = {
        "max_connections": tcp.get("maxConnections") or NO_LIMIT,
        "max_pending_requests": http.get("http1MaxPendingRequests") or NO_LIMIT,
        "max_requests": http.get("http2MaxRequests") or NO_LIMIT,
        "max_retries": http.get("maxRetries") or NO_LIMIT,
        "track_remaining": True,
    }
    if (budget := policy.get("retryBudget")) is not None:
        limits["retry_budget"] = _retry_budget(budget)
    fields["circuit_breakers"] = {"thresholds": [limits]}
    keepalives = [one for one in (mesh.keepalive, tcp.get("tcpKeepalive")) if one is not None]
    if keepalives:
        merged = {key: value for one in keepalives for key, value in _keepalive(one).items()}
        fields["upstream_connection_options"] = {"tcp_keepalive": merged}
    options = _protocol(port, policy, mesh)
    if names:
        options["upstream_http_protocol_options"] = names
    if common := _http_common(tcp, http):
        options["common_http_protocol_options"] = common
    if options:
        if not options.keys() & {"explicit_http_config", "use_downstream_protocol_config"}:
            options["explicit_http_config"] = {"http_protocol_options": {}}
        fields["typed_extension_protocol_options"] = {HTTP_OPTIONS: typed(HTTP_OPTIONS, **options)}
    detection = policy.get("outlierDetection")
    panic = 0.0
    if detection is not None:
        fields["outlier_detection"] = _outlier(detection, legacy=legacy)
        panic = float(detection.get("minHealthPercent") or 0)
    fields["common_lb_config"] = {"healthy_panic_threshold": {"value": panic}, **fields.pop("common_lb_config", {})}
    return fields


def _http_common(tcp: api.TCPSettings, http: api.HTTPSettings) -> Json:
    common: Json = {}
    if http.get("maxRequestsPerConnection"):
        common["max_requests_per_connection"] = http["maxRequestsPerConnection"]
    if idle := (http.get("idleTimeout") or tcp.get("idleTimeout")):
        common["idle_timeout"] = duration(idle)
    if tcp.get("maxConnectionDuration"):
        common["max_connection_duration"] = duration(tcp["maxConnectionDuration"])
    return common


def _retry_budget(budget: api.TrafficPolicyRetryBudget) -> Json:
    percent = budget.get("percent")
    return {
        # Istio means to say 20 % where nothing is said, and says 0.2 %: only the least number counts then.
        "budget_percent": {"value": 0.2 if percent is None else float(percent)},
        "min_retry_concurrency": budget.get("minRetryConcurrency") or 3,
    }


def speaks_http2(port: Port, policy: api.TrafficPolicy, mesh: MeshConfig) -> bool:
    """Whether a host is called with HTTP/2, whatever its callers speak.

    Args:
        port: Its port.
        policy: What holds for it.
        mesh: The mesh's settings.
    """
    http = (policy.get("connectionPool") or {}).get("http") or {}
    if http.get("useClientProtocol"):
        return False
    wanted = http.get("h2UpgradePolicy") or "DEFAULT"
    # A rule may say of any port that HTTP is spoken there, but of one where it is looked for what its callers speak
    # stays; the mesh only speaks of those that are called so.
    asked = wanted == "UPGRADE" and port.protocol != "AUTO"
    upgrade = asked or (wanted == "DEFAULT" and mesh.h2_upgrade and port.http)
    return upgrade or port.protocol in ("HTTP2", "GRPC", "GRPC-WEB")


def _protocol(port: Port, policy: api.TrafficPolicy, mesh: MeshConfig) -> Json:
    http = (policy.get("connectionPool") or {}).get("http") or {}
    http2 = speaks_http2(port, policy, mesh)
    if http.get("useClientProtocol") or (port.protocol == "AUTO" and not http2):
        return {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}
    if not http2:
        return {}
    most = http.get("maxConcurrentStreams")
    return {"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": most} if most else {}}}


def _load_balancer(policy: api.TrafficPolicy, *, legacy: bool) -> Json:
    balancer = policy.get("loadBalancer") or {}
    ring = balancer.get("consistentHash")
    if ring is not None:
        if ring.get("maglev") is not None:
            size = ring["maglev"].get("tableSize")
            return {"lb_policy": "MAGLEV", **({"maglev_lb_config": {"table_size": int(size)}} if size else {})}
        minimum = (ring.get("ringHash") or {}).get("minimumRingSize") or ring.get("minimumRingSize") or 1024
        return {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": int(minimum)}}
    simple = balancer.get("simple") or ("ROUND_ROBIN" if legacy else "LEAST_REQUEST")
    name = {"LEAST_CONN": "LEAST_REQUEST", "UNSPECIFIED": "LEAST_REQUEST", "PASSTHROUGH": "CLUSTER_PROVIDED"}.get(
        simple, simple
    )
    fields: Json = {"lb_policy": name}
    warmup = balancer.get("warmup")
    if warmup is None and balancer.get("warmupDurationSecs"):
        warmup = {"duration": balancer["warmupDurationSecs"]}
    if warmup is not None and name in ("ROUND_ROBIN", "LEAST_REQUEST"):
        key = "round_robin_lb_config" if name == "ROUND_ROBIN" else "least_request_lb_config"
        fields[key] = {"slow_start_config": _slow_start(warmup)}
    return fields


def _slow_start(warmup: api.LoadBalancerWarmup) -> Json:
    found: Json = {"slow_start_window": duration(warmup.get("duration") or "0s")}
    if (aggression := warmup.get("aggression")) is not None:
        found["aggression"] = {"default_value": float(aggression), "runtime_key": "upstream.slow_start.aggression"}
    if (least := warmup.get("minimumPercent")) is not None:
        found["min_weight_percent"] = {"value": float(least)}
    return found


def _keepalive(keepalive: api.TcpKeepalive) -> Json:
    fields: Json = {}
    if keepalive.get("probes"):
        fields["keepalive_probes"] = keepalive["probes"]
    # Envoy takes whole seconds here.
    if keepalive.get("time"):
        fields["keepalive_time"] = int(float(duration(keepalive["time"])[:-1]))
    if keepalive.get("interval"):
        fields["keepalive_interval"] = int(float(duration(keepalive["interval"])[:-1]))
    return fields


def _outlier(detection: api.OutlierDetection, *, legacy: bool) -> Json:
    # Success-rate ejection is Envoy's own idea; Istio switches it off.
    # Envoy of 1.2 always ejected the first bad host, however few there were; today that has to be asked for.
    fields: Json = {"enforcing_success_rate": 0, **({"always_eject_one_host": True} if legacy else {})}
    for name, value in (
        ("consecutive_5xx", detection.get("consecutive5xxErrors")),
        ("consecutive_gateway_failure", detection.get("consecutiveGatewayErrors")),
    ):
        if value is not None:
            fields[name] = value
            fields[f"enforcing_{name}"] = 100 if value > 0 else 0
    if legacy and (errors := detection.get("consecutiveErrors")) is not None:
        # Today nothing reads it; the webhook warns of it.
        fields["consecutive_gateway_failure"] = errors
        fields["enforcing_consecutive_gateway_failure"] = 100 if errors > 0 else 0
        fields["enforcing_consecutive_5xx"] = 0
    if detection.get("interval"):
        fields["interval"] = duration(detection["interval"])
    if detection.get("baseEjectionTime"):
        fields["base_ejection_time"] = duration(detection["baseEjectionTime"])
    fields["max_ejection_percent"] = detection.get("maxEjectionPercent") or 10
    if detection.get("splitExternalLocalOriginErrors"):
        fields["split_external_local_origin_errors"] = True
        fields["enforcing_local_origin_success_rate"] = 0
        if local := detection.get("consecutiveLocalOriginFailures"):
            fields["consecutive_local_origin_failure"] = local
            fields["enforcing_consecutive_local_origin_failure"] = 100
    return fields
