# SPDX-License-Identifier: Apache-2.0
"""What a proxy does with what comes in, told of a configuration: istiod's own or ours, in the same words.

Which of a listener's chains a connection gets, whether TLS is ended there and of whom a certificate is asked, which
filters a request meets in which order, what they say to given calls, and where it goes from there.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from meshbox.values import clone

from .istiods_rbac import judged, shadowed

Json = dict[str, Any]

WIRES: dict[str, Json] = {
    "plain http/1.1": {"tls": False, "alpn": "http/1.1"},
    "plain http/1.0": {"tls": False, "alpn": "http/1.0"},
    "plain h2c": {"tls": False, "alpn": "h2c"},
    "plain bytes": {"tls": False, "alpn": ""},
    "tls": {"tls": True, "alpn": ""},
    "tls h2": {"tls": True, "alpn": "h2"},
    # As sidecars offer it; with bytes ours names one more.
    "mtls bytes": {"tls": True, "alpn": "istio-raw istio-peer-exchange istio"},
    "mtls http/1.1": {"tls": True, "alpn": "istio-http/1.1 istio http/1.1"},
    "mtls h2": {"tls": True, "alpn": "istio-h2 istio h2"},
}

_RBAC = "envoy.filters.http.rbac"
_FORM = {"name", "stat_prefix", "alt_stat_name", "rds", "route_config", "http_filters", "access_log", "@type"}
_FORM |= {"request_id_extension", "generate_request_id", "tracing", "early_header_mutation_extensions"}
_BESIDES = {"istio.metadata_exchange", "envoy.filters.http.grpc_stats", "istio.stats", "istio.alpn", "istio_authn"}
_BESIDES |= {"istio.peer_headers", "istio.peer_metadata", "istio.strip_peer_headers", "istio.request_protocol"}
_BESIDES |= {"istio.rbac.deny", "istio.rbac.allow", "envoy.filters.http.rbac", "envoy.filters.network.rbac"}
_BESIDES |= {"labkit.ends", "labkit.own_user", "envoy.filters.http.header_mutation", "istio.workload_discovery"}
_USUAL = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"]
_USUAL += ["ECDHE-RSA-AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-GCM-SHA256"]
_STATUSES = {one.phrase.replace(" ", "").lower(): one.value for one in HTTPStatus}
_NO_LIMIT = 4294967295


def plain(value: Any) -> Any:
    """Without what is as if it were not there."""
    if isinstance(value, dict):
        found = {key: plain(one) for key, one in value.items() if key != "@type"}
        return {key: one for key, one in found.items() if one not in (None, False, "", [], {}, 0, "0s")}
    return [plain(one) for one in value] if isinstance(value, list) else value


class Answer:
    """All that a proxy was told."""

    def __init__(self, told: Json) -> None:
        self._listeners = told["listeners"]
        self._routes = {one["name"]: one for one in told["routes"]}
        self._clusters = {one["name"]: one for one in told["clusters"]}

    def incoming(self, ports: list[int], wires: dict[str, Json], calls: list[Json]) -> Json:
        """What becomes of each kind of connection to each port: chains, and which of them it gets."""
        chains: list[str] = []
        ways: dict[str, str] = {}
        for port in ports:
            listener = self._listener(port)
            for wire in wires.values():
                chain = picked(listener.get("filter_chains") or [], seen(listener, {**wire, "port": port}))
                said = "closed" if chain is None else json.dumps(self._told(chain, port, wire, calls), sort_keys=True)
                if said not in chains:
                    chains.append(said)
                ways.setdefault(str(port), "")
                ways[str(port)] += chr(ord("a") + chains.index(said))
        return {"chains": [one if one == "closed" else json.loads(one) for one in chains], "ways": ways}

    def _listener(self, port: int) -> Json:
        # Here each port has a listener, where istiod has all of them in one.
        by_name = {one["name"]: one for one in self._listeners}
        return by_name.get(f"virtualInbound_{port}") or by_name.get("virtualInbound") or {}

    def _told(self, chain: Json, port: int, wire: Json, calls: list[Json]) -> Json:
        found: Json = {"tls": tls_facts(chain)}
        here = [{**call, "port": port, "who": call["who"] if found["tls"].get("client") else ""} for call in calls]
        last = chain["filters"][-1]
        config = last["typed_config"]
        filters = chain["filters"][:-1]
        if found["tls"] and not last["name"].endswith("http_connection_manager"):
            found["tls"].pop("alpn", None)
        found["filters"] = [one["name"] for one in filters if one["name"] not in _BESIDES]
        if last["name"].endswith("http_connection_manager"):
            return {**found, **self._http(config, here)}
        network = [one["typed_config"] for one in filters if one["name"] == "envoy.filters.network.rbac"]
        none = [{**call, "headers": {}, "said": {}} for call in here]
        found["calls"] = "".join(_verdict(network, call) for call in none)
        found["logs"] = logs(config)
        found["idle"] = config.get("idle_timeout", "")
        return {**found, "to": self.cluster(config.get("cluster", ""), port)}

    def _http(self, config: Json, calls: list[Json]) -> Json:
        table = config.get("route_config") or self._routes.get((config.get("rds") or {}).get("route_config_name"), {})
        per_route = table.get("typed_per_filter_config") or {}
        rbac = []
        for one in config["http_filters"]:
            own = one.get("typed_config") or {}
            if own.get("@type", "").endswith("filters.http.rbac.v3.RBAC"):
                rbac.append({**own, **(per_route.get(one["name"]) or {}).get("rbac", {})})
        found = {**http_facts(config), "calls": "".join(_verdict(rbac, call) for call in calls)}
        hosts = table.get("virtual_hosts") or []
        found["routes"] = [
            plain({key: value for key, value in route.items() if key not in ("decorator", "name", "metadata")})
            for host in hosts
            for route in host["routes"]
        ]
        if len(found["routes"]) == 1:
            name = (found["routes"][0].get("route") or {}).pop("cluster", "")
            found["to"] = self.cluster(name, calls[0]["port"] if calls else 0)
        return found

    def cluster(self, name: str, port: int) -> Json:
        """What is behind a cluster of the application's."""
        body = self._clusters.get(name)
        if body is None:
            return {"cluster": name}
        ends = [
            end["endpoint"]["address"]
            for place in (body.get("load_assignment") or {}).get("endpoints") or []
            for end in place["lb_endpoints"]
        ]
        found: Json = {"port": port}
        if ends:
            where = ends[0].get("socket_address")
            found = {"port": where["port_value"]} if where else {"pipe": ends[0]["pipe"]["path"]}
        options = [plain(one) for one in (body.get("typed_extension_protocol_options") or {}).values()]
        if options and options[0]:
            found["options"] = options[0]
        for kind in ("connect_timeout", "upstream_connection_options"):
            if body.get(kind):
                found[kind] = body[kind]
        limits = ((body.get("circuit_breakers") or {}).get("thresholds") or [{}])[0]
        limits = {key: value for key, value in limits.items() if value not in (_NO_LIMIT, True)}
        return {**found, **({"limits": limits} if limits else {})}


