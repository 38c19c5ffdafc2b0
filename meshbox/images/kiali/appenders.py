# SPDX-License-Identifier: Apache-2.0
"""What Kiali's appenders make of the bare traffic: which nodes there are, and what the cluster's objects say of them.

Nodes outside the namespaces asked for are left as they are, as Kiali does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from labkit.ground.hosts import fqdn, visible
from labkit.ground.routing import destinations, rule_host
from meshbox.images.kiali.graph import Edge, Graph, Key, Node
from meshbox.images.kiali.istio import Config, whole
from meshbox.images.kiali.mesh import SYSTEM, Mesh, Workload
from meshbox.images.kiali.telemetry import UNKNOWN

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule, TrafficPolicy
    from labkit.ground.typed.hosts import ServiceEntry
    from labkit.ground.typed.virtual_services import VirtualService

__all__ = ["EGRESS", "badge", "check_health", "check_sidecars", "idle_nodes", "remove_dead", "service_entries"]

EGRESS = ("PassthroughCluster", "BlackHoleCluster")
"""The names under which Envoy counts what it lets out, or drops, without knowing where it goes."""


def service_entries(graph: Graph, config: Config, requested: Collection[str]) -> None:
    """Put one node for each ServiceEntry in the place of the nodes of its hosts.

    It stands in the namespace from which it was asked for, as one entry may be there for many.
    """
    entries: list[ServiceEntry] = config.get("serviceEntries", [])
    for key, node in list(graph.nodes.items()):
        leading = [edge for edge in graph.edges.values() if edge.source == key]
        # What leads to several workloads is a Service of the cluster.
        if node.kind != "service" or node.service in EGRESS or len(leading) > 1 or "isServiceEntry" in node.marks:
            continue
        coming = [edge for edge in graph.edges.values() if edge.target == key]
        for edge in coming:
            asker = graph.nodes[edge.source].namespace
            namespace = asker if asker in requested else node.namespace
            entry = next((one for one in entries if _means(one, node.service, namespace)), None)
            if entry is not None:
                _redirect(graph, edge, _entry_node(graph, entry, namespace, node), leading)
        if not any(key in (edge.source, edge.target) for edge in graph.edges.values()):
            graph.nodes.pop(key)


def _means(entry: ServiceEntry, service: str, namespace: str) -> bool:
    meta, spec = entry["metadata"], entry.get("spec") or {}
    if not visible(spec.get("exportTo"), str(meta.get("namespace")), namespace):
        return False
    hosts = [str(host) for host in spec.get("hosts") or []]
    # Within the mesh a host has the Service's short name before its first dot.
    inside = spec.get("location") == "MESH_INTERNAL"
    return service in hosts or (inside and service in [host.split(".")[0] for host in hosts])


def _entry_node(graph: Graph, entry: ServiceEntry, namespace: str, old: Node) -> Key:
    spec, name = entry.get("spec") or {}, str(entry["metadata"]["name"])
    key = ("service", namespace, name)
    node = graph.nodes.setdefault(key, Node("service", namespace, service=name))
    location = "MESH_INTERNAL" if spec.get("location") == "MESH_INTERNAL" else "MESH_EXTERNAL"
    node.marks["isServiceEntry"] = {"location": location, "hosts": list(spec.get("hosts") or [])}
    node.services |= old.services
    return key


def _redirect(graph: Graph, edge: Edge, target: Key, leading: Iterable[Edge]) -> None:
    """Let `edge` end at `target`, with its share of what the node before sent on."""
    graph.edges.pop((edge.source, edge.target, edge.protocol))
    made = graph.edges.setdefault((edge.source, target, edge.protocol), Edge(edge.source, target, edge.protocol))
    _join(made, edge)
    for code, rate in edge.by_code().items():
        graph.nodes[target].received[edge.protocol][code] += rate
    for onward in leading:
        graph.edges.pop((onward.source, onward.target, onward.protocol), None)
        found = Edge(target, onward.target, onward.protocol)
        _join(graph.edges.setdefault((target, onward.target, onward.protocol), found), onward)


def _join(into: Edge, other: Edge) -> None:
    for code, flags in other.codes.items():
        for flag, hosts in flags.items():
            for host, rate in hosts.items():
                into.codes[code][flag][host] += rate
    times = [one for one in (into.milliseconds, other.milliseconds) if one is not None]
    into.milliseconds = max(times, default=None)
    into.secure += other.secure
    into.counted += other.counted
    into.principals = into.principals if any(into.principals) else other.principals


def remove_dead(graph: Graph, mesh: Mesh) -> None:
    """Take out what has no traffic and is not there any more; mark workloads that have no pods."""
    while True:
        gone = [key for key, node in graph.nodes.items() if not node.busy and _dead(graph, key, node, mesh)]
        if not gone:
            return
        for key in gone:
            graph.nodes.pop(key)
        edges = {key: edge for key, edge in graph.edges.items() if not {edge.source, edge.target} & set(gone)}
        graph.edges = edges


def _dead(graph: Graph, key: Key, node: Node, mesh: Mesh) -> bool:
    if node.kind == "aggregate":
        return False
    if node.kind == "service":
        leads = any(edge.source == key for edge in graph.edges.values())
        return not leads and "isServiceEntry" not in node.marks and node.service not in EGRESS
    if node.kind != "unknown" and not node.workload:
        return False
    workload = mesh.workload(node.namespace, node.workload)
    if workload is not None and not workload.pods:
        node.marks["isDead"] = True
    return workload is None


def idle_nodes(graph: Graph, mesh: Mesh, requested: Iterable[str], graph_type: str, inject: bool) -> None:
    """Add the workloads, and where Services are nodes those too, that had no traffic."""
    for namespace in requested:
        for service in mesh.services(namespace) if inject else []:
            name = service["metadata"]["name"]
            _idle(graph, ("service", namespace, name), Node("service", namespace, service=name))
        for workload in mesh.workloads(namespace) if graph_type != "service" else []:
            _idle(graph, *_of_workload(workload, graph_type))


def _of_workload(one: Workload, graph_type: str) -> tuple[Key, Node]:
    app, version = one.app, one.labels.get("version", "")
    if graph_type == "workload" or not app:
        return ("workload", one.namespace, one.name), Node("workload", one.namespace, one.name, app, version)
    if graph_type == "app":
        return ("app", one.namespace, app), Node("app", one.namespace, app=app)
    return ("app", one.namespace, one.name), Node("app", one.namespace, one.name, app, version)


def _idle(graph: Graph, key: Key, node: Node) -> None:
    if key not in graph.nodes:
        node.marks["isIdle"] = True
        graph.nodes[key] = node


def badge(graph: Graph, mesh: Mesh, config: Config, requested: Collection[str]) -> None:
    """Mark which Services a VirtualService sends requests to, and what a DestinationRule may cut off."""
    rules: list[DestinationRule] = config.get("destinationRules", [])
    routes: list[VirtualService] = config.get("virtualServices", [])
    for node in graph.nodes.values():
        if node.namespace not in requested:
            continue
        own = [one for one in rules if one["metadata"].get("namespace") == node.namespace]
        if any(_breaks(rule, service, node) for rule in own for service in node.services | _self(node)):
            node.marks["hasCB"] = True
        if node.kind == "service":
            host = fqdn(node.service, node.namespace)
            mine = [one for one in routes if one["metadata"].get("namespace") == node.namespace]
            if any(host == whole(to.host) for one in mine for to in destinations(one) if not to.mirror):
                node.marks["hasVS"] = True
            service = mesh.service(node.namespace, node.service)
            if service is not None:
                node.app = (service["metadata"].get("labels") or {}).get("app", "")


def _self(node: Node) -> set[tuple[str, str]]:
    return {(node.namespace, node.service)} if node.kind == "service" else set()


def _breaks(rule: DestinationRule, service: tuple[str, str], node: Node) -> bool:
    """Whether a DestinationRule for a Service limits connections or ejects outliers of a node."""
    if node.kind == "workload" and not node.version:
        return False
    spec = rule.get("spec") or {}
    if whole(rule_host(rule)) != fqdn(service[1], service[0]):
        return False
    if _limits(spec.get("trafficPolicy")):
        return True
    subsets = [one for one in spec.get("subsets") or [] if _limits(one.get("trafficPolicy"))]
    return any(not node.version or (one.get("labels") or {}).get("version") == node.version for one in subsets)


def _limits(policy: TrafficPolicy | None) -> bool:
    return policy is not None and ("connectionPool" in policy or "outlierDetection" in policy)


def check_sidecars(graph: Graph, mesh: Mesh, requested: Collection[str]) -> None:
    """Mark apps and workloads with a pod that has no proxy."""
    for node in graph.nodes.values():
        # What runs Istio itself may do without.
        looked_at = node.kind in ("app", "workload") and node.namespace in requested and node.namespace != SYSTEM
        if looked_at and any(one.pods and not one.sidecar for one in _workloads(node, mesh)):
            node.marks["hasMissingSC"] = True


def _workloads(node: Node, mesh: Mesh) -> list[Workload]:
    if node.workload and node.workload != UNKNOWN:
        found = mesh.workload(node.namespace, node.workload)
        return [found] if found else []
    return mesh.apps(node.namespace).get(node.app, [])


def check_health(graph: Graph, mesh: Mesh, requested: Collection[str]) -> None:
    """Give nodes the limits of errors that their objects have of their own (annotation health.kiali.io/rate)."""
    for node in graph.nodes.values():
        if node.namespace not in requested:
            continue
        service = mesh.service(node.namespace, node.service) if node.kind == "service" else None
        workload = mesh.workload(node.namespace, node.workload) if node.kind == "workload" else None
        of: Any = service or (workload.object if workload else None)
        own = _own_limits(of)
        if own:
            node.marks["hasHealthConfig"] = own


def _own_limits(of: Any) -> dict[str, str]:
    found = (of or {}).get("metadata", {}).get("annotations") or {}
    return {name: str(value) for name, value in found.items() if name == "health.kiali.io/rate"}
