# SPDX-License-Identifier: Apache-2.0
"""The graph of the mesh: flows gathered into nodes and edges, by Kiali's rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from meshbox.images.kiali.telemetry import UNKNOWN, Flow, Party, Secured

__all__ = ["Edge", "Graph", "GraphBuilder", "Key", "Node", "failed"]

Key = tuple[str, ...]
"""What makes two nodes the same: kind, namespace, then names."""


def failed(protocol: str, code: str) -> bool:
    """Whether a response counts as an error."""
    if protocol == "grpc":
        return code != "0"
    return code == "-" or code[:1] in ("4", "5")


@dataclass
class Node:
    """A node.

    Args:
        kind: "app", "workload", "service", "aggregate", or "unknown" for callers of whom nothing is known.
        namespace: Its namespace.
        workload: A workload of it.
        app: Its app.
        version: Its version; "" where it stands for all of them.
        service: The Service's name, for kind "service"; "unknown" where a request found none.
        aggregate: Label and value that its requests have in common, "request_operation=Details".
        services: The Services through which it was reached: namespace, name.
        received: Protocol → code → rate.
        sent: Likewise.
        marks: What else is shown of it, as the console calls it: "isIdle", "hasVS", …
    """

    kind: str
    namespace: str
    workload: str = ""
    app: str = ""
    version: str = ""
    service: str = ""
    aggregate: str = ""
    services: set[tuple[str, str]] = field(default_factory=set)
    received: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    sent: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    marks: dict[str, Any] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """Whether anything came or went in the time looked at."""
        return any(rate for side in (self.received, self.sent) for codes in side.values() for rate in codes.values())


@dataclass
class Edge:
    """Traffic of one protocol from node to node.

    Args:
        source: Key of the sending node.
        target: Key of the receiving node.
        protocol: "http", "grpc" or "tcp".
        codes: Code → flags → host → rate.
        milliseconds: The response time; None if not known.
        secure: Rate of mutual TLS, as the receivers count it.
        counted: Rate of all, as the receivers count it.
        principals: Who the sender and the receiver are by their certificates; "" where not known.
    """

    source: Key
    target: Key
    protocol: str
    codes: dict[str, dict[str, dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    )
    milliseconds: float | None = None
    secure: float = 0.0
    counted: float = 0.0
    principals: tuple[str, str] = ("", "")

    def by_code(self) -> dict[str, float]:
        """Code → rate."""
        return {code: sum(sum(hosts.values()) for hosts in flags.values()) for code, flags in self.codes.items()}

    @property
    def rate(self) -> float:
        """The whole rate."""
        return sum(self.by_code().values())


@dataclass
class Graph:
    """Nodes by key, edges by source, target and protocol."""

    nodes: dict[Key, Node] = field(default_factory=dict)
    edges: dict[tuple[Key, Key, str], Edge] = field(default_factory=dict)

    def around(self, centre: set[Key]) -> Graph:
        """The part of the graph next to `centre`; a Service's node beside it brings its own neighbours along."""
        kept = set(centre)
        for _ in range(2):
            reach = {key for key in kept if key in centre or self.nodes[key].kind == "service"}
            for edge in self.edges.values():
                if edge.source in reach or edge.target in reach:
                    kept |= {edge.source, edge.target}
        edges = {key: edge for key, edge in self.edges.items() if edge.source in kept and edge.target in kept}
        edges = {
            key: edge for key, edge in edges.items() if {edge.source, edge.target} & (centre | self._services(kept))
        }
        used = centre | {key for edge in edges.values() for key in (edge.source, edge.target)}
        return Graph({key: node for key, node in self.nodes.items() if key in used}, edges)

    def _services(self, keys: set[Key]) -> set[Key]:
        return {key for key in keys if self.nodes[key].kind == "service"}