def http_facts(config: Json) -> Json:
    """What a connection manager does with any request."""
    filters = [one for one in config["http_filters"] if one["name"] not in _BESIDES]
    return {
        "http": plain({key: value for key, value in config.items() if key not in _FORM}),
        "filters": [one["name"] for one in filters],
        "settings": {one["name"]: plain(told) for one in filters if (told := _settings(one["typed_config"]))},
        "logs": logs(config),
        "spans": _spans(config.get("tracing")),
    }


def _settings(config: Json) -> Json:
    found: Json = {key: clone(value) for key, value in config.items() if key not in ("@type", "stat_prefix")}
    # Which calls are asked about is told among the calls.
    found.pop("filter_enabled_metadata", None)
    for provider in (found.get("providers") or {}).values():
        provider["normalize_payload_in_metadata"]["space_delimited_claims"].sort()
        # Keys that cannot be had are made up by whoever makes the configuration.
        kept = '"kid":"a"' in provider["local_jwks"]["inline_string"].replace(" ", "")
        provider["local_jwks"] = "own keys" if kept else "nobody's"
    if isinstance(code := found.get("status_on_error", {}).get("code"), str):
        found["status_on_error"] = {"code": _STATUSES[code.lower()]}
    return found


def _verdict(filters: list[Json], call: Json) -> str:
    """One letter of a call: 1 it passes, 0 not; a letter where somebody else is asked; and what dry runs say."""
    asked, passes, shadow = False, True, ""
    for one in filters:
        if one.get("shadow_rules_stat_prefix") == "istio_ext_authz_" and "shadow_rules" in one:
            asked = asked or shadowed(one, call) is False
        elif (said := shadowed(one, call)) is not None:
            shadow += "+" if said else "-"
        passes = passes and judged(one, call)
    return ("10"[not passes] if not asked else "an"[not passes]) + shadow


