# SPDX-License-Identifier: Apache-2.0
"""A graph as the console draws it: cytoscape's elements, with rates as strings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from meshbox.images.kiali.appenders import EGRESS
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
    """Rates by the classes that Kiali shows, only those that are not zero."""
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
    return {name: rate for name, rate in found.items() if rate}


def _traffic(node: Node) -> list[Json]:
    found = []
    for protocol in ("http", "grpc", "tcp"):
        rates: dict[str, float] = {}
        if protocol in node.received:
            rates |= _buckets(protocol, node.received[protocol], f"{protocol}In")
        if out := sum(node.sent.get(protocol, {}).values()):
            rates[f"{protocol}Out"] = out
        if rates:
            shown = {name: number(rate, 2) for name, rate in rates.items()}
            found.append({"protocol": protocol, "rates": shown})
    return found


def _node(key: Key, node: Node, requested: Collection[str], accessible: Collection[str]) -> Json:
    data: Json = {"id": _identity(*key), "nodeType": node.kind, "cluster": CLUSTER, "namespace": node.namespace}
    for name in ("workload", "app", "version", "service", "aggregate"):
        if value := getattr(node, name):
            data[name] = value
    if node.services:
        data["destServices"] = [
            {"cluster": CLUSTER, "namespace": namespace, "name": name} for namespace, name in sorted(node.services)
        ]
    data["traffic"] = _traffic(node)
    nowhere = node.kind == "service" and (node.service in EGRESS or (node.namespace, node.service) == (UNKNOWN,) * 2)
    if node.kind == "unknown" or nowhere:
        data["isInaccessible"] = True
    elif node.namespace not in (*requested, UNKNOWN):
        data["isOutside"] = True
        if node.namespace not in accessible:
            data["isInaccessible"] = True
    return data | node.marks


def _edge(edge: Edge, sender: Node) -> Json:
    total, protocol = edge.rate, edge.protocol
    traffic: Json = {"protocol": protocol}
    if total:
        traffic |= _going(edge, total, sender)
    key = _identity(*edge.source, "→", *edge.target, protocol)
    data: Json = {"id": key, "source": _identity(*edge.source), "target": _identity(*edge.target), "traffic": traffic}
    if edge.milliseconds is not None:
        data["responseTime"] = number(edge.milliseconds, 0)
    if edge.secure:
        data["isMTLS"] = number(100 * edge.secure / edge.counted, 0)
    for name, principal in zip(("sourcePrincipal", "destPrincipal"), edge.principals, strict=True):
        if principal:
            data[name] = principal
    return data


def _going(edge: Edge, total: float, sender: Node) -> Json:
    """The rates of an edge, and how its requests were answered."""
    protocol, codes = edge.protocol, edge.by_code()
    rates = {name: number(rate, 2) for name, rate in _buckets(protocol, codes, protocol).items()}
    if protocol != "tcp":
        errors = sum(rate for code, rate in codes.items() if failed(protocol, code))
        if errors:
            rates[f"{protocol}PercentErr"] = number(100 * errors / total, 1)
        rates[f"{protocol}PercentReq"] = number(100 * total / sum(sender.sent[protocol].values()), 1)
    shown = {code: flags for code, flags in edge.codes.items() if codes[code]}
    return {"rates": rates, "responses": {code: _response(flags, total) for code, flags in shown.items()}}


def _response(flags: Mapping[str, Mapping[str, float]], total: float) -> Json:
    hosts: dict[str, float] = {}
    for by_host in flags.values():
        for host, rate in by_host.items():
            hosts[host] = hosts.get(host, 0.0) + rate
    shares = {flag: number(100 * sum(by_host.values()) / total, 1) for flag, by_host in flags.items()}
    return {"flags": shares, "hosts": {host: number(100 * rate / total, 1) for host, rate in hosts.items()}}


def elements(graph: Graph, requested: Collection[str], accessible: Collection[str], boxes: Collection[str]) -> Json:
    """The nodes and edges of `graph`, in boxes.

    Args:
        graph: The graph.
        requested: The namespaces asked for; nodes elsewhere are marked as outside.
        accessible: The namespaces that Kiali sees at all.
        boxes: "app", "namespace" and "cluster" or less: what is drawn around nodes that belong together.
    """
    data = {key: _node(key, node, requested, accessible) for key, node in graph.nodes.items()}
    targets = {edge.target for edge in graph.edges.values()}
    for key in {edge.source for edge in graph.edges.values()} - targets:
        data[key]["isRoot"] = True
    nodes = [data[key] for key in sorted(data)]
    made: list[Json] = []
    if "app" in boxes:
        made += _boxed("app", nodes, lambda one: (one["namespace"], one.get("app", "")), one_is_enough=True)
    if "namespace" in boxes:
        inside = [*made, *nodes]
        made = _boxed("namespace", inside, lambda one: (one["namespace"],), one_is_enough=False) + made
    if "cluster" in boxes:
        # Never seen here: there is one cluster, and boxes tell several apart.
        made = _boxed("cluster", [*made, *nodes], lambda one: (one["cluster"],), one_is_enough=False) + made
    edges = [_edge(edge, graph.nodes[edge.source]) for _, edge in sorted(graph.edges.items())]
    return {"nodes": [{"data": node} for node in [*made, *nodes]], "edges": [{"data": edge} for edge in edges]}


def _boxed(
    kind: str, nodes: Iterable[Json], key_of: Callable[[Json], tuple[str, ...]], *, one_is_enough: bool
) -> list[Json]:
    """Put nodes that have a key in common, and stand in no box yet, into one; the boxes, which come before them.

    Args:
        kind: "app", "namespace" or "cluster".
        nodes: Nodes, and boxes within.
        key_of: What they have in common; nothing unknown or empty is boxed.
        one_is_enough: Whether a box is drawn where it would be the only one.
    """
    members: dict[tuple[str, ...], list[Json]] = {}
    for node in nodes:
        key = key_of(node)
        if "parent" not in node and not {"", UNKNOWN} & set(key):
            members.setdefault(key, []).append(node)
    if len(members) < 2 and not one_is_enough:
        return []
    boxes = []
    for key, found in sorted(members.items()):
        if len(found) > 1:
            box = _box(kind, key)
            boxes.append(box)
            for node in found:
                node["parent"] = box["id"]
    return boxes


def _box(kind: str, key: tuple[str, ...]) -> Json:
    box: Json = {"id": _identity("box", kind, *key), "nodeType": "box", "cluster": CLUSTER, "isBox": kind}
    return box | dict(zip(("namespace", "app"), () if kind == "cluster" else key, strict=False))
