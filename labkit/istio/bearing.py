# SPDX-License-Identifier: Apache-2.0
"""Which of Istio's objects bear on what: on calls of a service, on a workload, or on a whole namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.cluster import Obj
from labkit.ground.hosts import fqdn, overlap
from labkit.ground.labels import selects
from labkit.ground.routing import MESH, VirtualService, read, rule_host

__all__ = ["KINDS", "ROOT_KINDS", "Bearing", "Workloads", "bearing"]

KINDS = (
    "virtualservices.networking.istio.io",
    "destinationrules.networking.istio.io",
    "gateways.networking.istio.io",
    "sidecars.networking.istio.io",
    "envoyfilters.networking.istio.io",
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "requestauthentications.security.istio.io",
    "policies.authentication.istio.io",
    "serviceroles.rbac.istio.io",
    "httproutes.gateway.networking.k8s.io",
)
"""What is read of a namespace, as far as it is served."""

ROOT_KINDS = (
    "destinationrules.networking.istio.io",
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "meshpolicies.authentication.istio.io",
)
"""What is read of Istio's root namespace, where it holds for all namespaces."""


@dataclass(frozen=True)
class Bearing:
    """One object, and one thing that it bears on.

    Args:
        kind: Its kind.
        name: Its name.
        namespace: Its namespace; "" for cluster-scoped ones.
        service: The Service whose calls it bears on; "" if it is about none.
        workload: The workload that it bears on; "" if it is about none.
        callers: Only calls of these workloads (gateways); () for the calls of all that have a sidecar.
    """

    kind: str
    name: str
    namespace: str
    service: str = ""
    workload: str = ""
    callers: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it holds for the whole namespace."""
        return not self.service and not self.workload

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Workloads:
    """What rules can be about.

    Args:
        namespace: The namespace.
        services: The Services there.
        labels: The labels of the pods of each workload there, by its name.
        gateways: Those of gateways, which may be elsewhere.
    """

    namespace: str
    services: tuple[str, ...]
    labels: Mapping[str, Mapping[str, str]]
    gateways: Mapping[str, Mapping[str, str]]


def bearing(objects: Iterable[Obj], there: Workloads) -> list[Bearing]:
    """What bears on what in a namespace, each pair once, in the order of the objects.

    Args:
        objects: Istio's objects of the namespace, and those of the root namespace that hold for all.
        there: What there is in the namespace.
    """
    known = _Known(list(objects), there)
    return list(dict.fromkeys(found for obj in known.objects for found in known.of(obj)))


class _Known:
    def __init__(self, objects: list[Obj], there: Workloads) -> None:
        self.objects, self.there = objects, there
        self.hosts = {fqdn(name, there.namespace): name for name in there.services}
        routes: list[Any] = [obj for obj in objects if obj["kind"] == "VirtualService"]
        self.routes = {(one.namespace, one.name): one for one in read(routes)}
        self.doors: dict[str, tuple[str, ...]] = {}
        for obj in objects:
            if obj["kind"] == "Gateway":
                about = obj["metadata"]
                chosen = (obj.get("spec") or {}).get("selector") or {}
                key = f"{about.get('namespace', '')}/{about['name']}"
                self.doors[key] = tuple(name for name, labels in there.gateways.items() if selects(chosen, labels))

    def of(self, obj: Obj) -> Iterator[Bearing]:
        kind, about, spec = obj["kind"], obj["metadata"], obj.get("spec") or {}
        name, namespace = about["name"], about.get("namespace", "")
        match kind:
            case "VirtualService":
                # One without hosts is a delegate: its rules are those of who names it.
                if route := self.routes.get((namespace, name)):
                    for service, callers in self._routed(route):
                        yield Bearing(kind, name, namespace, service, callers=callers)
            case "DestinationRule":
                rule: Any = obj
                for service in self._services(rule_host(rule)):
                    yield Bearing(kind, name, namespace, service)
            case "Gateway":
                for workload in self.doors[f"{namespace}/{name}"]:
                    yield Bearing(kind, name, namespace, workload=workload)
            case "HTTPRoute":
                for service, callers in self._attached(spec, namespace):
                    yield Bearing(kind, name, namespace, service, callers=callers)
            case "ServiceRole":
                for rule in spec.get("rules") or []:
                    for host in rule.get("services") or []:
                        for service in self._services(fqdn(str(host), namespace)):
                            yield Bearing(kind, name, namespace, service)
            case "Policy":
                targets = [str(target.get("name")) for target in spec.get("targets") or []]
                yield from (Bearing(kind, name, namespace, service) for service in targets)
                if not targets:
                    yield Bearing(kind, name, namespace)
            case _:
                yield from self._selecting(obj, spec)

    def _services(self, host: str) -> list[str]:
        return [name for whole, name in self.hosts.items() if overlap(whole, host)]

    def _routed(self, route: VirtualService) -> Iterator[tuple[str, tuple[str, ...]]]:
        doors = [gateway for gateway in route.gateways if gateway != MESH]
        if MESH in route.gateways and route.visible_in(self.there.namespace):
            for host in route.hosts:
                yield from ((service, ()) for service in self._services(host))
        if callers := tuple(dict.fromkeys(workload for door in doors for workload in self.doors.get(door, ()))):
            rules: list[Any] = [*route.http, *route.tls, *route.tcp]
            for target in (target for rule in rules for target in rule.get("route") or []):
                host = str((target.get("destination") or {}).get("host", ""))
                yield from ((service, callers) for service in self._services(host))

    def _attached(self, spec: Obj, namespace: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Of a route of the Gateway API: calls of a Service, or those that come through a Gateway."""
        for parent in spec.get("parentRefs") or []:
            if parent.get("kind") == "Service":
                yield from ((service, ()) for service in self._services(fqdn(parent["name"], namespace)))
                continue
            # Istio names the Deployment that it makes for a Gateway so.
            door = f"{parent.get('name')}-istio"
            for target in (target for rule in spec.get("rules") or [] for target in rule.get("backendRefs") or []):
                host = fqdn(str(target.get("name", "")), target.get("namespace") or namespace)
                yield from ((service, (door,)) for service in self._services(host))

    def _selecting(self, obj: Obj, spec: Obj) -> Iterator[Bearing]:
        about = obj["metadata"]
        mine = Bearing(obj["kind"], about["name"], about.get("namespace", ""))
        labels = (spec.get("selector") or {}).get("matchLabels") or (spec.get("workloadSelector") or {}).get("labels")
        if not labels:
            yield mine
            return
        for workload, have in self.there.labels.items():
            if selects(labels, have):
                yield Bearing(mine.kind, mine.name, mine.namespace, workload=workload)
