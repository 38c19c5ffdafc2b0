# SPDX-License-Identifier: Apache-2.0
"""The graph's addresses: what is asked, and the graph with everything that is drawn on it."""

from __future__ import annotations

import time

from meshbox.images.kiali import appenders
from meshbox.images.kiali.elements import elements
from meshbox.images.kiali.graph import Graph, GraphBuilder, Key
from meshbox.images.kiali.istio import Config
from meshbox.images.kiali.mesh import Json, Mesh
from meshbox.images.kiali.parameters import GraphOptions
from meshbox.images.kiali.sources import Prometheus
from meshbox.images.kiali.telemetry import TrafficQuery, classified, flows, mutual_tls, response_times

__all__ = ["Centre", "around", "graph"]

Centre = tuple[str, str, str]
"""The node whose neighbours are asked for: "applications", "workloads", "services" or "aggregates"; its name; and an
app's version, or the Service of an aggregate, "" for any."""


def _build(prometheus: Prometheus, mesh: Mesh, config: Config, asked: GraphOptions, *, whole: bool) -> Graph:
    """The graph with what the request's appenders add, in Kiali's order."""
    traffic = TrafficQuery(asked.namespaces, asked.duration, asked.at or None, asked.idle_edges)
    builder = GraphBuilder(asked.graph_type, asked.inject)
    builder.add(flows(prometheus, traffic))
    found = builder.graph
    if "responseTime" in asked.appenders and found.edges:
        for source, target, service, milliseconds in response_times(prometheus, traffic, f"{asked.quantile:g}"):
            builder.add_time(source, target, service, milliseconds)
    if "securityPolicy" in asked.appenders and found.edges:
        for secured in mutual_tls(prometheus, traffic):
            builder.add_security(secured)
    if "aggregateNode" in asked.appenders and found.edges:
        for flow, value in classified(prometheus, traffic, asked.aggregate):
            builder.add_class(flow, asked.aggregate, value)
    # These know nodes only by what the traffic calls them: it has to be on the graph before they change it.
    if "serviceEntry" in asked.appenders:
        appenders.service_entries(found, config, asked.namespaces)
    if "deadNode" in asked.appenders:
        appenders.remove_dead(found, mesh)
    if "idleNode" in asked.appenders and whole:
        appenders.idle_nodes(found, mesh, asked.namespaces, asked.graph_type, asked.inject)
    if "istio" in asked.appenders:
        appenders.badge(found, mesh, config, asked.namespaces)
    if "sidecarsCheck" in asked.appenders:
        appenders.check_sidecars(found, mesh, asked.namespaces)
    if "healthConfig" in asked.appenders:
        appenders.check_health(found, mesh, asked.namespaces)
    return found


def _answer(found: Graph, asked: GraphOptions, mesh: Mesh) -> Json:
    seen = [one["metadata"]["name"] for one in mesh.namespaces()]
    # Apps are boxed in their graphs also where nobody asks for it.
    boxes = {*asked.boxes, "app"} if asked.graph_type in ("app", "versionedApp") else set(asked.boxes)
    drawn = elements(found, asked.namespaces, seen, boxes)
    moment = asked.at or int(time.time())
    return {"timestamp": moment, "duration": asked.duration, "graphType": asked.graph_type, "elements": drawn}


def graph(prometheus: Prometheus, mesh: Mesh, config: Config, asked: GraphOptions) -> Json:
    """The graph of some namespaces.

    Raises:
        SourceError: Prometheus cannot be reached.
    """
    return _answer(_build(prometheus, mesh, config, asked, whole=True), asked, mesh)


def around(prometheus: Prometheus, mesh: Mesh, config: Config, asked: GraphOptions, centre: Centre) -> Json:
    """The part of a namespace's graph next to one app, Service, workload or aggregate.

    Raises:
        SourceError: Prometheus cannot be reached.
    """
    whole = _build(prometheus, mesh, config, asked, whole=False)
    around = {key for key in whole.nodes if _is(whole, key, asked.namespaces[0], centre)}
    return _answer(whole.around(around), asked, mesh)


def _is(whole: Graph, key: Key, namespace: str, centre: Centre) -> bool:
    node, (kind, name, part) = whole.nodes[key], centre
    if node.namespace != namespace:
        return False
    if kind == "services":
        return (namespace, name) in node.services if node.kind != "service" else node.service == name
    if kind == "aggregates":
        return node.aggregate == name and part in ("", node.service)
    if kind == "workloads":
        return node.workload == name
    return node.kind == "app" and node.app == name and part in ("", node.version)
