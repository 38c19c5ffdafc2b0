# SPDX-License-Identifier: Apache-2.0
"""Routes of the Gateway API as VirtualServices.

A listener, or a caller's namespace inside the mesh, has one list of rules for a host, whoever wrote them: the rules of
all routes are put together, in the order that the Gateway API gives their matches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from labkit.ground.hosts import overlap
from labkit.ground.routing import MESH
from meshbox.contracts import View
from meshbox.mesh.gateway_api.backends import Backends
from meshbox.mesh.gateway_api.faults import Fault, RouteFault
from meshbox.mesh.gateway_api.http_rules import http_rules, in_precedence
from meshbox.mesh.gateway_api.listeners import Listener
from meshbox.mesh.gateway_api.parents import AtListener, InMesh, Parent, parents
from meshbox.mesh.gateway_api.status import Condition, RouteStatus
from meshbox.mesh.gateway_api.streams import stream_targets, tcp_rules, tls_rules
from meshbox.mesh.semantics import GATEWAY_API

if TYPE_CHECKING:
    from labkit.ground.typed import virtual_services as api

__all__ = ["RouteKey", "virtual_services"]

RouteKey = tuple[str, str, str]
"""Kind, namespace and name of a route."""

_Places = list[tuple[Parent, AtListener | InMesh]]


def virtual_services(
    routes: Iterable[View],
    listeners: Sequence[Listener],
    services: Collection[View],
    grants: Collection[View],
    namespaces: Mapping[str, Mapping[str, str]],
    entries: Sequence[View] = (),
) -> tuple[list[api.VirtualService], dict[RouteKey, RouteStatus]]:
    """The VirtualServices that play routes, and what the routes' status says.

    Args:
        routes: HTTPRoutes, GRPCRoutes, TLSRoutes and TCPRoutes, in any order.
        listeners: All listeners of Gateways and ListenerSets.
        services: Kubernetes' Services.
        grants: The ReferenceGrants.
        namespaces: The labels of each namespace, by its name.
        entries: The ServiceEntries.
    """
    backends = Backends(services, entries, grants)
    made: list[api.VirtualService] = []
    merged: dict[tuple[str, str], _Merged] = {}
    statuses: dict[RouteKey, RouteStatus] = {}
    for route in sorted(routes, key=_age):
        found = parents(route, listeners, namespaces, backends)
        faults: dict[bool, Fault | None] = {}
        for mesh in (True, False):
            places = [(parent, place) for parent in found if parent.mesh == mesh for place in parent.bound]
            if not any(parent.mesh == mesh for parent in found):
                continue
            try:
                faults[mesh] = _play(route, places, backends, merged, made, mesh=mesh)
            except RouteFault as error:
                faults[mesh] = error.fault
        statuses[_key(route)] = _status(found, faults)
    return [*(one.virtual_service() for one in merged.values()), *made], statuses


def _key(route: View) -> RouteKey:
    return route["kind"], route["metadata"]["namespace"], route["metadata"]["name"]


def _age(route: View) -> tuple[str, str, str]:
    meta = route["metadata"]
    return meta.get("creationTimestamp") or "", meta["namespace"], meta["name"]


class _Merged(Struct):
    """The rules of one kind of route for one host at one place.

    Args:
        oldest: The first of its routes.
        name: The name of what it becomes.
        host: The host.
        gateway: The internal Gateway, or "mesh".
        rules: The rules, the oldest route's first.
    """

    oldest: View
    name: str
    host: str
    gateway: str
    rules: list[api.HTTPRoute] = field(default_factory=list)

    def virtual_service(self) -> api.VirtualService:
        """The rules in the order in which they are asked."""
        spec: api.VirtualServiceSpec = {"hosts": [self.host], "gateways": [self.gateway]}
        return _made(self.oldest, self.name, {**spec, "http": in_precedence(self.rules)})


def _made(route: View, name: str, spec: api.VirtualServiceSpec) -> api.VirtualService:
    meta = route["metadata"]
    found: api.VirtualService = {
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "creationTimestamp": meta.get("creationTimestamp") or "",
        },
        "spec": spec,
    }
    return found


def _play(
    route: View,
    places: _Places,
    backends: Backends,
    merged: dict[tuple[str, str], _Merged],
    made: list[api.VirtualService],
    *,
    mesh: bool,
) -> Fault | None:
    """Add what a route does at some places; what cannot be had of what it names."""
    if route["kind"] in ("HTTPRoute", "GRPCRoute"):
        rules, fault = http_rules(route, backends, mesh=mesh)
        for place in (place for _, place in places if rules):
            _merge(route, rules, place, merged)
        return fault
    targets, fault = stream_targets(route, backends, mesh=mesh)
    for number, (gateway, host, spec) in enumerate(_stream_specs(route, targets, places)):
        name = f"{route['metadata']['name']}~{route['kind'][:3].lower()}~{number}{GATEWAY_API}"
        made.append(_made(route, name, {"hosts": [host], "gateways": [gateway], **spec}))
    return fault


def _merge(
    route: View,
    rules: list[api.HTTPRoute],
    place: AtListener | InMesh,
    merged: dict[tuple[str, str], _Merged],
) -> None:
    if isinstance(place, AtListener):
        where = gateway = place.listener.internal
    else:
        # A namespace rules what it calls itself, and the Service's own namespace what all others do.
        gateway, where = MESH, str(route["metadata"]["namespace"])
        if place.port:
            where += f"/{place.port}"
            rules = [_at_port(rule, place.port) for rule in rules]
    for host in place.hosts:
        key = f"{where}/{host}"
        name = key.replace("/", "~")
        known = merged.setdefault(
            (route["kind"], key),
            _Merged(route, name if GATEWAY_API in name else name + GATEWAY_API, host, gateway),
        )
        known.rules += rules


def _at_port(rule: api.HTTPRoute, port: int) -> api.HTTPRoute:
    return {**rule, "match": [{**match, "port": port} for match in rule.get("match") or [{}]]}


def _stream_specs(
    route: View, targets: list[list[api.RouteDestination]], places: _Places
) -> Iterator[tuple[str, str, api.VirtualServiceSpec]]:
    """Gateway, host and rules of each VirtualService that a TCPRoute or TLSRoute becomes."""
    tls = route["kind"] == "TLSRoute"
    named = [str(host) for host in (route.get("spec") or {}).get("hostnames") or []]
    for _, place in places:
        if isinstance(place, InMesh):
            for host in place.hosts:
                if tls:
                    yield MESH, host, {"tls": tls_rules(targets, _names_in_mesh(named, host), place.port)}
                else:
                    yield MESH, host, {"tcp": tcp_rules(targets, place.port)}
        elif tls:
            for host in place.hosts:
                yield place.listener.internal, host, {"tls": tls_rules(targets, [host])}
        else:
            yield place.listener.internal, "*", {"tcp": tcp_rules(targets)}


def _names_in_mesh(named: list[str], host: str) -> list[str]:
    """The server names that mean a host inside the mesh: its own where the route has none, else those that fit it."""
    return [name for name in named if overlap(name, host)] if len(named) > 1 else named or [host]


def _status(found: Iterable[Parent], faults: Mapping[bool, Fault | None]) -> RouteStatus:
    told: list[tuple[View, tuple[Condition, ...]]] = []
    attached: list[str] = []
    for parent in found:
        fault, denied = faults.get(parent.mesh), parent.denied
        places = [place.listener for place in parent.bound if isinstance(place, AtListener)]
        # Istio counts no routes at the listeners of sets: their status says 0.
        attached += [f"{one.namespace}/{one.name}/{one.section}" for one in places if one.kind == "Gateway"]
        count = len(parent.bound)
        words = f"Route was valid, bound to {count} parents" if count > 1 else "Route was valid"
        accepted = Condition("Accepted", "Accepted", words)
        if denied is not None:
            accepted = Condition("Accepted", denied.reason, denied.message, status=False)
        resolved = Condition("ResolvedRefs", "ResolvedRefs", "All references resolved")
        if fault is not None:
            resolved = Condition("ResolvedRefs", fault.reason, fault.message, status=False)
        told.append((parent.ref, (accepted, resolved)))
    return RouteStatus(tuple(told), tuple(dict.fromkeys(attached)))
