# SPDX-License-Identifier: Apache-2.0
"""All objects at one moment, and what one proxy may see of them."""

from __future__ import annotations

import copy
import functools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from labkit.ground.int_or_string import target_port
from labkit.ground.labels import selects
from labkit.ground.routing import VirtualService, read
from meshbox.addresses import AddressPlan
from meshbox.contracts import View
from meshbox.mesh import ingresses
from meshbox.mesh.attachment import is_for_targets, target_refs
from meshbox.mesh.discovery import discovered
from meshbox.mesh.entry_hosts import all_hosts, service_entries
from meshbox.mesh.gateway_api.convert import NOTHING, convert
from meshbox.mesh.kinds import (
    AUTHORIZATION_POLICIES,
    CONFIG_MAPS,
    DESTINATION_RULES,
    ENDPOINT_SLICES,
    ENDPOINTS,
    ENVOY_FILTERS,
    GATEWAYS,
    ISTIO_RESOURCES,
    NODES,
    PEER_AUTHENTICATIONS,
    PODS,
    REQUEST_AUTHENTICATIONS,
    RESOURCES,
    SECRETS,
    SERVICE_ENTRIES,
    SERVICES,
    SIDECARS,
    VIRTUAL_SERVICES,
    WORKLOAD_ENTRIES,
    Kind,
)
from meshbox.mesh.locality import Place, labels_at, located, of_pod, priority_labels
from meshbox.mesh.memo import Identity, Known, Memo
from meshbox.mesh.mesh_config import MeshConfig
from meshbox.mesh.model import Port, Service, Workload, labels
from meshbox.mesh.policies import every_policy
from meshbox.mesh.providers import hosts_in
from meshbox.mesh.revisions import is_istiod
from meshbox.mesh.scope import Everything, Scope, by_host, seen_from
from meshbox.mesh.service_registry import kubernetes_services
from meshbox.mesh.settings import is_mesh
from meshbox.mesh.workload_entries import machines
from meshbox.port_protocols import is_raw

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule
    from labkit.ground.typed.hosts import Sidecar
    from meshbox.typed.pods import Pod
    from meshbox.typed.services import Secret

__all__ = ["Snapshot", "by_age"]

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


