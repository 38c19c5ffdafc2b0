# SPDX-License-Identifier: Apache-2.0
"""What a proxy was told, as the console's tab Envoy shows it: whole, or as tables of clusters, listeners and routes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from labkit.ground.hosts import DOMAIN

__all__ = ["RESOURCES", "resource"]

Json = dict[str, Any]
_HTTP, _TCP = "envoy.filters.network.http_connection_manager", "envoy.filters.network.tcp_proxy"
_ISTIO = ["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"]
_APPLICATIONS = {
    ("http/1.0", "http/1.1", "h2c", *_ISTIO[1:]): "App: HTTP TLS",
    tuple(_ISTIO): "App: Istio HTTP Plain",
    ("istio-peer-exchange", "istio"): "App: TCP TLS",
    ("http/1.0", "http/1.1", "h2c"): "App: HTTP",
}
"""What Istio's usual lists of application protocols (ALPN) are called."""


def _config(dump: Json, kind: str) -> Json:
    """The part of a configuration dump that is of a type, "ClustersConfigDump"."""
    found = (one for one in dump.get("configs") or [] if str(one.get("@type", "")).endswith(f".{kind}"))
    return next(found, {})


def _host(name: str, namespaces: Collection[str]) -> Json:
    """A host in the parts that the console makes a link of; what is no Service has a name only."""
    service, place, rest = (*name.split(".", 2), "", "")[:3]
    if rest == DOMAIN or (not rest and place in namespaces):
        return {"service": service, "namespace": place, "cluster": rest}
    return {"service": name, "namespace": "", "cluster": ""}


def _clusters(dump: Json, namespaces: Collection[str]) -> Iterator[Json]:
    config = _config(dump, "ClustersConfigDump")
    for wrapped in [*(config.get("dynamic_active_clusters") or []), *(config.get("static_clusters") or [])]:
        cluster = wrapped.get("cluster") or {}
        host, rule = str(cluster.get("name", "")), ""
        found = {"port": 0, "subset": "", "direction": ""}
        parts = str(cluster.get("name", "")).split("|")
        if len(parts) > 3:
            # "outbound|9080|v1|reviews.bookinfo.svc.cluster.local"
            number = parts[1].removesuffix("_")
            found["port"] = int(number) if number.isdigit() else 0
            found |= {"subset": parts[2], "direction": parts[0].removesuffix("_")}
            host, rule = parts[3], _object(cluster)
        yield found | {
            "service_fqdn": _host(host, namespaces),
            "type": cluster.get("type", ""),
            "destination_rule": rule,
        }


def _object(one: Json) -> str:
    """Which of Istio's objects something was made from: "reviews.bookinfo"; "" for none."""
    metadata = ((one.get("metadata") or {}).get("filter_metadata") or {}).get("istio") or {}
    parts = str(metadata.get("config", "")).split("/")
    # "/apis/networking.istio.io/v1/namespaces/bookinfo/virtual-service/reviews"
    return f"{parts[7]}.{parts[5]}" if len(parts) == 8 and parts[2] == "networking.istio.io" else ""


def _listeners(dump: Json, _namespaces: Collection[str]) -> Iterator[Json]:
    config = _config(dump, "ListenersConfigDump")
    active = [(one.get("active_state") or {}).get("listener") for one in config.get("dynamic_listeners") or []]
    for listener in [*active, *(one.get("listener") for one in config.get("static_listeners") or [])]:
        address = ((listener or {}).get("address") or {}).get("socket_address") or {}
        chains = [*((listener or {}).get("filter_chains") or [])]
        chains += [listener["default_filter_chain"]] if listener and listener.get("default_filter_chain") else []
        for chain in chains:
            yield {
                "address": address.get("address", ""),
                "port": address.get("port_value", 0),
                "match": _condition(chain.get("filter_chain_match") or {}),
                "destination": _destination(chain.get("filters") or []),
            }


