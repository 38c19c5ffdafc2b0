# SPDX-License-Identifier: Apache-2.0
"""The objects of the Gateway API, turned into Istio's own, with what their status has to say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct, field

from meshbox.contracts import View
from meshbox.mesh import kinds
from meshbox.mesh.gateway_api.backend_tls import Ancestor, Targets, backend_tls, behind
from meshbox.mesh.gateway_api.binding import SERVICE, services_of
from meshbox.mesh.gateway_api.classes import Classes
from meshbox.mesh.gateway_api.listener_sets import Added, added
from meshbox.mesh.gateway_api.listeners import Built, Listener, built, internal_name
from meshbox.mesh.gateway_api.routes import RouteKey, virtual_services
from meshbox.mesh.gateway_api.status import RouteStatus
from meshbox.mesh.gateway_api.tls import Around
from meshbox.mesh.memo import Identity, Memo

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule
    from labkit.ground.typed.hosts import Gateway
    from labkit.ground.typed.virtual_services import VirtualService

__all__ = ["NOTHING", "POLICY", "SET", "Converted", "convert"]

_Key = tuple[str, str]
POLICY, SET = "BackendTLSPolicy", "ListenerSet"
_T = TypeVar("_T", bound=View)

_ROUTES = (kinds.HTTP_ROUTES, kinds.GRPC_ROUTES, kinds.TLS_ROUTES, kinds.TCP_ROUTES)
_SUBJECTS: tuple[str, ...] = (kinds.KUBERNETES_GATEWAYS, kinds.LISTENER_SETS, *_ROUTES, kinds.BACKEND_TLS_POLICIES)
_ASKED: tuple[str, ...] = (
    *kinds.GATEWAY_API_RESOURCES,
    kinds.NAMESPACES,
    kinds.SERVICES,
    kinds.SERVICE_ENTRIES,
    kinds.SECRETS,
    kinds.CONFIG_MAPS,
)
"""All that a conversion looks at."""


class Converted(Struct, frozen=True):
    """What the objects of the Gateway API become.

    Args:
        gateways: An Istio Gateway for each listener and each Service that it is reached by.
        virtual_services: From routes.
        destination_rules: From BackendTLSPolicies.
        listeners: The listeners.
        built: Namespace and name of a Gateway → its listeners, with what their status says.
        sets: Namespace and name of a ListenerSet → what it adds to its Gateway.
        attached: How many routes each listener has, by "namespace/gateway/section".
        routes: The status of each route.
        policies: Namespace and name of a BackendTLSPolicy → what its status says.
        generations: Of all objects that this was made of and that have a status, by kind, namespace and name.
    """

    gateways: tuple[Gateway, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    listeners: tuple[Listener, ...] = ()
    built: Mapping[_Key, Sequence[Built]] = field(default_factory=dict)
    sets: Mapping[_Key, Added] = field(default_factory=dict)
    attached: Mapping[str, int] = field(default_factory=dict)
    routes: Mapping[RouteKey, RouteStatus] = field(default_factory=dict)
    policies: Mapping[_Key, Sequence[Ancestor]] = field(default_factory=dict)
    generations: Mapping[RouteKey, int] = field(default_factory=dict)

    def added_to(self, place: _Key) -> list[Built]:
        """The listeners that ListenerSets add to a Gateway."""
        return [one for each in self.sets.values() if each.parent == place for one in each.listeners]


NOTHING = Converted()


def convert(objects: Mapping[str, Sequence[View]], memo: Memo, *, legacy: bool) -> Converted:
    """Turn the Gateway API's objects into Istio's, as long as none of what they look at has changed the very same.

    Args:
        objects: All objects, by resource.
        memo: Keeps what two snapshots in a row are made of.
        legacy: Whether Istio 1.2 is played, which knows no Gateway API.
    """
    if legacy or not any(objects[resource] for resource in _SUBJECTS):
        return NOTHING
    seen = Identity(obj for resource in _ASKED for obj in objects[resource])
    found: Converted = memo(("gateway api", seen), lambda: _convert(objects, memo))
    return found


def _convert(objects: Mapping[str, Sequence[View]], memo: Memo) -> Converted:
    namespaces = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in objects[kinds.NAMESPACES]}
    around = Around(
        objects[kinds.REFERENCE_GRANTS],
        _named(objects[kinds.SECRETS]),
        _named(objects[kinds.CONFIG_MAPS]),
        namespaces,
    )
    classes = Classes(objects[kinds.GATEWAY_CLASSES])
    services = _named(objects[kinds.SERVICES])
    made: list[Gateway] = []
    all_built: dict[_Key, list[Built]] = {}
    generations: dict[RouteKey, int] = {}
    for gateway in _oldest_first(objects[kinds.KUBERNETES_GATEWAYS]):
        meta = gateway["metadata"]
        generations["Gateway", meta["namespace"], meta["name"]] = meta.get("generation", 1)
        all_built[meta["namespace"], meta["name"]] = found = built(gateway, classes, around)
        for one in found:
            made += _internal(meta, gateway, one, services)
    gateways, sets = _named(objects[kinds.KUBERNETES_GATEWAYS]), {}
    for listener_set in _oldest_first(objects[kinds.LISTENER_SETS]):
        meta = listener_set["metadata"]
        generations[SET, meta["namespace"], meta["name"]] = meta.get("generation", 1)
        if (more := added(listener_set, gateways, classes, around)) is not None:
            sets[meta["namespace"], meta["name"]] = more
            for one in more.listeners:
                made += _internal(meta, more.gateway, one, services)
    all_of_sets = (each.listeners for each in sets.values())
    listeners = [one.listener for each in (*all_built.values(), *all_of_sets) for one in each]
    routes = _oldest_first([route for resource in _ROUTES for route in objects[resource]])
    virtual, statuses = virtual_services(
        routes,
        listeners,
        objects[kinds.SERVICES],
        objects[kinds.REFERENCE_GRANTS],
        namespaces,
        objects[kinds.SERVICE_ENTRIES],
    )
    targets = Targets(
        objects[kinds.SERVICES], objects[kinds.SERVICE_ENTRIES], objects[kinds.CONFIG_MAPS], behind(routes, statuses)
    )
    rules, policies = backend_tls(objects[kinds.BACKEND_TLS_POLICIES], targets)
    for policy in objects[kinds.BACKEND_TLS_POLICIES]:
        meta = policy["metadata"]
        generations[POLICY, meta["namespace"], meta["name"]] = meta.get("generation", 1)
    for route in routes:
        meta = route["metadata"]
        generations[route["kind"], meta["namespace"], meta["name"]] = meta.get("generation", 1)
    return Converted(
        gateways=tuple(_same(one, memo) for one in made),
        virtual_services=tuple(_same(one, memo) for one in virtual),
        destination_rules=tuple(_same(one, memo) for one in rules),
        policies=policies,
        listeners=tuple(listeners),
        built=all_built,
        sets=sets,
        attached=Counter(name for status in statuses.values() for name in dict.fromkeys(status.attached)),
        routes=statuses,
        generations=generations,
    )


def _named(objects: Sequence[View]) -> dict[_Key, View]:
    return {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in objects}


def _oldest_first(objects: Sequence[View]) -> list[View]:
    def age(obj: View) -> tuple[str, str]:
        meta = obj["metadata"]
        return meta.get("creationTimestamp") or "", f"{meta['namespace']}/{meta['name']}"

    return sorted(objects, key=age)


def _internal(meta: View, gateway: View, one: Built, services: Mapping[_Key, View]) -> list[Gateway]:
    """Istio's own Gateways for a listener: one for each Service by which the Gateway is reached.

    Args:
        meta: The metadata of what the listener is written in: the Gateway, or a ListenerSet.
        gateway: The Gateway.
        one: The listener.
        services: The Services by namespace and name.
    """
    if one.server is None:
        return []
    found: list[Gateway] = []
    for place in services_of(gateway):
        spec = (services.get(place) or {}).get("spec") or {}
        selector = spec.get("selector")
        # A Service of another namespace is not this Gateway's to listen at, nor is a port that it does not have.
        if not selector or place[0] != gateway["metadata"]["namespace"]:
            continue
        if not any(port["port"] == one.listener.port for port in spec.get("ports") or []):
            continue
        name = internal_name(meta["name"], one.listener.section)
        found.append(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "Gateway",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "creationTimestamp": meta.get("creationTimestamp") or "",
                    "annotations": {SERVICE: "/".join(place)},
                },
                "spec": {"selector": selector, "servers": [one.server]},
            }
        )
    return found


def _same(obj: _T, memo: Memo) -> _T:
    """`obj`, or the equal one that an earlier conversion made: what is made of it is then known as well."""
    key: Any = ("gateway api object", json.dumps(obj, sort_keys=True))
    kept: _T = memo(key, lambda: obj)
    return kept
