"""What is wrong with Istio's objects: hosts, subsets and gateways that are not there, weights that do not add up.

The codes and messages are Kiali's own: a learner can look them up in its documentation. Weights have none there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.ground.hosts import fqdn, gateway_key, overlap
from meshbox.images.kiali.istio import KINDS, Config, within
from meshbox.images.kiali.mesh import Mesh, selects

__all__ = ["MESSAGES", "of_services", "summary", "validate"]

Json = dict[str, Any]
_ERROR, _WARNING = "error", "warning"
MESSAGES = {
    "KIA0201": (_WARNING, "More than one DestinationRules for the same host subset combination"),
    "KIA0202": (
        _ERROR,
        "This host has no matching entry in the service registry (service, workload or service entries)",
    ),
    "KIA0203": (_ERROR, "This subset's labels are not found in any matching host"),
    "KIA0301": (_WARNING, "More than one Gateway for the same host port combination"),
    "KIA0302": (_WARNING, "No matching workload found for gateway selector in this namespace"),
    "KIA0601": (_ERROR, "Port name must follow <protocol>[-suffix] form"),
    "KIA1101": (_ERROR, "DestinationWeight on route doesn't have a valid service (host not found)"),
    "KIA1102": (_ERROR, "VirtualService is pointing to a non-existent gateway"),
    "KIA1104": (_WARNING, "The weight is assumed to be 100 because there is only one route destination"),
    "KIA1106": (_WARNING, "More than one Virtual Service for same host"),
    "KIA1107": (_WARNING, "Subset not found"),
    "": (_ERROR, "Weight sum should be 100"),
}

_PROTOCOLS = {"grpc", "grpc-web", "http", "http2", "https", "mongo", "mysql", "redis", "tcp", "tls", "udp"}

Found = tuple[str, str]
"""A code, and the path to what is wrong."""


class _Registry:
    """Which hosts there are, and which labels their workloads have."""

    def __init__(self, mesh: Mesh, config: Config) -> None:
        self._hosts: dict[str, list[dict[str, str]]] = {}
        for service in mesh.objects["services"]:
            meta = service["metadata"]
            labels = [workload.labels for workload in mesh.workloads_of(service)]
            self._hosts[fqdn(meta["name"], meta["namespace"])] = labels
        for entry in config["serviceEntries"]:
            for host in (entry.get("spec") or {}).get("hosts") or []:
                self._hosts.setdefault(host, [])
        self.subsets: dict[tuple[str, str], list[Json]] = {}
        for rule in config["destinationRules"]:
            spec = rule.get("spec") or {}
            host = fqdn(str(spec.get("host", "")), rule["metadata"]["namespace"])
            for subset in spec.get("subsets") or []:
                self.subsets.setdefault((host, str(subset.get("name"))), []).append(rule)

    def has(self, host: str) -> bool:
        return any(overlap(self._name(host), known) for known in self._hosts)

    def labels(self, host: str) -> list[dict[str, str]]:
        return self._hosts.get(self._name(host), [])

    def _name(self, host: str) -> str:
        # "reviews.bookinfo" is not what the host means to Istio, but "reviews.bookinfo.svc" is.
        return f"{host}.cluster.local" if host.endswith(".svc") else host


def _virtual_service(one: Json, registry: _Registry, config: Config, shared: dict[Any, int]) -> Iterator[Found]:
    namespace, spec = one["metadata"]["namespace"], one.get("spec") or {}
    known = {f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in config["gateways"]}
    gateways = [str(name) for name in spec.get("gateways") or []]
    for index, name in enumerate(gateways):
        if name != "mesh" and gateway_key(name, namespace) not in known:
            yield "KIA1102", f"spec/gateways[{index}]"
    for index, host in enumerate(spec.get("hosts") or []):
        if shared[fqdn(str(host), namespace), tuple(sorted(gateways))] > 1:
            yield "KIA1106", f"spec/hosts[{index}]"
    for protocol in ("http", "tcp", "tls"):
        for number, rule in enumerate(spec.get(protocol) or []):
            yield from _route(f"spec/{protocol}[{number}]", rule.get("route") or [], namespace, registry)


def _route(path: str, routes: list[Json], namespace: str, registry: _Registry) -> Iterator[Found]:
    weights = [route["weight"] for route in routes if isinstance(route.get("weight"), int)]
    if len(routes) == 1 and weights and weights != [100]:
        yield "KIA1104", f"{path}/route[0]/weight"
    if len(routes) > 1 and weights and sum(weights) != 100:
        yield "", f"{path}/route"
    for index, route in enumerate(routes):
        destination = route.get("destination") or {}
        host = fqdn(str(destination.get("host", "")), namespace)
        where = f"{path}/route[{index}]"
        if not registry.has(host):
            yield "KIA1101", f"{where}/destination/host"
        elif (subset := destination.get("subset")) and (host, subset) not in registry.subsets:
            yield "KIA1107", f"{where}/destination"


def _destination_rule(one: Json, registry: _Registry) -> Iterator[Found]:
    namespace, spec = one["metadata"]["namespace"], one.get("spec") or {}
    host = fqdn(str(spec.get("host", "")), namespace)
    if not registry.has(host):
        yield "KIA0202", "spec/host"
        return
    for index, subset in enumerate(spec.get("subsets") or []):
        labels = subset.get("labels") or {}
        workloads = registry.labels(host)
        if workloads and labels and not any(selects(labels, found) for found in workloads):
            yield "KIA0203", f"spec/subsets[{index}]"
        if len(registry.subsets.get((host, str(subset.get("name"))), ())) > 1:
            yield "KIA0201", f"spec/subsets[{index}]"


def _gateway(one: Json, mesh: Mesh, ports: dict[Any, int]) -> Iterator[Found]:
    spec = one.get("spec") or {}
    selector = spec.get("selector") or {}
    if selector and not any(selects(selector, workload.labels) for workload in mesh.workloads()):
        yield "KIA0302", "spec/selector"
    for index, server in enumerate(spec.get("servers") or []):
        for number, host in enumerate(server.get("hosts") or []):
            if ports[_port(selector, server, host)] > 1:
                yield "KIA0301", f"spec/servers[{index}]/hosts[{number}]"


def _port(selector: Json, server: Json, host: str) -> Any:
    return tuple(sorted(selector.items())), (server.get("port") or {}).get("number"), host


def of_services(mesh: Mesh, namespace: str) -> dict[str, Json]:
    """The validations of a namespace's Services: name → what was found."""
    answer = {}
    for one in mesh.services(namespace):
        found = []
        for index, port in enumerate(one["spec"].get("ports") or []):
            protocol = str(port.get("appProtocol") or str(port.get("name", "")).partition("-")[0])
            if port.get("protocol") != "UDP" and protocol not in _PROTOCOLS:
                found.append(("KIA0601", f"spec/ports[{index}]"))
        name = one["metadata"]["name"]
        answer[name] = _validation("service", name, found)
    return answer


