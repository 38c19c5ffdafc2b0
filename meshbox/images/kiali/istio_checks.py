# SPDX-License-Identifier: Apache-2.0
"""What is wrong with Istio's objects: hosts, subsets and gateways that are not there, weights that do not add up.

The codes and messages are Kiali's own: a learner can look them up in its documentation. Weights have none there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from labkit.ground.hosts import fqdn, gateway_key
from labkit.ground.routing import MESH, Hosts, destinations, rule_host, subsets_by_host
from meshbox.images.kiali.istio import KINDS, Config, whole, within
from meshbox.images.kiali.mesh import Json, Mesh, selects

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule
    from labkit.ground.typed.hosts import Gateway, Server
    from labkit.ground.typed.virtual_services import HTTPRouteDestination, RouteDestination, VirtualService

__all__ = ["MESSAGES", "of_services", "summary", "validate"]

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
    """Which hosts there are, which labels their workloads have, and which subsets."""

    def __init__(self, mesh: Mesh, config: Config) -> None:
        services: list[Any] = mesh.objects["services"]
        self._hosts = Hosts(services, config["serviceEntries"])
        self._labels = {
            fqdn(service["metadata"]["name"], service["metadata"]["namespace"]): [
                workload.labels for workload in mesh.workloads_of(service)
            ]
            for service in services
        }
        self.subsets = subsets_by_host(config["destinationRules"])
        self.gateways = {f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in config["gateways"]}

    def has(self, host: str, namespace: str) -> bool:
        return self._hosts.has(whole(host), namespace)

    def labels(self, host: str) -> list[dict[str, str]]:
        return self._labels.get(whole(host), [])


def _virtual_service(one: VirtualService, registry: _Registry, shared: dict[Any, int]) -> Iterator[Found]:
    namespace, spec = one["metadata"]["namespace"], one.get("spec") or {}
    for index, name in enumerate(spec.get("gateways") or []):
        gateway = gateway_key(str(name), namespace)
        if gateway != MESH and gateway not in registry.gateways:
            yield "KIA1102", f"spec/gateways[{index}]"
    for index, key in enumerate(_claims(one)):
        if shared[key] > 1:
            yield "KIA1106", f"spec/hosts[{index}]"
    for number, rule in enumerate(spec.get("http") or []):
        yield from _weights(f"spec/http[{number}]", rule.get("route") or [])
    for number, tcp in enumerate(spec.get("tcp") or []):
        yield from _weights(f"spec/tcp[{number}]", tcp.get("route") or [])
    for number, tls in enumerate(spec.get("tls") or []):
        yield from _weights(f"spec/tls[{number}]", tls.get("route") or [])
    for target in destinations(one):
        if target.mirror:
            continue
        if not registry.has(target.host, namespace):
            yield "KIA1101", f"{target.path}/host"
        elif target.subset and (target.host, target.subset) not in registry.subsets:
            yield "KIA1107", target.path


def _claims(one: VirtualService) -> list[Any]:
    """Which hosts a VirtualService speaks for, each with the gateways that it does so at."""
    namespace, spec = one["metadata"]["namespace"], one.get("spec") or {}
    gateways = tuple(sorted(gateway_key(str(name), namespace) for name in spec.get("gateways") or [MESH]))
    return [(fqdn(str(host), namespace), gateways) for host in spec.get("hosts") or []]


def _weights(path: str, routes: Sequence[HTTPRouteDestination | RouteDestination]) -> Iterator[Found]:
    weights = [route["weight"] for route in routes if isinstance(route.get("weight"), int)]
    if len(routes) == 1 and weights and weights != [100]:
        yield "KIA1104", f"{path}/route[0]/weight"
    if len(routes) > 1 and weights and sum(weights) != 100:
        yield "", f"{path}/route"


def _destination_rule(one: DestinationRule, registry: _Registry) -> Iterator[Found]:
    namespace, spec, host = one["metadata"]["namespace"], one.get("spec") or {}, rule_host(one)
    if not registry.has(host, namespace):
        yield "KIA0202", "spec/host"
        return
    for index, subset in enumerate(spec.get("subsets") or []):
        labels = subset.get("labels") or {}
        workloads = registry.labels(host)
        if workloads and labels and not any(selects(labels, found) for found in workloads):
            yield "KIA0203", f"spec/subsets[{index}]"
        if registry.subsets[host, str(subset.get("name"))] > 1:
            yield "KIA0201", f"spec/subsets[{index}]"


def _gateway(one: Gateway, mesh: Mesh, ports: dict[Any, int]) -> Iterator[Found]:
    spec = one.get("spec") or {}
    selector = spec.get("selector") or {}
    if selector and not any(selects(selector, workload.labels) for workload in mesh.workloads()):
        yield "KIA0302", "spec/selector"
    for index, server in enumerate(spec.get("servers") or []):
        for number, host in enumerate(server.get("hosts") or []):
            if ports[_port(selector, server, host)] > 1:
                yield "KIA0301", f"spec/servers[{index}]/hosts[{number}]"


def _port(selector: dict[str, str], server: Server, host: str) -> Any:
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
        for key in _claims(one):
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
                found = list(_virtual_service(one, registry, hosts))
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