def tls_facts(chain: Json) -> Json:
    config = (chain.get("transport_socket") or {}).get("typed_config")
    if config is None:
        return {}
    common = config.get("common_tls_context") or {}
    params = common.get("tls_params") or {}
    valid = (common.get("combined_validation_context") or {}).get("default_validation_context") or {}
    valid = valid or common.get("validation_context") or {}
    names = [one.get("matcher", one) for one in valid.get("match_typed_subject_alt_names") or []]
    return _said(
        {
            "client": config.get("require_client_certificate", False),
            # What Envoy does by itself.
            "least": params.get("tls_minimum_protocol_version", "").removeprefix("TLSv1_2"),
            "most": params.get("tls_maximum_protocol_version", "").removeprefix("TLSv1_3"),
            "ciphers": [] if params.get("cipher_suites") == _USUAL else params.get("cipher_suites") or [],
            "alpn": common.get("alpn_protocols") or [],
            "names": sorted(names or valid.get("match_subject_alt_names") or [], key=str),
            "secrets": [one["name"] for one in common.get("tls_certificate_sds_secret_configs") or []],
            "hashes": valid.get("verify_certificate_hash") or [],
            "spki": valid.get("verify_certificate_spki") or [],
        }
    )


def _said(found: Json) -> Json:
    return dict(plain(found))


def logs(config: Json) -> list[Json]:
    found = []
    for log in config.get("access_log") or []:
        own = log["typed_config"]
        if own["@type"].endswith("FileAccessLog"):
            asked = json.dumps(log.get("filter") or {}, sort_keys=True)
            expression = ""
            if "expression" in asked:
                expression = asked.partition('"expression": "')[2].partition('"}')[0]
            found.append({"path": own["path"], **({"when": expression} if expression else {})})
    return found


def _spans(tracing: Json | None) -> Json | None:
    if tracing is None or "provider" not in tracing:
        return None
    tags = {one["tag"]: plain({k: v for k, v in one.items() if k != "tag"}) for one in tracing.get("custom_tags") or []}
    return {
        "share": float((tracing.get("random_sampling") or {}).get("value", 0)),
        "tags": {name: tag for name, tag in tags.items() if not name.startswith("istio.")},
        "to": (tracing.get("provider") or {}).get("name", ""),
    }


def seen(listener: Json, wire: Json) -> Json:
    """What a listener finds out of a connection: nothing where it does not look."""
    looks = {
        one["name"].rpartition(".")[2]
        for one in listener.get("listener_filters") or []
        if not _matches(one.get("filter_disabled"), wire["port"])
    }
    if wire["tls"]:
        return wire if "tls_inspector" in looks else {**wire, "tls": False, "alpn": "", "sni": ""}
    return wire if "http_inspector" in looks else {**wire, "alpn": ""}


def _matches(where: Json | None, port: int) -> bool:
    if not where:
        return False
    if "or_match" in where:
        return any(_matches(one, port) for one in where["or_match"]["rules"])
    if "not_match" in where:
        return not _matches(where["not_match"], port)
    ports = where["destination_port_range"]
    return bool(ports.get("start", 0) <= port < ports["end"])


def picked(chains: list[Json], wire: Json) -> Json | None:
    """The chain that Envoy chooses: step by step the most specific, and never back."""
    left = chains

    def narrowed(key: str, *wanted: Any) -> list[Json]:
        for one in wanted:
            some = [c for c in left if one in _values(c, key)]
            if some:
                return some
        return [c for c in left if not _values(c, key)]

    left = narrowed("destination_port", wire.get("port"))
    name = wire.get("sni", "")
    parts = name.split(".")
    left = narrowed(
        "server_names", *([name] if name else []), *(f"*.{'.'.join(parts[n:])}" for n in range(1, len(parts)))
    )
    left = narrowed("transport_protocol", "tls" if wire["tls"] else "raw_buffer")
    left = narrowed("application_protocols", *wire["alpn"].split())
    return left[0] if left else None


def _values(chain: Json, key: str) -> list[Any]:
    found = (chain.get("filter_chain_match") or {}).get(key)
    if found is None:
        return []
    return found if isinstance(found, list) else [found]