class GraphBuilder:
    """Makes a graph of flows.

    Args:
        graph_type: "app", "service", "versionedApp" or "workload".
        inject: Whether a Service stands between those who ask for it and those who answer.
    """

    def __init__(self, graph_type: str, inject: bool) -> None:
        self.graph = Graph()
        self._type = graph_type
        self._inject = inject or graph_type == "service"
        self._homes: dict[Party, Key] = {}
        """The Service that stands for each workload in the service graph."""

    def add(self, flows: Iterable[Flow]) -> None:
        """Take in `flows`; to be called once."""
        found = list(flows)
        if self._type == "service":
            self._find_homes(found)
        for flow in found:
            for source, target in self._path(flow.source, flow.target, flow.service):
                self._add_edge(source, target, flow)

    def add_time(self, source: Party, target: Party, service: tuple[str, str], milliseconds: float) -> None:
        """Set a response time on the edges of this pair; where several share an edge, the slowest counts."""
        for edge in self._edges(source, target, service):
            if edge.protocol != "tcp":
                edge.milliseconds = max(milliseconds, edge.milliseconds or 0.0)

    def add_security(self, found: Secured) -> None:
        """Count how traffic was secured on the edges of its pair; who came first gives them their principals."""
        for edge in self._edges(found.source, found.target, found.service):
            edge.counted += found.rate
            edge.secure += found.rate if found.policy == "mutual_tls" else 0.0
            if not any(edge.principals):
                edge.principals = found.principals

    def add_class(self, flow: Flow, label: str, value: str) -> None:
        """Put a node between the ends of a flow for what its requests have in common: `label` is `value`.

        It takes the place of the edge that it splits. Who sends or receives is left as it is counted already.
        """
        source = self._homes.get(flow.source) or self._party(flow.source)
        if self._inject and flow.service[1] != UNKNOWN:
            target, about = self._service(flow.service), flow.service[1]
            namespace = flow.service[0]
        else:
            target, about, namespace = self._party(flow.target, flow.service), "", flow.target.namespace
        key = ("aggregate", namespace, label, value, about)
        app = _named(flow.target.app) if about else ""
        node = Node("aggregate", namespace, app=app, service=about, aggregate=f"{label}={value}")
        node = self.graph.nodes.setdefault(key, node)
        for protocol in ("http", "grpc", "tcp"):
            self.graph.edges.pop((source, target, protocol), None)
        self._edge(source, key, flow).codes[flow.code][flow.flags][flow.host] += flow.rate
        self._edge(key, target, flow).codes[flow.code][flow.flags][flow.host] += flow.rate
        node.received[flow.protocol][flow.code] += flow.rate
        node.sent[flow.protocol][flow.code] += flow.rate

    def _edges(self, source: Party, target: Party, service: tuple[str, str]) -> list[Edge]:
        steps = self._path(source, target, service)
        wanted = [(a, b, protocol) for a, b in steps for protocol in ("http", "grpc", "tcp")]
        return [self.graph.edges[key] for key in wanted if key in self.graph.edges]

    def _find_homes(self, flows: list[Flow]) -> None:
        for flow in sorted(flows, key=lambda one: one.service):
            if flow.target.known and flow.service[1] != UNKNOWN:
                self._homes.setdefault(flow.target, self._service(flow.service))

    def _path(self, source: Party, target: Party, service: tuple[str, str]) -> list[tuple[Key, Key]]:
        """The edges that a request from `source` to `target` passes."""
        begin = self._homes.get(source) or self._party(source)
        named = service[1] != UNKNOWN
        if self._type == "service" or not target.known:
            # Nobody answered: a Service's node is where it ends, also where there is no such Service.
            direct = self._type == "service" and not named and target.known
            return [(begin, self._party(target) if direct else self._service(service))]
        end = self._party(target, service)
        if not (self._inject and named):
            return [(begin, end)]
        middle = self._service(service)
        return [(begin, middle), (middle, end)]

    def _service(self, service: tuple[str, str]) -> Key:
        key = ("service", *service)
        if key not in self.graph.nodes:
            reached = {service} if service[1] != UNKNOWN else set()
            self.graph.nodes[key] = Node("service", service[0], service=service[1], services=reached)
        return key

    def _party(self, party: Party, service: tuple[str, str] | None = None) -> Key:
        key: Key
        if not party.known:
            node, key = Node("unknown", UNKNOWN, workload=UNKNOWN), (UNKNOWN,)
        elif self._type == "workload" or party.app == UNKNOWN:
            node = Node("workload", party.namespace, party.workload, _named(party.app), _named(party.version))
            key = ("workload", party.namespace, party.workload)
        elif self._type == "app":
            node, key = Node("app", party.namespace, app=party.app), ("app", party.namespace, party.app)
        else:
            node = Node("app", party.namespace, _named(party.workload), party.app, _named(party.version))
            # Labels may be wrong: two workloads that say the same of themselves stay two.
            known = party.workload != UNKNOWN
            key = ("app", party.namespace, *((party.workload,) if known else ("", party.app, party.version)))
        node = self.graph.nodes.setdefault(key, node)
        if service is not None and service[1] != UNKNOWN:
            node.services.add(service)
        return key

    def _add_edge(self, source: Key, target: Key, flow: Flow) -> None:
        self._edge(source, target, flow).codes[flow.code][flow.flags][flow.host] += flow.rate
        self.graph.nodes[source].sent[flow.protocol][flow.code] += flow.rate
        self.graph.nodes[target].received[flow.protocol][flow.code] += flow.rate

    def _edge(self, source: Key, target: Key, flow: Flow) -> Edge:
        return self.graph.edges.setdefault((source, target, flow.protocol), Edge(source, target, flow.protocol))


def _named(value: str) -> str:
    return "" if value == UNKNOWN else value
