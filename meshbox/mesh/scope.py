# SPDX-License-Identifier: Apache-2.0
"""What proxies of a namespace may see of the mesh."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from labkit.ground.hosts import fqdn, specificity, visible, within
from labkit.ground.routing import MESH, VirtualService
from meshbox.addresses import AddressPlan
from meshbox.mesh.by_host import ByHost
from meshbox.mesh.destination_rules import DestinationRules
from meshbox.mesh.memo import Known, Memo
from meshbox.mesh.mesh_config import MeshConfig
from meshbox.mesh.model import Port, Service
from meshbox.mesh.semantics import speaking
from meshbox.mesh.sidecars import narrowed

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule, DestinationRuleSpec
    from labkit.ground.typed.hosts import Sidecar
    from labkit.ground.typed.virtual_services import Destination

__all__ = ["Everything", "Scope", "by_host", "seen_from"]


def by_host(services: Iterable[Service]) -> dict[str, Service]:
    """Host → Service; the first one seen wins."""
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
        reached: Hosts that only visible VirtualServices lead to: they are told of, but not called by their names.
        beyond: What the proxies are not told of though this cluster has it: ports of Services, and where each is.
        virtual_services: Visible VirtualServices, oldest first.
        registry_only: Whether unknown destinations are refused.
        egress_proxy: Where requests to unknown destinations go instead, if anywhere.
        rules: The DestinationRules that it is told of.
        mesh: The mesh's settings.
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
    mesh: MeshConfig
    reached: tuple[Service, ...] = ()
    beyond: tuple[tuple[Service, Port, str], ...] = ()
    egress_proxy: Destination | None = None
    sidecar: Sidecar | None = None
    key: Hashable = None
    inside: Hashable = None
    inside_tcp: Hashable = None
    outside: Hashable = None
    cache: dict[Any, Any] = field(default_factory=dict)

    @functools.cached_property
    def by_host(self) -> dict[str, Service]:
        """Host → Service; the first one seen wins."""
        return by_host((*self.services, *self.reached))

    @functools.cached_property
    def at_port(self) -> dict[int, list[Service]]:
        """Port number → the visible hosts that have it, in their order."""
        found: dict[int, list[Service]] = defaultdict(list)
        for service in self.services:
            for number in dict.fromkeys(port.number for port in service.ports):
                found[number].append(service)
        return found

    @functools.cached_property
    def routed(self) -> ByHost[VirtualService]:
        """The visible VirtualServices that route HTTP inside the mesh, by their hosts."""
        found = ByHost[VirtualService]()
        for one in self.virtual_services:
            if one.http and MESH in one.gateways:
                for host in dict.fromkeys(one.hosts):
                    found.add(host, one)
        return found

    @functools.cached_property
    def shifted(self) -> dict[int, tuple[int, tuple[str, ...]]]:
        """Ports of what is beyond that this user may not bind → where they really are, and at which addresses."""
        found: dict[int, tuple[int, tuple[str, ...]]] = {}
        for _, port, where in self.beyond:
            address, _, real = where.rpartition(":")
            if int(real) != port.number:
                found[port.number] = int(real), (*found.get(port.number, (0, ()))[1], address)
        return found

    @functools.cached_property
    def aliases(self) -> dict[str, list[Service]]:
        """Host → the ExternalName Services that stand for it, where it is a Service of this cluster as well."""
        found: dict[str, list[Service]] = defaultdict(list)
        for service in self.services:
            if service.kubernetes and service.external:
                target = next(iter(service.endpoints.values()), ())
                meant = self.by_host.get(target[0].address.rstrip(".")) if target else None
                if meant is not None and meant.kubernetes and not meant.external:
                    found[meant.host].append(service)
        return found

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

    def rule_name(self, service: Service) -> tuple[str, str] | None:
        """Namespace and name of the rule for `service`."""
        key = ("rule's name", service.host, service.namespace)
        if key not in self.cache:
            self.cache[key] = self.rules.named_for(service.host, service.namespace)
        found: tuple[str, str] | None = self.cache[key]
        return found


class Everything(Struct, frozen=True):
    """What there is to be seen, and by which settings.

    Args:
        services: All hosts.
        virtual_services: All VirtualServices, oldest first.
        by_host: The hosts by name.
        mesh: The mesh's settings.
        memo: Keeps what snapshots have in common.
        plan: The sandbox's addresses.
        legacy: Whether Istio 1.2's rules apply.
    """

    services: tuple[Service, ...]
    virtual_services: tuple[VirtualService, ...]
    by_host: Mapping[str, Service]
    mesh: MeshConfig
    memo: Memo
    plan: AddressPlan
    legacy: bool


def seen_from(
    namespace: str, everything: Everything, sidecar: Sidecar | None, rules: list[DestinationRule], key: Hashable
) -> Scope:
    """What proxies of `namespace` see.

    Args:
        namespace: Theirs.
        everything: What there is.
        sidecar: The Sidecar object that applies, if any.
        rules: The DestinationRules that may be told of, oldest first.
        key: What tells this scope from the others of its snapshot.
    """
    mesh, memo, all_services = everything.mesh, everything.memo, everything.services
    services = [s for s in all_services if visible(s.exported_to or mesh.service_export, s.namespace, namespace)]
    routes = [
        v
        for v in everything.virtual_services
        if visible(v.export or mesh.virtual_service_export, v.namespace, namespace)
    ]
    registry_only, egress_proxy = mesh.registry_only, None
    reached: list[Service] = []
    if sidecar is not None:
        spec = sidecar["spec"]
        if policy := spec.get("outboundTrafficPolicy"):
            registry_only = policy.get("mode") == "REGISTRY_ONLY"
            egress_proxy = _whole(policy.get("egressProxy"), namespace)
        if spec.get("egress"):
            left = narrowed(spec, namespace, services, routes, legacy=everything.legacy)
            services, routes, reached = left.services, left.routes, left.reached
    routes = speaking(routes, namespace, lambda host: everything.by_host.get(host))
    # Own namespace before others: where two Services claim a host, a proxy sees its neighbour.
    services.sort(key=lambda s: s.namespace != namespace)
    if not everything.legacy:
        services = list(_one_for_each(services))
    inside = tuple(v for v in routes if MESH in v.gateways)
    return Scope(
        namespace=namespace,
        services=tuple(services),
        virtual_services=tuple(routes),
        registry_only=registry_only,
        rules=DestinationRules(rules, namespace, mesh.root_namespace, mesh.rule_export, merge_all=everything.legacy),
        mesh=mesh,
        reached=tuple(reached),
        beyond=() if registry_only or egress_proxy else tuple(_beyond(everything, services)),
        egress_proxy=egress_proxy,
        sidecar=sidecar,
        key=key,
        inside=memo.same(Known(inside)),
        inside_tcp=memo.same(Known(tuple(v for v in inside if v.tcp or v.tls))),
        outside=memo.same(Known(tuple(v for v in routes if v.gateways != (MESH,)))),
    )


def _one_for_each(services: Iterable[Service]) -> Iterator[Service]:
    """The hosts, each of them one object's: a Service's before a ServiceEntry's, else the first one's. Others add to it
    what they have where they are alike.
    """
    found: dict[str, list[Service]] = {}
    for service in services:
        known = found.setdefault(service.host, [])
        if not known or (service.kubernetes and not known[0].kubernetes):
            known[:] = [service]
        elif _like(service) == _like(known[0]):
            known.append(service)
    for each in found.values():
        yield from each


def _like(service: Service) -> Hashable:
    return service.namespace, service.resolution, service.exported_to, service.kubernetes


def _beyond(everything: Everything, seen: list[Service]) -> Iterator[tuple[Service, Port, str]]:
    """What kube-proxy serves besides: where the hosts that a proxy sees are all there are, there is nothing."""
    whole = set(map(id, seen))
    if all(id(service) in whole for service in everything.services):
        return
    known = {(service.host, port.number) for service in seen for port in service.ports}
    for service in everything.services:
        for port in service.ports if service.kubernetes and service.addresses else ():
            if (service.host, port.number) not in known:
                yield service, port, f"{service.addresses[0]}:{everything.plan.port(port.number)}"


def _whole(proxy: Destination | None, namespace: str) -> Destination | None:
    """A Sidecar's `egressProxy` with its whole host."""
    return {**proxy, "host": fqdn(str(proxy.get("host") or ""), namespace)} if proxy else None
