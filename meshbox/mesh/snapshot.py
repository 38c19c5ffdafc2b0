# SPDX-License-Identifier: Apache-2.0
"""All objects at one moment, and what one proxy may see of them."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from labkit.ground.hosts import overlap, scoped, specificity, within
from labkit.ground.int_or_string import target_port
from labkit.ground.labels import selects
from labkit.ground.routing import MESH, DestinationRules, VirtualService, read
from meshbox.addresses import AddressPlan
from meshbox.contracts import View
from meshbox.mesh import ingresses
from meshbox.mesh.gateway_api.convert import convert
from meshbox.mesh.kinds import (
    CONFIG_MAPS,
    DESTINATION_RULES,
    ENDPOINT_SLICES,
    ENDPOINTS,
    ENVOY_FILTERS,
    GATEWAYS,
    ISTIO_RESOURCES,
    PODS,
    RESOURCES,
    SECRETS,
    SERVICE_ENTRIES,
    SERVICES,
    SIDECARS,
    VIRTUAL_SERVICES,
    Kind,
)
from meshbox.mesh.memo import Identity, Known, Memo
from meshbox.mesh.model import MeshConfig, Port, Service, Workload, labels
from meshbox.mesh.semantics import speaking
from meshbox.mesh.service_registry import kubernetes_services, service_entries

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule, DestinationRuleSpec
    from labkit.ground.typed.hosts import Sidecar
    from meshbox.typed.services import Secret
    from meshbox.typed.services import Service as KubernetesService

__all__ = ["Scope", "Snapshot", "by_age"]

_T = TypeVar("_T", bound=View)


def by_age(objects: Iterable[_T]) -> list[_T]:
    """Oldest first: where two objects contradict each other, Istio believes the older one."""
    return sorted(
        objects,
        key=lambda o: (
            o["metadata"].get("creationTimestamp") or "",
            o["metadata"]["name"],
            o["metadata"].get("namespace") or "",
        ),
    )


def _by_host(services: Iterable[Service]) -> dict[str, Service]:
    found: dict[str, Service] = {}
    for service in services:
        found.setdefault(service.host, service)
    return found


@dataclass(frozen=True)
class Scope:
    """What proxies of one kind in one namespace see; shared by all of them, so that each cluster and route is built
    once.

    Args:
        namespace: The proxies' namespace.
        services: Visible hosts.
        virtual_services: Visible VirtualServices, oldest first.
        registry_only: Whether unknown destinations are refused.
        rules: The DestinationRules that it is told of.
        sidecar: The Sidecar object that applies, if any.
        key: What tells this scope from the others of its snapshot.
        inside: The VirtualServices that speak to the mesh; a key for what is made of them.
        inside_tcp: Those of them that are not only about HTTP.
        outside: The VirtualServices that speak to gateways.
    """

    namespace: str
    services: tuple[Service, ...]
    virtual_services: tuple[VirtualService, ...]
    registry_only: bool
    rules: DestinationRules
    sidecar: Sidecar | None = None
    key: Hashable = None
    inside: Hashable = None
    inside_tcp: Hashable = None
    outside: Hashable = None
    cache: dict[Any, Any] = field(default_factory=dict)

    @functools.cached_property
    def by_host(self) -> dict[str, Service]:
        """Host → Service; the first one seen wins."""
        return _by_host(self.services)

    def service(self, host: str) -> Service | None:
        """The Service that traffic to `host` goes to (a wildcard ServiceEntry included)."""
        exact = self.by_host.get(host)
        if exact is not None:
            return exact
        wild = [s for s in self.services if s.host.startswith("*") and within(host, s.host)]
        return max(wild, key=lambda s: specificity(s.host), default=None)

    def destination_rule(self, service: Service) -> DestinationRuleSpec | None:
        """The spec of the rule for `service`."""
        key = ("rule", service.host, service.namespace)
        if key not in self.cache:
            self.cache[key] = self.rules.spec_for(service.host, service.namespace)
        found: DestinationRuleSpec | None = self.cache[key]
        return found


def _is(obj: KubernetesService, service: Service) -> bool:
    return obj["metadata"]["name"] == service.name and obj["metadata"]["namespace"] == service.namespace


class Snapshot:
    """All objects at one moment.

    Args:
        objects: Resource → its objects, as stored.
        plan: The sandbox's addresses.
        legacy: Whether Istio 1.2's rules apply.
        memo: Keeps what snapshots have in common.

    Attributes:
        converted: What the objects of the Gateway API became; Istio's own among it are objects of this snapshot.
        modes: What `mtls_mode` has found for a workload's port.
    """

    def __init__(
        self, objects: Mapping[str, Iterable[View]], plan: AddressPlan, *, legacy: bool, memo: Memo | None = None
    ) -> None:
        self._sorted: dict[str, list[Any]] = {}
        self.plan = plan
        self.legacy = legacy
        self.memo = memo or Memo()
        self.memo.turn()
        self._objects: dict[str, list[Any]] = {resource: list(objects.get(resource, ())) for resource in RESOURCES}
        self.converted = convert(self._objects, self.memo, legacy=legacy)
        self._objects[GATEWAYS] += self.converted.gateways
        self._objects[VIRTUAL_SERVICES] += self.converted.virtual_services
        self._objects[DESTINATION_RULES] += self.converted.destination_rules
        pods = [pod for pod in self._of(PODS) if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
        self.pods = {(pod["metadata"]["namespace"], pod["metadata"]["name"]): pod for pod in pods}
        self.workloads = {key: self.memo.same(Workload.of(pod)) for key, pod in self.pods.items()}
        pilots = [pod for pod in pods if labels(pod).get("istio") == "pilot"]
        self.mesh = MeshConfig.of(self._of(CONFIG_MAPS), pilots, legacy=legacy)
        self.services = (
            *kubernetes_services(
                self._of(SERVICES),
                self._of(ENDPOINT_SLICES),
                self._of(ENDPOINTS),
                self.workloads,
                self.memo,
                legacy=legacy,
            ),
            *service_entries(self.all(SERVICE_ENTRIES), self.workloads.values(), legacy=legacy),
        )
        ways_in = ingresses.played(self._objects, self.mesh, self.memo, legacy=legacy)
        self._objects[GATEWAYS] += ways_in.gateways
        self._objects[VIRTUAL_SERVICES] += ways_in.virtual_services
        self.modes: dict[tuple[Workload, int], str] = {}
        self._scopes: dict[Any, Scope] = {}

    def _of(self, kind: Kind[_T]) -> list[_T]:
        return self._objects[kind]

    def all(self, kind: Kind[_T]) -> list[_T]:
        """The objects of a kind, oldest first."""
        found: list[_T] | None = self._sorted.get(kind)
        if found is None:
            found = self._sorted[kind] = by_age(self._of(kind))
        return found

    @functools.cached_property
    def by_host(self) -> dict[str, Service]:
        """Every host of the mesh; the first one seen wins."""
        return _by_host(self.services)

    @functools.cached_property
    def secrets(self) -> dict[tuple[str, str], Secret]:
        """Secrets by namespace and name."""
        return {(s["metadata"]["namespace"], s["metadata"]["name"]): s for s in self._of(SECRETS)}

    @functools.cached_property
    def virtual_services(self) -> tuple[VirtualService, ...]:
        """All VirtualServices, oldest first, with the routes of their delegates."""
        objects = self.all(VIRTUAL_SERVICES)
        found: tuple[VirtualService, ...] = self.memo(
            (VIRTUAL_SERVICES, Identity(objects)), lambda: tuple(read(objects))
        )
        return found

    @functools.cached_property
    def routing(self) -> Hashable:
        """What the routes of a scope are made of besides VirtualServices: no endpoints, which change most."""
        resources = (SERVICES, SERVICE_ENTRIES, DESTINATION_RULES, SIDECARS)
        return Identity(obj for resource in resources for obj in self._objects[resource]), self.mesh

    @functools.cached_property
    def capturing(self) -> Hashable:
        """What the outbound listeners of a scope are made of besides VirtualServices."""
        headless = tuple(
            endpoint.address
            for service in self.services
            if service.headless
            for endpoints in service.endpoints.values()
            for endpoint in endpoints
        )
        return self.routing, headless

    @functools.cached_property
    def surroundings(self) -> Hashable:
        """What a proxy's configuration is made of besides VirtualServices, its own pod and a gateway's secrets."""
        resources = [resource for resource in ISTIO_RESOURCES if resource not in (VIRTUAL_SERVICES, ENVOY_FILTERS)]
        objects = (obj for resource in (SERVICES, *resources) for obj in self._objects[resource])
        return self.memo.same(Known((Identity(objects), self.services, self.mesh)))

    @functools.cached_property
    def _destination_rules(self) -> list[DestinationRule]:
        return self.all(DESTINATION_RULES)

    @functools.cached_property
    def services_of(self) -> dict[tuple[str, str], list[Service]]:
        """Namespace and pod name → the Services whose selector chooses that pod."""
        found: dict[tuple[str, str], list[Service]] = defaultdict(list)
        for service in self.services:
            if not service.selector:
                continue
            for key, workload in self.workloads.items():
                if workload.namespace == service.namespace and selects(service.selector, workload.labels):
                    found[key].append(service)
        return found

    def target_ports(self, service: Service, port: Port, key: tuple[str, str]) -> set[int]:
        """The ports of pod `key` behind a Service's `port`, whether or not the pod is ready yet."""
        ports = next((s["spec"].get("ports") for s in self._of(SERVICES) if _is(s, service)), None)
        entry: View = next((p for p in ports or [] if p["port"] == port.number), {})
        number = target_port({"port": port.number, **entry}, self.pods[key]["spec"])
        return set() if number is None else {number}

    def selected(self, kind: Kind[_T], workload: Workload) -> list[_T]:
        """Objects of a kind that apply to `workload`: in its namespace or the root one, selecting its labels."""
        found = []
        for obj in self.all(kind):
            spec = obj.get("spec") or {}
            selector = spec.get("selector") or spec.get("workloadSelector") or {}
            wanted = selector.get("matchLabels") or selector.get("labels") or {}
            namespace = obj["metadata"]["namespace"]
            if namespace in (workload.namespace, self.mesh.root_namespace) and selects(wanted, workload.labels):
                found.append(obj)
        return found

    def scope(self, workload: Workload) -> Scope:
        """What `workload`'s proxy sees."""
        sidecar = self._sidecar(workload) if workload.proxy == "sidecar" else None
        selective = frozenset(
            id(rule)
            for rule in self._destination_rules
            if (wanted := ((rule["spec"].get("workloadSelector") or {}).get("matchLabels")))
            and rule["metadata"]["namespace"] == workload.namespace
            and selects(wanted, workload.labels)
        )
        key = (workload.namespace, id(sidecar) if sidecar else 0, selective)
        if key not in self._scopes:
            self._scopes[key] = self._scope(key, sidecar, selective)
        return self._scopes[key]

    def _scope(self, key: tuple[str, int, frozenset[int]], sidecar: Sidecar | None, selective: frozenset[int]) -> Scope:
        namespace = key[0]
        services = [s for s in self.services if s.visible_in(namespace)]
        routes = [v for v in self.virtual_services if v.visible_in(namespace)]
        rules = [
            rule
            for rule in self._destination_rules
            if id(rule) in selective or not (rule["spec"].get("workloadSelector") or {}).get("matchLabels")
        ]
        registry_only = self.mesh.registry_only
        if sidecar is not None:
            spec = sidecar["spec"]
            if spec.get("outboundTrafficPolicy"):
                registry_only = spec["outboundTrafficPolicy"].get("mode") == "REGISTRY_ONLY"
            egress = spec.get("egress") or []
            if egress:
                wanted = [scoped(host, namespace) for listener in egress for host in listener.get("hosts") or []]
                services = [s for s in services if _wanted(wanted, s.namespace, s.host)]
                routes = [v for v in routes if any(_wanted(wanted, v.namespace, h) for h in v.hosts)]
        routes = speaking(routes, namespace, lambda host: self.by_host.get(host))
        # Own namespace before others: where two Services claim a host, a proxy sees its neighbour.
        services.sort(key=lambda s: s.namespace != namespace)
        inside = tuple(v for v in routes if MESH in v.gateways)
        return Scope(
            namespace=namespace,
            services=tuple(services),
            virtual_services=tuple(routes),
            registry_only=registry_only,
            rules=DestinationRules(rules, namespace, self.mesh.root_namespace),
            sidecar=sidecar,
            key=key,
            inside=self.memo.same(Known(inside)),
            inside_tcp=self.memo.same(Known(tuple(v for v in inside if v.tcp or v.tls))),
            outside=self.memo.same(Known(tuple(v for v in routes if v.gateways != (MESH,)))),
        )

    def _sidecar(self, workload: Workload) -> Sidecar | None:
        general: Sidecar | None = None
        for obj in self.all(SIDECARS):
            wanted = (obj["spec"].get("workloadSelector") or {}).get("labels")
            if obj["metadata"]["namespace"] == workload.namespace:
                if wanted and selects(wanted, workload.labels):
                    return obj
                if not wanted and (general is None or general["metadata"]["namespace"] != workload.namespace):
                    general = obj
            elif obj["metadata"]["namespace"] == self.mesh.root_namespace and not wanted and general is None:
                general = obj
        return general


def _wanted(wanted: list[tuple[str, str]], namespace: str, host: str) -> bool:
    return any(where in ("*", namespace) and overlap(pattern, host) for where, pattern in wanted)