class Snapshot:
    """All objects at one moment.

    Args:
        objects: Resource → its objects, as stored.
        plan: The sandbox's addresses.
        legacy: Whether Istio 1.2's rules apply.
        memo: Keeps what snapshots have in common.
        listening: What applications behind sidecars listen on, by pods' addresses.
        keys: The keys that were fetched, by where they came from.

    Attributes:
        converted: What the objects of the Gateway API became; Istio's own among it are objects of this snapshot.
        modes: What `mtls_mode` has found for a workload's port.
        machines: What WorkloadEntries tell of.
    """

    def __init__(
        self,
        objects: Mapping[str, Iterable[View]],
        plan: AddressPlan,
        *,
        legacy: bool,
        memo: Memo | None = None,
        listening: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self._sorted: dict[str, list[Any]] = {}
        self.plan = plan
        self.legacy = legacy
        self.keys = dict(keys or {})
        self.memo = memo or Memo()
        self.memo.turn()
        self._objects: dict[str, list[Any]] = {resource: list(objects.get(resource, ())) for resource in RESOURCES}
        pods = [pod for pod in self._of(PODS) if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
        self.pods = {(pod["metadata"]["namespace"], pod["metadata"]["name"]): pod for pod in pods}
        pilots = [pod for pod in pods if is_istiod(pod)]
        self.mesh = MeshConfig.of(self._of(CONFIG_MAPS), pilots, legacy=legacy)
        self._objects = discovered(self._objects, self.mesh.discovery)
        self.converted = convert(self._objects, self.memo, legacy=legacy)
        self._objects[GATEWAYS] += self.converted.gateways
        self._objects[VIRTUAL_SERVICES] += self.converted.virtual_services
        self._objects[DESTINATION_RULES] += self.converted.destination_rules
        domain = self.mesh.trust_domains[0]
        nodes = {node["metadata"]["name"]: labels(node) for node in self._of(NODES) if located(labels(node))}
        self.workloads = dict(zip(self.pods, self._workloads(nodes, listening, domain), strict=True))
        outside = self.machines = machines(self.all(WORKLOAD_ENTRIES), domain)
        entries = self.all(SERVICE_ENTRIES)
        self.services = all_hosts(
            # Of two that claim a host the older one has it, also after a restart, when they are met by their names.
            kubernetes_services(
                self.all(SERVICES),
                self._of(ENDPOINT_SLICES),
                self._of(ENDPOINTS),
                self.workloads,
                outside,
                self.memo,
                legacy=legacy,
            ),
            service_entries(entries, self.workloads.values(), outside, self.memo, legacy=legacy, trust_domain=domain),
            self.memo,
            legacy=legacy,
        )
        ways_in = ingresses.played(self._objects, self.mesh, self.memo, legacy=legacy)
        self._objects[GATEWAYS] += ways_in.gateways
        self._objects[VIRTUAL_SERVICES] += ways_in.virtual_services
        self.modes: dict[tuple[Workload, int], str] = {}
        self._scopes: dict[Any, Scope] = {}

    def _workloads(
        self, nodes: Mapping[str, Mapping[str, str]], listening: Mapping[str, tuple[int, ...]], domain: str
    ) -> list[Workload]:
        def beside(pod: Pod) -> tuple[str, tuple[int, ...], str]:
            ip = (pod.get("status") or {}).get("podIP", "")
            return of_pod(pod, nodes, legacy=self.legacy), listening.get(ip, ()), domain

        def made(pod: Pod, known: tuple[str, tuple[int, ...], str]) -> Workload:
            place, ports, domain = known
            return Workload.of(pod, place, {pod.get("status", {}).get("podIP", ""): ports}, domain)

        pods = self.pods.values()
        key = ("workloads", Identity(pods), Identity(self._of(NODES)), Identity((listening,)), domain)
        found: list[Workload] = self.memo(key, lambda: self.memo.each("workloads", pods, made, beside))
        return found

    def beside(self, objects: Mapping[str, Iterable[View]]) -> Snapshot | None:
        """This snapshot with other Secrets and ConfigMaps, which most proxies' configuration is not made of; None where
        something else may be another for them: the mesh's settings, or what the Gateway API's objects become.

        Args:
            objects: Resource → its objects, as stored; all but Secrets and ConfigMaps the same as this snapshot's.
        """
        if self.converted is not NOTHING:
            return None
        fresh: dict[str, list[Any]] = {resource: list(objects.get(resource, ())) for resource in (SECRETS, CONFIG_MAPS)}
        before, now = ([one for one in maps if is_mesh(one)] for maps in (self._of(CONFIG_MAPS), fresh[CONFIG_MAPS]))
        if Identity(before) != Identity(now):
            return None
        found = copy.copy(self)
        found._objects = self._objects | fresh
        found._sorted = {resource: known for resource, known in self._sorted.items() if resource not in fresh}
        found.__dict__.pop("secrets", None)
        return found

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
        return by_host(self.services)

    @functools.cached_property
    def _everything(self) -> Everything:
        return Everything(
            self.services, self.virtual_services, self.by_host, self.mesh, self.memo, self.plan, legacy=self.legacy
        )

    @functools.cached_property
    def secrets(self) -> dict[tuple[str, str], Secret]:
        """Secrets by namespace and name."""
        return {(s["metadata"]["namespace"], s["metadata"]["name"]): s for s in self._of(SECRETS)}

    @functools.cached_property
    def virtual_services(self) -> tuple[VirtualService, ...]:
        """All VirtualServices, oldest first, with the routes of their delegates."""
        objects, export = self.all(VIRTUAL_SERVICES), self.mesh.virtual_service_export
        found: tuple[VirtualService, ...] = self.memo(
            (VIRTUAL_SERVICES, Identity(objects), export), lambda: tuple(read(objects, export))
        )
        return found

    @functools.cached_property
    def routing(self) -> Hashable:
        """What the routes of a scope are made of besides VirtualServices: no endpoints, which change most."""
        resources = (SERVICES, SERVICE_ENTRIES, DESTINATION_RULES, SIDECARS)
        objects = Identity(obj for resource in resources for obj in self._objects[resource])
        return self.memo.same(Known((objects, self.mesh)))

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
        return self.memo.same(Known((self.routing, headless)))

    @functools.cached_property
    def judging(self) -> Hashable:
        """What is made of the calls that arrive at an application, besides what its own Services say of it: today's
        policies, keys, and the Services of whoever is asked.
        """
        resources = (PEER_AUTHENTICATIONS, REQUEST_AUTHENTICATIONS, AUTHORIZATION_POLICIES)
        policies = Identity(obj for resource in resources for obj in self._objects[resource])
        hosts = hosts_in(self.mesh.providers)
        asked = Identity(service for service in self.services if service.host in hosts) if hosts else None
        return self.memo.same(Known((policies, asked, self.mesh, tuple(sorted(self.keys.items())))))

    @functools.cached_property
    def surroundings(self) -> Hashable:
        """What a proxy's configuration is made of besides VirtualServices, its own pod and a gateway's secrets."""
        resources = [resource for resource in ISTIO_RESOURCES if resource not in (VIRTUAL_SERVICES, ENVOY_FILTERS)]
        objects = (obj for resource in (SERVICES, *resources) for obj in self._objects[resource])
        keys = tuple(sorted(self.keys.items()))
        accounts = tuple(self.accounts.items())
        return self.memo.same(Known((Identity(objects), Identity(self.services), self.mesh, keys, accounts)))

    def place(self, workload: Workload) -> Place:
        """Where a client is, as far as load balancing asks: the same for all where nothing does."""
        placed, keys = self._places
        if not placed and not keys:
            return Place()
        own = labels_at(workload.labels, workload.locality, workload.node)
        return Place(workload.locality if placed else "", tuple((key, own[key]) for key in keys if key in own))

    @functools.cached_property
    def _places(self) -> tuple[bool, tuple[str, ...]]:
        """Whether it is known of any endpoint where it is, and the labels of clients that matter beside that."""
        rules = self._destination_rules
        workloads = (*self.workloads.values(), *(machine.workload for machine in self.machines))
        placed = any(workload.locality for workload in workloads) or any(
            endpoint.locality
            for service in self.services
            if not service.selector
            for endpoints in service.endpoints.values()
            for endpoint in endpoints
        )

        def named() -> set[str]:
            settings = [
                (policy.get("loadBalancer") or {}).get("localityLbSetting")
                for rule in rules
                for policy in every_policy(rule["spec"])
            ]
            return set().union(*(priority_labels(setting) for setting in settings))

        keys = self.memo(("priority labels", Identity(rules)), named) | priority_labels(self.mesh.locality)
        return placed, tuple(sorted(keys.union(*(service.nearest for service in self.services))))

    @functools.cached_property
    def _destination_rules(self) -> list[DestinationRule]:
        return self.all(DESTINATION_RULES)

    @functools.cached_property
    def services_of(self) -> dict[tuple[str, str], list[Service]]:
        """Namespace and pod name → the Services whose selector chooses that pod."""
        labelled: dict[tuple[str, str, str], list[Workload]] = defaultdict(list)
        for workload in self.workloads.values():
            for label, value in workload.labels.items():
                labelled[workload.namespace, label, value].append(workload)
        found: dict[tuple[str, str], list[Service]] = defaultdict(list)
        for service in self.services:
            if not service.selector:
                continue
            # Who has all of its labels is among the few that have the rarest.
            having = (labelled.get((service.namespace, *one), []) for one in service.selector.items())
            for workload in min(having, key=len):
                if selects(service.selector, workload.labels):
                    found[workload.namespace, workload.pod].append(service)
        return found

    @functools.cached_property
    def accounts(self) -> dict[tuple[str, str], frozenset[str]]:
        """Namespace and host of each Service → the identities of the pods that its selector chooses.

        Ready or not: who may answer is known before anybody does, so that a pod that becomes ready changes no cluster.
        """
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for key, services in self.services_of.items():
            for service in services:
                found[service.namespace, service.host].add(self.workloads[key].principal)
        return {name: frozenset(found[name]) for name in sorted(found)}

    @functools.cached_property
    def raw_entries(self) -> dict[tuple[str, str], set[int]]:
        """Namespace and pod name → its ports that ServiceEntries choose for something else than HTTP."""
        found: dict[tuple[str, str], set[int]] = defaultdict(set)
        for service in self.services:
            for port in service.ports if not service.kubernetes else ():
                for endpoint in service.endpoints.get(port.number, ()) if is_raw(port.protocol) else ():
                    if endpoint.workload is not None:
                        found[endpoint.workload.namespace, endpoint.workload.pod].add(endpoint.port)
        return found

    @functools.cached_property
    def _ports(self) -> dict[tuple[str, str], dict[int, View]]:
        """The ports of Kubernetes' Services by number, the first of each, by namespace and name."""
        return {
            (one["metadata"]["namespace"], one["metadata"]["name"]): {
                port["port"]: port for port in reversed(one["spec"].get("ports") or [])
            }
            for one in self._of(SERVICES)
        }

    def target_ports(self, service: Service, port: Port, key: tuple[str, str]) -> set[int]:
        """The ports of pod `key` behind a Service's `port`, whether or not the pod is ready yet."""
        entry: View = self._ports.get((service.namespace, service.name), {}).get(port.number, {})
        number = target_port({"port": port.number, **entry}, self.pods[key]["spec"])
        return set() if number is None else {number}

    def selected(self, kind: Kind[_T], workload: Workload) -> list[_T]:
        """Objects of a kind that apply to `workload`: in its namespace or the root one, selecting its labels or the
        Gateway it stands for.
        """
        found = []
        for obj in self.all(kind):
            spec = obj.get("spec") or {}
            selector = spec.get("selector") or spec.get("workloadSelector") or {}
            wanted = selector.get("matchLabels") or selector.get("labels") or {}
            namespace = obj["metadata"]["namespace"]
            if namespace not in (workload.namespace, self.mesh.root_namespace):
                continue
            targets = target_refs(spec)
            if is_for_targets(targets, namespace, workload) if targets else selects(wanted, workload.labels):
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
            rules = [
                rule
                for rule in self._destination_rules
                if id(rule) in selective or not (rule["spec"].get("workloadSelector") or {}).get("matchLabels")
            ]
            self._scopes[key] = seen_from(workload.namespace, self._everything, sidecar, rules, key)
        return self._scopes[key]

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
