# SPDX-License-Identifier: Apache-2.0
"""What a proxy does with what it calls, told of a configuration: istiod's own or ours, in one form.

What only serves metrics, logs, istioctl and debugging is left out, and so is what Envoy does without being told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from labkit.ground.names import is_ip

__all__ = ["answer", "differences", "patched"]

Json = dict[str, Any]

_SECONDS = re.compile(r"^-?\d+(\.\d+)?s$")
_OF = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}

_TOLD = """
    alt_stat_name stat_prefix access_log tracing decorator metadata @type stat_name runtime_key access_log_options
    proxy_protocol_tlvs proxy_protocol_tlv_merge_policy track_remaining filters eds_cluster_config load_assignment
    dns_jitter typed_dns_resolver_config
"""
_TOLD_ONLY = frozenset(_TOLD.split())
# Lists whose order says nothing.
_UNORDERED = frozenset(
    f"{way}_headers_to_{what}" for way in ("request", "response") for what in ("add", "remove")
) | frozenset(("headers", "query_parameters"))
# Fields of which false is not the same as nothing.
_SAID = frozenset(("forward_not_matching_preflights", "allow_credentials"))
_NUMBERS = ("host_selection_retry_max_attempts", "minimum_ring_size", "maximum_ring_size", "table_size", "max_age")
_MOST = 4294967295
_VERSIONS = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
# The last ones are Istio's own for all that it says nothing of.
_DEFAULTS: dict[str, list[Any]] = {
    "case_sensitive": [True],
    "type": ["STATIC"],
    "lb_policy": ["ROUND_ROBIN"],
    "response_code": ["MOVED_PERMANENTLY"],
    "append_action": ["APPEND_IF_EXISTS_OR_ADD"],
    "include_request_attempt_count": [True],
    "update_merge_window": [0],
    "max_ejection_percent": [10],
    "min_weight_percent": [{"value": 10}],
    "aggression": [{"default_value": 1}],
    "common_http_protocol_options": [{}],
    "connect_timeout": [10],
    "retry_on": ["connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"],
    "host_selection_retry_max_attempts": [5],
    **{f"max_{what}": [_MOST] for what in ("connections", "pending_requests", "requests", "retries")},
    "circuit_breakers": [{"thresholds": [{}]}],
}
# Which protocols only carry who calls: Istio's own, and ours.
_CARRIERS = ("istio-peer-exchange", "istio-raw")
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def _plain(value: Any, key: str = "") -> Any:
    """JSON with times and shares as numbers, and without what is only told and what is so anyway."""
    if isinstance(value, dict):
        if value and value.keys() <= {"numerator", "denominator"}:
            return float(value.get("numerator", 0)) * 100 / _OF[value.get("denominator", "HUNDRED")]
        found = {name: _plain(each, name) for name, each in value.items() if name not in _TOLD_ONLY}
        return {name: one for name, one in found.items() if not _nothing(name, one)}
    if isinstance(value, list):
        each = [_plain(one, key) for one in value]
        return sorted(each, key=str) if key in _UNORDERED else each
    if isinstance(value, str) and _SECONDS.match(value):
        return float(value[:-1])
    if isinstance(value, str) and key in _NUMBERS and value.isdigit():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _nothing(name: str, value: Any) -> bool:
    if value is False:
        return name not in _SAID
    if name == "value" and value == 0:
        return True
    return value in (None, []) or (value == "" and name != "exact") or value in _DEFAULTS.get(name, ())


def answer(
    listeners: Iterable[Json], tables: Iterable[Json], called: Iterable[Json], endpoints: Iterable[Json]
) -> Json:
    """The resources that a sidecar is told for its outbound side, by kind and by what they are for."""
    return {
        "listeners": dict(_listening(listeners)),
        "routes": dict(_routes(tables)),
        "clusters": dict(_clusters(called, endpoints)),
    }


def _routes(tables: Iterable[Json]) -> Iterator[tuple[str, Json]]:
    """Port and host → its other names and its routes."""
    for table in tables:
        if table["name"].startswith("inbound") or table["name"] in ("http_proxy", "InboundPassthroughCluster"):
            continue
        # A port that may speak anything has a table of its own with Istio, where every name is its host's.
        own, _, port = table["name"].rpartition(":")
        for host in table["virtual_hosts"]:
            if own and host["name"] in ("allow_any", "block_all"):
                continue
            domains = sorted({domain.removesuffix(f":{port}") for domain in host["domains"]})
            fact = {"domains": [] if own else domains, "routes": [_route(one) for one in host["routes"]]}
            yield f"{port} {own or host['name'].rpartition(':')[0] or host['name']}", fact


def _route(given: Json) -> Json:
    found: Json = _plain(given)
    found.pop("name", None)
    action = found.get("route") or {}
    if len(several := (action.get("weighted_clusters") or {}).get("clusters") or []) == 1:
        # What is said of one of one is as good as said of the route itself.
        (one,) = several
        action.pop("weighted_clusters")
        action["cluster"] = one["name"]
        for key in _UNORDERED & one.keys():
            found[key] = sorted([*found.get(key, []), *one[key]], key=str)
        action |= {key: one[key] for key in ("host_rewrite_literal",) if key in one}
    if (retry := action.get("retry_policy")) is not None:
        retry |= {"retry_on": retry["retry_on"].lstrip(",")} if "retry_on" in retry else {}
        for key in ("retry_host_predicate", "retry_priority"):
            if key in retry:
                retry[key] = str(retry[key]).count("previous_")
    if action:
        # Said where it is not as usual.
        longest = action.pop("timeout", 15)
        grpc = action.pop("max_grpc_timeout", None)
        usual = retry == {"num_retries": 2, "retry_host_predicate": 1}
        action |= {"timeout": longest} if longest else {}
        action |= {"grpc": grpc} if grpc != longest else {}
        action["retry_policy"] = retry or "never"
        found["route"] = {key: one for key, one in action.items() if key != "retry_policy" or not usual}
        action = found["route"]
    if found["match"] == {"prefix": "/"}:
        found.pop("match")
    if (rewrite := action.get("regex_rewrite") or {}).get("pattern") == {"regex": "^[^?]*"}:
        # The whole path of what a pattern matched.
        action.pop("regex_rewrite")
        action["prefix_rewrite"] = rewrite["substitution"]
    filters = found.get("typed_per_filter_config") or {}
    cors = filters.get("envoy.filters.http.cors")
    if cors is not None:
        cors.pop("forward_not_matching_preflights", None) if cors.get("forward_not_matching_preflights") else None
        for one in cors.get("allow_origin_string_match") or []:
            if one == {"safe_regex": {"regex": ".*"}}:
                one.clear()
                one["exact"] = "*"
        if not cors.get("allow_origin_string_match"):
            # Nobody's request is answered.
            filters.pop("envoy.filters.http.cors")
    for each in (filters.get("envoy.filters.http.fault") or {}).values():
        each["percentage"] = each.get("percentage") or 0.0
    if not filters:
        found.pop("typed_per_filter_config", None)
    return found


def _clusters(given: Iterable[Json], endpoints: Iterable[Json]) -> Iterator[tuple[str, Json]]:
    """Name → how it is called and where it leads."""
    told = {one["cluster_name"]: one for one in endpoints}
    for one in given:
        if one["name"].startswith("outbound|"):
            yield one["name"], _cluster(one, told.get(one["name"]) or one.get("load_assignment") or {})


def _cluster(one: Json, leads: Json) -> Json:
    made: Json = _plain(one)
    made.pop("name")
    matched = len({_mode(each) for each in made.get("transport_socket_matches", [])}) > 1
    places = [_place(each, told=matched) for each in leads.get("endpoints") or []]
    made["leads"] = sorted((each for each in places if each["to"]), key=str)
    made["sockets"] = _sockets(made)
    if all(is_ip(to[0].rpartition(":")[0]) for each in made["leads"] for to in each["to"]):
        # Addresses are not looked up, whoever is asked to.
        made["type"] = "EDS" if made.get("type", "").endswith("_DNS") else made.get("type")
        for key in ("dns_lookup_family", "dns_refresh_rate", "respect_dns_ttl"):
            made.pop(key, None)
    common = made.pop("common_lb_config", {})
    if all(each["weight"] == sum(weight for _, weight, *_ in each["to"]) for each in made["leads"]):
        # Places that weigh as much as what is there.
        common.pop("locality_weighted_lb_config", None)
    if "locality_weighted_lb_config" not in common:
        for each in made["leads"]:
            each.pop("weight")
    panic = (common.pop("healthy_panic_threshold", None) or {}).get("value", 0)
    if panic and "outlier_detection" in made:
        # Who is never ejected is never missed.
        common["healthy_panic_threshold"] = panic
    options = (made.get("typed_extension_protocol_options") or {}).get(_OPTIONS)
    if options == {"explicit_http_config": {"http_protocol_options": {}}}:
        made.pop("typed_extension_protocol_options")
    return {**made, **({"common_lb_config": common} if common else {})}


def _place(each: Json, *, told: bool) -> Json:
    where = each.get("locality") or {}
    name = "/".join(where.get(key, "") for key in ("region", "zone", "sub_zone")).rstrip("/")
    to = sorted((_endpoint(one, told=told) for one in each.get("lb_endpoints") or []), key=str)
    return {"at": name, "priority": each.get("priority", 0), "weight": each.get("load_balancing_weight", 0), "to": to}


def _endpoint(one: Json, *, told: bool) -> list[Any]:
    address = one["endpoint"]["address"]
    socket = address.get("socket_address")
    where = f"{socket['address']}:{socket['port_value']}" if socket else address["pipe"]["path"]
    said = ((one.get("metadata") or {}).get("filter_metadata") or {}).get("envoy.transport_socket_match") or {}
    return [where, one.get("load_balancing_weight", 1), said.get("tlsMode", "") if told else ""]


def _mode(one: Json) -> str:
    return str((one.get("match") or {}).get("tlsMode", ""))


def _sockets(made: Json) -> Json:
    """What the endpoints say of themselves → how they are talked to."""
    found: Json = {}
    for one in made.pop("transport_socket_matches", []):
        # Whether there is a proxy beside is asked for our own ways of saying who calls.
        if "proxy" not in (one.get("match") or {}):
            found.setdefault(_mode(one), _socket(one["transport_socket"]))
    if "transport_socket" in made:
        found.setdefault("", _socket(made.pop("transport_socket")))
    return found or {"": "raw"}


def _socket(one: Json) -> Any:
    config, kind = one.get("typed_config") or {}, one["name"].rpartition(".")[2]
    if kind == "raw_buffer":
        return "raw"
    if kind == "upstream_proxy_protocol":
        inner, said = _socket(config["transport_socket"]), config.get("config") or {}
        # Where there is mTLS ours say who calls in such a header.
        own = "pass_through_tlvs" in said and inner != "raw" and str(inner.get("sni")).startswith("outbound_")
        return inner if own else {"proxy_protocol": said.get("version", "V1"), "over": inner}
    common = config.get("common_tls_context") or {}
    validation = common.get("combined_validation_context") or {}
    default = {**(common.get("validation_context") or {}), **(validation.get("default_validation_context") or {})}
    sans = default.get("match_typed_subject_alt_names") or default.get("match_subject_alt_names") or []
    params = common.get("tls_params")
    found = {
        "sni": config.get("sni"),
        "certificates": [one.get("name") for one in common.get("tls_certificate_sds_secret_configs") or []],
        "trusted": (validation.get("validation_context_sds_secret_config") or {}).get("name"),
        "sans": sorted({str(one.get("matcher", one)) for one in sans}),
        "alpn": [name for name in common.get("alpn_protocols") or [] if name not in _CARRIERS],
        "params": None if params == _VERSIONS else params or {},
    }
    if found["certificates"] == ["default"] and found["trusted"] == "ROOTCA":
        # As one sidecar calls another.
        found |= {"certificates": None, "trusted": None, "mtls": True}
    return {key: value for key, value in found.items() if value not in (None, [])}


def _listening(given: Iterable[Json]) -> Iterator[tuple[str, list[Json]]]:
    """Address → its chains: what each is for, and where it leads."""
    for one in given:
        where = (one.get("address") or {}).get("socket_address") or {}
        if one.get("traffic_direction") == "OUTBOUND" and one["name"] not in ("virtualOutbound", "http_proxy"):
            rest = [one["default_filter_chain"]] if "default_filter_chain" in one else []
            chains = (_chain(each) for each in (*(one.get("filter_chains") or []), *rest))
            found = [part for chain in chains for part in _each_range(chain)]
            found.sort(key=lambda chain: ("http" not in chain, str(chain)))
            yield f"{where.get('address')}:{where.get('port_value')}", found


def _each_range(chain: Json) -> Iterator[Json]:
    """A chain for several ranges is as good as one for each."""
    ranges = chain["match"].get("prefix_ranges") or []
    for one in ranges if len(ranges) > 1 else ():
        yield {**chain, "match": {**chain["match"], "prefix_ranges": [one]}}
    if len(ranges) < 2:
        yield chain


def _chain(one: Json) -> Json:
    match = dict(one.get("filter_chain_match") or {})
    found: Json = {"sniffed": True} if match.pop("application_protocols", None) else {}
    if match.get("transport_protocol") == "raw_buffer":
        match.pop("transport_protocol")
    found["match"] = match
    for each in one["filters"]:
        config = each["typed_config"]
        if each["name"].endswith("http_connection_manager"):
            found["http"] = config["rds"]["route_config_name"].rpartition(":")[2]
        elif each["name"].endswith("tcp_proxy"):
            found["tcp"] = _plain(config)
            if found["tcp"].get("idle_timeout") == 0:
                found["tcp"].pop("idle_timeout")
            several = (found["tcp"].get("weighted_clusters") or {}).get("clusters") or []
            if len(several) == 1:
                found["tcp"].pop("weighted_clusters")
                found["tcp"]["cluster"] = several[0]["name"]
    return found


def differences(one: Any, other: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Where two facts differ, and what each has there; None where it has nothing."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key not in one or key not in other:
                yield (*path, key), one.get(key), other.get(key)
            else:
                yield from differences(one[key], other[key], (*path, key))
    elif one != other:
        yield path, one, other


def patched(known: Json, changes: Iterable[tuple[list[str], Any]]) -> Json:
    """Facts with some of them changed, or gone where there is None: as `differences` finds them."""
    for path, value in changes:
        place = known
        for key in path[:-1]:
            place = place[key]
        if value is None:
            place.pop(path[-1], None)
        else:
            place[path[-1]] = value
    return known
