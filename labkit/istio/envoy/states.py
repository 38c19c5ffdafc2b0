# SPDX-License-Identifier: Apache-2.0
"""An Envoy's configuration as tables: what listens, what is routed where, what stands behind, who it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from labkit.cluster import Obj
from labkit.istio.envoy import matching
from labkit.istio.envoy.differences import short
from labkit.istio.envoy.dump import Dump, address_of, config_of

__all__ = ["leads_to", "manager_of", "origin", "rows", "tls_of", "weighted"]

_COLUMNS = {
    "listeners": ["listener", "address", "chain", "match", "leads_to"],
    "routes": ["table", "host", "domains", "match", "leads_to"],
    "clusters": ["cluster", "type", "lb_policy", "tls", "from"],
    "endpoints": ["cluster", "address", "weight", "health", "workload"],
    "secrets": ["secret", "kind", "names", "valid_from", "expires"],
}


def rows(dump: Dump, kind: str, first: Collection[str] = (), namespace: str = "") -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of what there is now; Istio's own Services come late, what Envoy began with last.

    Args:
        dump: The configuration.
        kind: One of `dump.KINDS`.
        first: Names of what comes first: hosts, clusters …
        namespace: Whose hosts come next.
    """
    place = 1 if kind == "routes" else 0
    # A gateway is in Istio's namespace, and what is asked of it is seldom about that.
    given, near = dump.of(kind), ".svc." if namespace == "istio-system" else f".{namespace}."

    def rank(row: list[Any]) -> int:
        if row[place] in first or not given[row[0]].version:
            return 0 if row[place] in first else 4
        said = " ".join(map(str, row))
        return 3 if ".istio-system." in said else 1 if near in said else 2

    return _COLUMNS[kind], sorted(_ROWS[kind](dump), key=rank)


def _listeners(dump: Dump) -> Iterator[list[Any]]:
    for name, one in dump.listeners.items():
        chains = [*(one.body.get("filter_chains") or [])]
        if "default_filter_chain" in one.body:
            chains.append({"name": "default", **one.body["default_filter_chain"]})
        for chain in chains:
            where = address_of(one.body.get("address") or {})
            yield [name, where, chain.get("name", ""), short(chain.get("filter_chain_match")), _end_of(chain)]


def manager_of(chain: Mapping[str, Any]) -> Obj | None:
    """The settings of a chain's HTTP connection manager; None where it passes on bytes."""
    for one in chain.get("filters") or []:
        if "http_connection_manager" in str(one.get("name", "")):
            return config_of(one)
    return None


def _end_of(chain: Mapping[str, Any]) -> str:
    manager = manager_of(chain)
    if manager is not None:
        return f"routes {table_of(manager)}"
    for one in chain.get("filters") or []:
        if "tcp_proxy" in str(one.get("name", "")):
            return ", ".join(f"cluster {name}" for name, _ in weighted(config_of(one)))
    return ""


def table_of(manager: Mapping[str, Any]) -> str:
    """The name of the route table that a connection manager follows."""
    own = manager.get("route_config") or {}
    return str((manager.get("rds") or {}).get("route_config_name") or own.get("name", ""))


def weighted(action: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The clusters of a route's action or of a TCP proxy, with weights."""
    if action.get("cluster"):
        return [(str(action["cluster"]), 1)]
    several = (action.get("weighted_clusters") or {}).get("clusters") or []
    return [(str(one.get("name", "")), int(one.get("weight", 0))) for one in several]


def leads_to(route: Mapping[str, Any]) -> str:
    """What becomes of a request that a route takes, in words."""
    if "redirect" in route:
        return f"redirect {short(route['redirect'])}"
    if "direct_response" in route:
        return f"Envoy answers {route['direct_response'].get('status', '')}"
    action = route.get("route") or {}
    targets = weighted(action)
    if not targets:
        return (
            f"the cluster named in header {action['cluster_header']}" if "cluster_header" in action else short(action)
        )
    total = sum(weight for _, weight in targets) or 1
    if len(targets) == 1:
        return targets[0][0]
    return "\n".join(f"{weight / total:.0%} {name}" for name, weight in targets)


def _routes(dump: Dump) -> Iterator[list[Any]]:
    for table, one in dump.routes.items():
        for host in one.body.get("virtual_hosts") or []:
            for route in host.get("routes") or []:
                domains = ", ".join(host.get("domains") or [])
                said = matching.words(route.get("match") or {})
                yield [table, host.get("name", ""), domains, said, leads_to(route)]


def origin(body: Mapping[str, Any]) -> str:
    """The object of Istio's that something comes from, as its metadata says: "virtual-service bookinfo/reviews"."""
    path = str((((body.get("metadata") or {}).get("filter_metadata") or {}).get("istio") or {}).get("config", ""))
    parts = path.split("/")
    return f"{parts[-2]} {parts[-3]}/{parts[-1]}" if len(parts) > 3 else path


def tls_of(cluster: Mapping[str, Any]) -> list[tuple[Mapping[str, str], Obj | None]]:
    """How connections to a cluster are wrapped: by what is known of an endpoint, the TLS settings (None: plain)."""
    matches = cluster.get("transport_socket_matches")
    if matches is None:
        return [({}, _context(cluster.get("transport_socket")))]
    return [(one.get("match") or {}, _context(one.get("transport_socket"))) for one in matches]


def _context(socket: Mapping[str, Any] | None) -> Obj | None:
    """The TLS settings of a transport socket, which may lie in another one that sends a header first."""
    config = config_of(socket or {})
    if "transport_socket" in config:
        return _context(config["transport_socket"])
    return config if "common_tls_context" in config else None


def _clusters(dump: Dump) -> Iterator[list[Any]]:
    for name, one in dump.clusters.items():
        kinds = dict.fromkeys(_tls_words(match, context) for match, context in tls_of(one.body))
        kind = one.body.get("type") or str((one.body.get("cluster_type") or {}).get("name", "")).rpartition(".")[2]
        yield [name, kind or "STATIC", one.body.get("lb_policy", "ROUND_ROBIN"), ", ".join(kinds), origin(one.body)]


def _tls_words(match: Mapping[str, str], context: Obj | None) -> str:
    if context is None:
        return "plain"
    common = context["common_tls_context"]
    mutual = "tls_certificate_sds_secret_configs" in common or "tls_certificates" in common
    return ("mutual TLS" if mutual else "TLS") + (" where the endpoint has it" if match else "")


def _endpoints(dump: Dump) -> Iterator[list[Any]]:
    for name, one in dump.endpoints.items():
        for end in one.body["endpoints"]:
            about = end["metadata"].get("istio") or {}
            workload = str(about.get("workload", "")).split(";")[0]
            yield [name, end["address"], end["weight"], end["trouble"] or "healthy", workload]


def _secrets(dump: Dump) -> Iterator[list[Any]]:
    for name, one in dump.secrets.items():
        body = one.body
        names = ", ".join(body.get("names") or [])
        yield [name, body["kind"], names, body.get("valid_from", ""), body.get("expires", "")]


_ROWS = {
    "listeners": _listeners,
    "routes": _routes,
    "clusters": _clusters,
    "endpoints": _endpoints,
    "secrets": _secrets,
}