def _counts(config: Config) -> tuple[dict[Any, int], dict[Any, int]]:
    """How many VirtualServices name a host, and how many Gateways a host and port."""
    hosts: dict[Any, int] = {}
    ports: dict[Any, int] = {}
    for one in config["virtualServices"]:
        spec = one.get("spec") or {}
        gateways = tuple(sorted(str(name) for name in spec.get("gateways") or []))
        for host in spec.get("hosts") or []:
            key = fqdn(str(host), one["metadata"]["namespace"]), gateways
            hosts[key] = hosts.get(key, 0) + 1
    for one in config["gateways"]:
        spec = one.get("spec") or {}
        for server in spec.get("servers") or []:
            for host in server.get("hosts") or []:
                key = _port(spec.get("selector") or {}, server, host)
                ports[key] = ports.get(key, 0) + 1
    return hosts, ports


def validate(config: Config, mesh: Mesh, namespace: str) -> dict[str, dict[str, Json]]:
    """The validations of a namespace's objects: type → name → what was found."""
    registry = _Registry(mesh, config)
    hosts, ports = _counts(config)
    answer: dict[str, dict[str, Json]] = {}
    for kind in KINDS:
        for one in within(config, kind, namespace):
            found: list[Found] = []
            if kind.type == "virtualservice":
                found = list(_virtual_service(one, registry, config, hosts))
            elif kind.type == "destinationrule":
                found = list(_destination_rule(one, registry))
            elif kind.type == "gateway":
                found = list(_gateway(one, mesh, ports))
            name = one["metadata"]["name"]
            answer.setdefault(kind.type, {})[name] = _validation(kind.type, name, found)
    return answer


def _validation(kind: str, name: str, found: list[Found]) -> Json:
    checks = []
    for code, path in found:
        severity, message = MESSAGES[code]
        checks.append({"code": code, "message": f"{code} {message}".strip(), "severity": severity, "path": path})
    valid = not any(check["severity"] == _ERROR for check in checks)
    return {"name": name, "objectType": kind, "valid": valid, "checks": checks, "references": None}


def summary(validations: dict[str, dict[str, Json]]) -> Json:
    """How many errors and warnings there are."""
    every = [one for by_name in validations.values() for one in by_name.values()]
    severities = [check["severity"] for one in every for check in one["checks"]]
    counted = {"errors": severities.count(_ERROR), "warnings": severities.count(_WARNING)}
    return counted | {"objectCount": len(every)}