def _condition(match: Json) -> str:
    """Which connections a chain is for, in words."""
    said = []
    if names := match.get("server_names"):
        said.append(f"SNI: {', '.join(names)}")
    if transport := match.get("transport_protocol"):
        said.append(f"Trans: {transport}")
    if application := _APPLICATIONS.get(tuple(match.get("application_protocols") or ())):
        said.append(application)
    port = f":{match['destination_port']}" if match.get("destination_port") else ""
    ranges = [f"{one.get('address_prefix')}/{one.get('prefix_len', 0)}" for one in match.get("prefix_ranges") or []]
    if ranges or port:
        said.append(f"Addr: {', '.join(ranges) or '*'}{port}")
    return "; ".join(said) or "ALL"


def _destination(filters: list[Json]) -> str:
    """Where what comes is sent, in words."""
    for one in filters:
        typed = one.get("typed_config") or {}
        if one.get("name") == _TCP:
            return _named(str(typed.get("cluster", "")))
        if one.get("name") == _HTTP:
            if (table := typed.get("route_config")) is not None:
                return _inline(table)
            name = (typed.get("rds") or {}).get("route_config_name")
            return f"Route: {name}" if name else "HTTP"
    return "Non-HTTP/Non-TCP" if filters else ""


def _named(cluster: str) -> str:
    # Istio's own, such as PassthroughCluster, say it themselves.
    return cluster if "Cluster" in cluster else f"Cluster: {cluster}"


def _inline(table: Json) -> str:
    hosts = table.get("virtual_hosts") or []
    routes = [route for host in hosts for route in host.get("routes") or []]
    if len(hosts) == 1 and hosts[0].get("domains") == ["*"] and len(routes) == 1:
        cluster = (routes[0].get("route") or {}).get("cluster")
        if cluster and (routes[0].get("match") or {}).get("prefix", "/") == "/":
            return _named(cluster)
    said = []
    for host in hosts:
        domains = "" if host.get("domains") == ["*"] else "/".join(host.get("domains") or [])
        matches = ", ".join(_match(route.get("match") or {}) for route in host.get("routes") or [])
        said.append(f"{domains} {matches}".strip())
    return f"Inline Route: {'; '.join(said)}"


def _match(match: Json) -> str:
    """Which paths a route is for; headers are left out."""
    said = []
    if prefix := match.get("prefix"):
        said.append(f"{prefix}*")
    if path := match.get("path"):
        said.append(str(path))
    if regex := match.get("safe_regex"):
        said.append(f"regex {regex.get('regex', '')}")
    return " ".join(said)


def _routes(dump: Json, namespaces: Collection[str]) -> Iterator[Json]:
    config = _config(dump, "RoutesConfigDump")
    for wrapped in [*(config.get("dynamic_route_configs") or []), *(config.get("static_route_configs") or [])]:
        table = wrapped.get("route_config") or {}
        for host in table.get("virtual_hosts") or []:
            domain = _host(_shortest(host.get("domains") or []), namespaces)
            about = {"name": table.get("name", ""), "domains": domain}
            for route in host.get("routes") or []:
                action = route.get("route")
                if action is not None and action.get("cluster") != "PassthroughCluster":
                    yield about | {"match": _match(route.get("match") or {}), "virtual_service": _object(route)}
            if not host.get("routes"):
                yield about | {"match": "/*", "virtual_service": "404"}


def _shortest(domains: list[str]) -> str:
    """The shortest of a host's names, addresses left out."""
    names = [one for one in domains if one and not one[0].isdigit()] or domains
    return min(names, key=len, default="")


_TABLES: dict[str, Callable[[Json, Collection[str]], Iterator[Json]]] = {
    "clusters": _clusters,
    "listeners": _listeners,
    "routes": _routes,
}
RESOURCES = ("bootstrap", *_TABLES)
"""What may be asked for instead of the whole."""


def resource(dump: Json, name: str, namespaces: Collection[str]) -> Json:
    """A part of a proxy's configuration.

    Args:
        dump: Envoy's answer to /config_dump.
        name: One of RESOURCES.
        namespaces: Those of the cluster: a host is a Service where its second part is one of them.
    """
    if name == "bootstrap":
        return {"bootstrap": {"bootstrap": _config(dump, "BootstrapConfigDump")}}
    return {name: list(_TABLES[name](dump, namespaces))}
