"""All objects at one moment, and what one proxy may see of them."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.ground.hosts import overlap, scoped, specificity, within
from labkit.ground.int_or_string import target_port
from labkit.ground.labels import selects
from labkit.ground.routing import MESH, DestinationRules, VirtualService, read
from meshbox.addresses import AddressPlan
from meshbox.contracts import Obj
from meshbox.mesh.memo import Identity, Known, Memo
from meshbox.mesh.model import MeshConfig, Port, Service, Workload, labels
from meshbox.mesh.service_registry import kubernetes_services, service_entries

__all__ = ["RESOURCES", "Scope", "Snapshot", "by_age"]

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
AUTHENTICATION = "authentication.istio.io"

VIRTUAL_SERVICES = f"virtualservices.{NETWORKING}"
DESTINATION_RULES = f"destinationrules.{NETWORKING}"
GATEWAYS = f"gateways.{NETWORKING}"
SERVICE_ENTRIES = f"serviceentries.{NETWORKING}"
SIDECARS = f"sidecars.{NETWORKING}"
ENVOY_FILTERS = f"envoyfilters.{NETWORKING}"
PEER_AUTHENTICATIONS = f"peerauthentications.{SECURITY}"
REQUEST_AUTHENTICATIONS = f"requestauthentications.{SECURITY}"
AUTHORIZATION_POLICIES = f"authorizationpolicies.{SECURITY}"
POLICIES = f"policies.{AUTHENTICATION}"
MESH_POLICIES = f"meshpolicies.{AUTHENTICATION}"
TELEMETRIES = "telemetries.telemetry.istio.io"

ISTIO_RESOURCES = (
    VIRTUAL_SERVICES,
    DESTINATION_RULES,
    GATEWAYS,
    SERVICE_ENTRIES,
    SIDECARS,
    ENVOY_FILTERS,
    PEER_AUTHENTICATIONS,
    REQUEST_AUTHENTICATIONS,
    AUTHORIZATION_POLICIES,
    POLICIES,
    MESH_POLICIES,
    TELEMETRIES,
)

RESOURCES = (
    "services",
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "pods",
    "configmaps",
    "secrets",
    *ISTIO_RESOURCES,
)
"""What a snapshot is made of, in the form `Objects` names resources."""


def by_age(objects: Iterable[Obj]) -> list[Obj]:
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
    sidecar: Obj | None = None
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

    def destination_rule(self, service: Service) -> Obj | None:
        """The spec of the rule for `service`."""
        key = ("rule", service.host, service.namespace)
        if key not in self.cache:
            self.cache[key] = self.rules.spec_for(service.host, service.namespace)
        found: Obj | None = self.cache[key]
        return found


def _is(obj: Obj, service: Service) -> bool:
    return bool(obj["metadata"]["name"] == service.name and obj["metadata"]["namespace"] == service.namespace)


class Snapshot:
    """All objects at one moment.

    Args:
        objects: Resource → its objects, as stored.
        plan: The sandbox's addresses.
        legacy: Whether Istio 1.2's rules apply.
        memo: Keeps what snapshots have in common.

    Attributes:
        modes: What `mtls_mode` has found for a workload's port.
    """

    def __init__(
        self, objects: Mapping[str, Iterable[Obj]], plan: AddressPlan, *, legacy: bool, memo: Memo | None = None
    ) -> None:
        self.plan = plan
        self.legacy = legacy
        self.memo = memo or Memo()
        self.memo.turn()
        self._objects = {resource: list(objects.get(resource, ())) for resource in RESOURCES}
        pods = [
            pod for pod in self._objects["pods"] if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        ]
        self.pods = {(pod["metadata"]["namespace"], pod["metadata"]["name"]): pod for pod in pods}
        self.workloads = {key: self.memo.same(Workload.of(pod)) for key, pod in self.pods.items()}
        pilots = [pod for pod in pods if labels(pod).get("istio") == "pilot"]
        self.mesh = MeshConfig.of(self._objects["configmaps"], pilots, legacy=legacy)
        self.services = (
            *kubernetes_services(
                self._objects["services"],
                self._objects["endpointslices.discovery.k8s.io"],
                self._objects["endpoints"],
                self.workloads,
                self.memo,
                legacy=legacy,
            ),
            *service_entries(by_age(self._objects[SERVICE_ENTRIES]), self.workloads.values(), legacy=legacy),
        )
        self.modes: dict[tuple[Workload, int], str] = {}
        self._scopes: dict[Any, Scope] = {}
        self._sorted: dict[str, list[Obj]] = {}

    def all(self, resource: str) -> list[Obj]:
        """The objects of `resource`, oldest first."""
        if resource not in self._sorted:
            self._sorted[resource] = by_age(self._objects[resource])
        return self._sorted[resource]

    @functools.cached_property
    def by_host(self) -> dict[str, Service]:
        """Every host of the mesh; the first one seen wins."""
        return _by_host(self.services)

    @functools.cached_property
    def secrets(self) -> dict[tuple[str, str], Obj]:
        """Secrets by namespace and name."""
        return {(s["metadata"]["namespace"], s["metadata"]["name"]): s for s in self._objects["secrets"]}

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
        resources = ("services", SERVICE_ENTRIES, DESTINATION_RULES, SIDECARS)
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
        objects = (obj for resource in ("services", *resources) for obj in self._objects[resource])
        return self.memo.same(Known((Identity(objects), self.services, self.mesh)))

    @functools.cached_property
    def _destination_rules(self) -> list[Obj]:
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
        spec: Obj = next((s["spec"] for s in self._objects["services"] if _is(s, service)), {})
        entry: Obj = next((p for p in spec.get("ports") or [] if p["port"] == port.number), {})
        number = target_port({"port": port.number, **entry}, self.pods[key]["spec"])
        return set() if number is None else {number}

    def selected(self, resource: str, workload: Workload) -> list[Obj]:
        """Objects of `resource` that apply to `workload`: in its namespace or the root one, selecting its labels."""
        found = []
        for obj in self.all(resource):
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

    def _scope(self, key: tuple[str, int, frozenset[int]], sidecar: Obj | None, selective: frozenset[int]) -> Scope:
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

    def _sidecar(self, workload: Workload) -> Obj | None:
        general = None
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
