# SPDX-License-Identifier: Apache-2.0
"""A DestinationRule's traffic policy as fields of an Envoy cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshbox.mesh.envoy import Json, typed
from meshbox.mesh.field_values import duration
from meshbox.mesh.model import MeshConfig, Port

if TYPE_CHECKING:
    from labkit.ground.typed import destination_rules as api

__all__ = ["NO_LIMIT", "cluster_fields", "consistent_hash", "merged_policy"]


NO_LIMIT = 4294967295
"""Istio lifts Envoy's own limits (1024 connections, 1024 pending …) unless a rule sets them."""

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def merged_policy(rule: api.DestinationRuleSpec | None, subset: str, port: Port) -> api.TrafficPolicy:
    """The policy that holds for `port` of `subset` ("" for the whole host)."""
    if rule is None:
        return {}
    policy = _for_port(rule.get("trafficPolicy") or {}, port)
    for candidate in rule.get("subsets") or []:
        if candidate["name"] == subset and subset:
            policy = {**policy, **_for_port(candidate.get("trafficPolicy") or {}, port)}
    return policy


def _for_port(policy: api.TrafficPolicy, port: Port) -> api.TrafficPolicy:
    for level in policy.get("portLevelSettings") or []:
        selector = level.get("port") or {}
        if port.number == selector.get("number") or (port.name and port.name == selector.get("name")):
            # A port's own settings replace the host's as a whole; what they leave out has its default.
            return _parts(level)
    return _parts(policy)


def _parts(policy: api.TrafficPolicy | api.PortTrafficPolicy) -> api.TrafficPolicy:
    """What may be set for a single port as well, where it is set."""
    found: api.TrafficPolicy = {}
    if policy.get("connectionPool"):
        found["connectionPool"] = policy["connectionPool"]
    if policy.get("loadBalancer"):
        found["loadBalancer"] = policy["loadBalancer"]
    if policy.get("outlierDetection"):
        found["outlierDetection"] = policy["outlierDetection"]
    if policy.get("tls"):
        found["tls"] = policy["tls"]
    return found


def consistent_hash(policy: api.TrafficPolicy) -> api.ConsistentHash:
    """The `consistentHash` of a policy; empty without."""
    return (policy.get("loadBalancer") or {}).get("consistentHash") or {}


def cluster_fields(policy: api.TrafficPolicy, port: Port, mesh: MeshConfig, *, legacy: bool) -> Json:
    """Load balancing, limits, outlier detection and protocol of a cluster; TLS is `tls.upstream`'s."""
    fields: Json = _load_balancer(policy, legacy=legacy)
    pool = policy.get("connectionPool") or {}
    tcp, http = pool.get("tcp") or {}, pool.get("http") or {}
    fields["connect_timeout"] = duration(tcp.get("connectTimeout") or mesh.connect_timeout)
    fields["circuit_breakers"] = {
        "thresholds": [
            {
                "max_connections": tcp.get("maxConnections") or NO_LIMIT,
                "max_pending_requests": http.get("http1MaxPendingRequests") or NO_LIMIT,
                "max_requests": http.get("http2MaxRequests") or NO_LIMIT,
                "max_retries": http.get("maxRetries") or NO_LIMIT,
                "track_remaining": True,
            }
        ]
    }
    if keepalive := tcp.get("tcpKeepalive"):
        fields["upstream_connection_options"] = {"tcp_keepalive": _keepalive(keepalive)}
    common: Json = {}
    if http.get("maxRequestsPerConnection"):
        common["max_requests_per_connection"] = http["maxRequestsPerConnection"]
    if idle := (http.get("idleTimeout") or tcp.get("idleTimeout")):
        common["idle_timeout"] = duration(idle)
    if tcp.get("maxConnectionDuration"):
        common["max_connection_duration"] = duration(tcp["maxConnectionDuration"])
    options = _protocol(port, http)
    if common:
        options["common_http_protocol_options"] = common
        options.setdefault("explicit_http_config", {"http_protocol_options": {}})
    if options:
        fields["typed_extension_protocol_options"] = {f"{_HTTP_OPTIONS}": typed(_HTTP_OPTIONS, **options)}
    detection = policy.get("outlierDetection")
    panic = 0.0
    if detection is not None:
        fields["outlier_detection"] = _outlier(detection, legacy=legacy)
        panic = float(detection.get("minHealthPercent") or 0)
    fields["common_lb_config"] = {"healthy_panic_threshold": {"value": panic}, **fields.pop("common_lb_config", {})}
    return fields


def _protocol(port: Port, http: api.HTTPSettings) -> Json:
    upgrade = http.get("h2UpgradePolicy") == "UPGRADE" and port.http
    if port.protocol in ("HTTP2", "GRPC", "GRPC-WEB") or upgrade:
        return {"explicit_http_config": {"http2_protocol_options": {}}}
    if port.protocol == "AUTO" or http.get("useClientProtocol"):
        return {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}
    return {}


def _load_balancer(policy: api.TrafficPolicy, *, legacy: bool) -> Json:
    balancer = policy.get("loadBalancer") or {}
    ring = balancer.get("consistentHash")
    if ring:
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
    warmup = balancer.get("warmup") or (
        {"duration": balancer["warmupDurationSecs"]} if balancer.get("warmupDurationSecs") else None
    )
    if warmup and name in ("ROUND_ROBIN", "LEAST_REQUEST"):
        key = "round_robin_lb_config" if name == "ROUND_ROBIN" else "least_request_lb_config"
        fields[key] = {"slow_start_config": {"slow_start_window": duration(warmup["duration"])}}
    return fields


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
    if (errors := detection.get("consecutiveErrors")) is not None:
        name = "consecutive_gateway_failure" if legacy else "consecutive_5xx"
        fields.setdefault(name, errors)
        fields.setdefault(f"enforcing_{name}", 100 if errors > 0 else 0)
        if legacy:
            fields.setdefault("enforcing_consecutive_5xx", 0)
    if detection.get("interval"):
        fields["interval"] = duration(detection["interval"])
    if detection.get("baseEjectionTime"):
        fields["base_ejection_time"] = duration(detection["baseEjectionTime"])
    fields["max_ejection_percent"] = detection.get("maxEjectionPercent") or 10
    if detection.get("splitExternalLocalOriginErrors"):
        fields["split_external_local_origin_errors"] = True
        if local := detection.get("consecutiveLocalOriginFailures"):
            fields["consecutive_local_origin_failure"] = local
            fields["enforcing_consecutive_local_origin_failure"] = 100
    return fields
