# SPDX-License-Identifier: Apache-2.0
"""The graph's addresses: what is asked, and the graph with everything that is drawn on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labkit.ground.hosts import fqdn
from labkit.ground.routing import VirtualService, rule_host
from meshbox.images.kiali.elements import elements
from meshbox.images.kiali.graph import GRAPH_TYPES, Graph, GraphBuilder, Key
from meshbox.images.kiali.istio import Config
from meshbox.images.kiali.mesh import SYSTEM, Json, Mesh
from meshbox.images.kiali.sources import Prometheus
from meshbox.images.kiali.telemetry import TrafficQuery, flows, mutual_tls, response_times, seconds_of

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule

__all__ = ["around", "graph"]

Query = dict[str, list[str]]
_QUANTILES = ("0.5", "0.95", "0.99", "avg")


def _one(query: Query, name: str, default: str) -> str:
    return (query.get(name) or [default])[0] or default


def _traffic(query: Query, namespaces: tuple[str, ...]) -> TrafficQuery:
    at = float(_one(query, "queryTime", "0"))
    duration = seconds_of(_one(query, "duration", "60s"))
    if not duration:
        raise ValueError("duration must be more than 0")
    return TrafficQuery(namespaces, duration, at or None)


def _build(prometheus: Prometheus, asked: TrafficQuery, query: Query, graph_type: str) -> Graph:
    if graph_type not in GRAPH_TYPES:
        raise ValueError(f"graphType is one of {', '.join(GRAPH_TYPES)}, not {graph_type!r}")
    builder = GraphBuilder(graph_type, _one(query, "injectServiceNodes", "true") == "true")
    builder.add(flows(prometheus, asked))
    appenders = query.get("appenders")
    wanted = set(appenders[0].split(",")) if appenders else {"responseTime", "securityPolicy"}
    if "responseTime" in wanted and builder.graph.edges:
        quantile = _one(query, "responseTimeQuantile", _one(query, "responseTime", "0.95"))
        quantile = quantile if quantile in _QUANTILES else "0.95"
        for source, target, service, milliseconds in response_times(prometheus, asked, quantile):
            builder.add_time(source, target, service, milliseconds)
    if "securityPolicy" in wanted and builder.graph.edges:
        for source, target, service, policy, rate in mutual_tls(prometheus, asked):
            builder.add_security(source, target, service, policy, rate)
    return builder.graph


def _answer(found: Graph, asked: TrafficQuery, graph_type: str, boxes: str, mesh: Mesh, config: Config) -> Json:
    drawn = elements(found, asked.namespaces, [box for box in boxes.split(",") if box])
    _badges(drawn["nodes"], mesh, config)
    moment = int(asked.at or time.time())
    return {"timestamp": moment, "duration": asked.duration, "graphType": graph_type, "elements": drawn}


def graph(prometheus: Prometheus, mesh: Mesh, config: Config, query: Query) -> Json:
    """The graph of some namespaces.

    Raises:
        ValueError: no namespace is asked for, or a parameter is wrong.
        SourceError: Prometheus cannot be reached.
    """
    names = tuple(dict.fromkeys(name for name in _one(query, "namespaces", "").split(",") if name))
    if not names:
        raise ValueError("namespaces is missing: ?namespaces=bookinfo")
    graph_type = _one(query, "graphType", "workload")
    asked = _traffic(query, names)
    found = _build(prometheus, asked, query, graph_type)
    boxes = _one(query, "boxBy", "app" if graph_type in ("app", "versionedApp") else "none")
    return _answer(found, asked, graph_type, boxes, mesh, config)


def around(
    prometheus: Prometheus, mesh: Mesh, config: Config, query: Query, namespace: str, kind: str, name: str, version: str
) -> Json:
    """The part of a namespace's graph next to one app, Service or workload.

    Raises:
        ValueError: a parameter is wrong.
        SourceError: Prometheus cannot be reached.
    """
    default = {"applications": "app", "workloads": "workload"}.get(kind, "workload")
    graph_type = _one(query, "graphType", default)
    if kind == "workloads" or (kind == "services" and graph_type == "service"):
        graph_type = default
    asked = _traffic(query, (namespace,))
    whole = _build(prometheus, asked, query, graph_type)
    centre = {key for key in whole.nodes if _is(whole, key, namespace, kind, name, version)}
    return _answer(whole.around(centre), asked, graph_type, _one(query, "boxBy", "none"), mesh, config)


def _is(whole: Graph, key: Key, namespace: str, kind: str, name: str, version: str) -> bool:
    node = whole.nodes[key]
    if node.namespace != namespace:
        return False
    if kind == "services":
        return (namespace, name) in node.services if node.kind != "service" else node.service == name
    if kind == "workloads":
        return node.workload == name
    return node.app == name and version in ("", node.version)


def _badges(nodes: list[Json], mesh: Mesh, config: Config) -> None:
    """Mark what Istio's objects or a missing sidecar say about the nodes."""
    services = _hosts(config)
    rules: list[DestinationRule] = config.get("destinationRules", [])
    broken = {rule_host(rule) for rule in rules if _breaks(rule)}
    for wrapped in nodes:
        data = wrapped["data"]
        place = data["namespace"]
        if service := data.get("service"):
            host = fqdn(service, place)
            if host in services:
                data["hasVS"] = True
            if host in broken:
                data["hasCB"] = True
        elif data.get("isBox") is None and place not in ("unknown", SYSTEM):
            found = [mesh.workload(place, data["workload"])] if data.get("workload") else []
            found = found or list(mesh.apps(place).get(data.get("app", ""), []))
            if any(one and one.pods and not one.sidecar for one in found):
                data["hasMissingSC"] = True


def _hosts(config: Config) -> set[str]:
    return {host for one in config.get("virtualServices", []) for host in VirtualService.of(one).hosts}


def _breaks(rule: DestinationRule) -> bool:
    """Whether a DestinationRule limits connections or ejects outliers."""
    spec = rule.get("spec") or {}
    policies = [
        spec.get("trafficPolicy") or {},
        *((one.get("trafficPolicy") or {}) for one in spec.get("subsets") or []),
    ]
    return any("connectionPool" in policy or "outlierDetection" in policy for policy in policies)
