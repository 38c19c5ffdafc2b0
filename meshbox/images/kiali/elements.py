# SPDX-License-Identifier: Apache-2.0
"""A graph as the console draws it: cytoscape's elements, with rates as strings."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from meshbox.images.kiali.graph import Edge, Graph, Key, Node, failed
from meshbox.images.kiali.telemetry import UNKNOWN

__all__ = ["CLUSTER", "elements", "number"]

CLUSTER = "Kubernetes"
Json = dict[str, Any]
_MOST_DECIMALS = 9


def number(value: float, decimals: int) -> str:
    """`value` with that many decimals; with more where a tiny value would be written as zero."""
    while value and round(value, decimals) == 0 and decimals < _MOST_DECIMALS:
        decimals += 1
    return f"{value:.{decimals}f}"


def _identity(*parts: str) -> str:
    return hashlib.sha1("\0".join(parts).encode(), usedforsecurity=False).hexdigest()


def _buckets(protocol: str, codes: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Rates by the classes that Kiali shows, only those there are."""
    found = {prefix: sum(codes.values())}
    for code, rate in codes.items():
        if protocol == "tcp":
            continue
        if code == "-":
            name = "NoResponse"
        elif protocol == "grpc":
            name = "Err" if failed(protocol, code) else ""
        else:
            name = f"{code[0]}xx" if code[:1] in ("3", "4", "5") else ""
        if name:
            found[prefix + name] = found.get(prefix + name, 0.0) + rate
    return found


def _traffic(node: Node) -> list[Json]:
    found = []
    for protocol in ("http", "grpc", "tcp"):
        rates: dict[str, float] = {}
        if protocol in node.received:
            rates |= _buckets(protocol, node.received[protocol], f"{protocol}In")
        if protocol in node.sent:
            rates[f"{protocol}Out"] = sum(node.sent[protocol].values())
        if rates:
            shown = {name: number(rate, 2) for name, rate in rates.items()}
            found.append({"protocol": protocol, "rates": shown})
    return found


def _node(key: Key, node: Node, requested: Collection[str], targets: Collection[Key]) -> Json:
    data: Json = {"id": _identity(*key), "nodeType": node.kind, "cluster": CLUSTER, "namespace": node.namespace}
    for name in ("workload", "app", "version", "service"):
        if value := getattr(node, name):
            data[name] = value
    if node.services:
        data["destServices"] = [
            {"cluster": CLUSTER, "namespace": namespace, "name": name} for namespace, name in sorted(node.services)
        ]
    data["traffic"] = _traffic(node)
    if node.namespace not in requested:
        data["isOutside"] = True
    if node.namespace == UNKNOWN:
        data["isInaccessible"] = True
    if key not in targets:
        data["isRoot"] = True
    return data


def _edge(edge: Edge, sender: Node) -> Json:
    total, protocol = edge.rate, edge.protocol
    codes = edge.by_code()
    rates = {name: number(rate, 2) for name, rate in _buckets(protocol, codes, protocol).items()}
    if protocol != "tcp":
        errors = sum(rate for code, rate in codes.items() if failed(protocol, code))
        if errors:
            rates[f"{protocol}PercentErr"] = number(100 * errors / total, 1)
        rates[f"{protocol}PercentReq"] = number(100 * total / sum(sender.sent[protocol].values()), 1)
    responses = {code: _response(flags, total) for code, flags in edge.codes.items()}
    key = _identity(*edge.source, "→", *edge.target, protocol)
    data: Json = {"id": key, "source": _identity(*edge.source), "target": _identity(*edge.target)}
    data["traffic"] = {"protocol": protocol, "rates": rates, "responses": responses}
    if edge.milliseconds is not None:
        data["responseTime"] = number(edge.milliseconds, 0)
    if edge.secure:
        data["isMTLS"] = number(100 * edge.secure / edge.counted, 0)
    return data


def _response(flags: Mapping[str, Mapping[str, float]], total: float) -> Json:
    hosts: dict[str, float] = {}
    for by_host in flags.values():
        for host, rate in by_host.items():
            hosts[host] = hosts.get(host, 0.0) + rate
    shares = {flag: number(100 * sum(by_host.values()) / total, 1) for flag, by_host in flags.items()}
    return {"flags": shares, "hosts": {host: number(100 * rate / total, 1) for host, rate in hosts.items()}}


def _app_of_services(graph: Graph) -> dict[Key, str]:
    """The app behind each Service's node, where it is one."""
    behind: dict[Key, set[tuple[str, str]]] = {}
    for edge in graph.edges.values():
        if graph.nodes[edge.source].kind == "service":
            target = graph.nodes[edge.target]
            behind.setdefault(edge.source, set()).add((target.namespace, target.app))
    found = {}
    for key, apps in behind.items():
        if len(apps) == 1:
            namespace, app = next(iter(apps))
            if app and namespace == graph.nodes[key].namespace:
                found[key] = app
    return found


def elements(graph: Graph, requested: Collection[str], boxes: Collection[str]) -> Json:
    """The nodes and edges of `graph`, in boxes.

    Args:
        graph: The graph.
        requested: The namespaces asked for; nodes elsewhere are marked as outside.
        boxes: "app" and "namespace" or less: what is drawn around nodes that belong together.
    """
    targets = {edge.target for edge in graph.edges.values() if edge.target != edge.source}
    app_of = _app_of_services(graph)
    data = {key: _node(key, node, requested, targets) for key, node in graph.nodes.items()}
    made: list[Json] = []
    if "app" in boxes:
        members: dict[tuple[str, str], list[Key]] = {}
        for key, node in graph.nodes.items():
            app = app_of.get(key, "") if node.kind == "service" else node.app
            if app:
                members.setdefault((node.namespace, app), []).append(key)
        for (namespace, app), keys in sorted(members.items()):
            if len(keys) > 1:
                box = _box("app", namespace, app=app)
                made.append(box)
                for key in keys:
                    data[key]["parent"] = box["id"]
    if "namespace" in boxes and len({node.namespace for node in graph.nodes.values()}) > 1:
        for namespace in sorted({node.namespace for node in graph.nodes.values()} - {UNKNOWN}):
            box = _box("namespace", namespace)
            for inner in [*made, *data.values()]:
                if inner["namespace"] == namespace and "parent" not in inner and inner.get("isBox") != "namespace":
                    inner["parent"] = box["id"]
            # A box has to come before what is in it.
            made.insert(0, box)
    nodes = [*made, *(data[key] for key in sorted(data))]
    edges = [_edge(edge, graph.nodes[edge.source]) for _, edge in sorted(graph.edges.items())]
    return {"nodes": [{"data": node} for node in nodes], "edges": [{"data": edge} for edge in edges]}


def _box(kind: str, namespace: str, app: str = "") -> Json:
    box: Json = {"id": _identity("box", kind, namespace, app), "nodeType": "box", "cluster": CLUSTER}
    return box | {"namespace": namespace, "isBox": kind} | ({"app": app} if app else {})
