# SPDX-License-Identifier: Apache-2.0
"""istiod's part in the Gateway API that is written into the cluster: classes, what a Gateway runs as, every status.

All of it is written only while istiod is ready, and only where it differs from what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from meshbox.contracts import ApiError, Obj, Objects, View
from meshbox.mesh import kinds
from meshbox.mesh.gateway_api.backend_tls import policy_status
from meshbox.mesh.gateway_api.binding import managed, services_of
from meshbox.mesh.gateway_api.classes import BUILTIN, CONTROLLER, REMOTE, Classes, made
from meshbox.mesh.gateway_api.convert import NOTHING, POLICY, SET, Converted
from meshbox.mesh.gateway_api.deployment import NAME_LABEL, VERSION
from meshbox.mesh.gateway_api.gateway_status import gateway_status, listener_set_status, remote_status
from meshbox.mesh.gateway_api.provision import Provisioner
from meshbox.mesh.gateway_api.status import Condition, conditions, route_status
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["GatewayApi"]

_CLASSES: Key = (None, "classes")
_CRDS = "customresourcedefinitions.apiextensions.k8s.io"
_MANAGER = "istio.io/gateway-controller"
_PILOT = "pilot-discovery"
_OURS = 5
"""The version of the controller that Istio has had since 1.18; a Gateway of a later one is left alone."""

_HANDLED = Condition("Accepted", "Accepted", "Handled by Istio controller")

_ROUTES = {
    "HTTPRoute": kinds.HTTP_ROUTES,
    "GRPCRoute": kinds.GRPC_ROUTES,
    "TLSRoute": kinds.TLS_ROUTES,
    "TCPRoute": kinds.TCP_ROUTES,
}


class GatewayApi:
    """Writes what istiod writes.

    Args:
        objects: The cluster's objects.
        release: The release that is played.
    """

    def __init__(self, objects: Objects, release: str) -> None:
        self._objects = objects
        self._provisioner = Provisioner(objects, release)
        self._converted: Converted = NOTHING
        self._ready = False
        self._classes = Reconciler("gateway classes", objects, self._write_classes, about="")
        self._classes.watches(kinds.GATEWAY_CLASSES, lambda _: [_CLASSES])
        self._classes.watches(_CRDS, lambda crd: [_CLASSES] if crd["metadata"]["name"] == kinds.GATEWAY_CLASSES else [])
        self._gateways = Reconciler("gateway deployment", objects, self._gateway)
        self._gateways.watches(kinds.KUBERNETES_GATEWAYS)
        self._gateways.watches(kinds.GATEWAY_CLASSES, self._of_class)
        self._gateways.watches(kinds.SERVICES, self._of_service)
        for resource in ("deployments.apps", "serviceaccounts"):
            self._gateways.watches(resource, _owner)
        self._gateways.watches(kinds.CONFIG_MAPS, self._of_config_map)
        self._sets = Reconciler("listener sets", objects, self._set, about="")
        self._sets.watches(kinds.LISTENER_SETS)
        self._sets.watches(kinds.SERVICES, self._sets_before)
        self._routes = Reconciler("routes", objects, self._route, about="")
        for kind, resource in _ROUTES.items():
            self._routes.watches(resource, lambda route, kind=kind: [_route_key(kind, route)])  # type: ignore[misc]
        self._policies = Reconciler("backend TLS policies", objects, self._policy)
        self._policies.watches(kinds.BACKEND_TLS_POLICIES)

    def start(self) -> None:
        """Begin."""
        for each in self._every():
            each.start()

    async def stop(self) -> None:
        """End."""
        await asyncio.gather(*(each.stop() for each in self._every()))

    def _every(self) -> tuple[Reconciler, ...]:
        return self._classes, self._gateways, self._sets, self._routes, self._policies

    def update(self, converted: Converted, *, ready: bool) -> None:
        """Take what the objects are played as now, and whether istiod is ready to say so."""
        before, self._converted = self._converted, converted
        started, self._ready = ready and not self._ready, ready
        if not ready or (converted is before and not started):
            return
        if started:
            self._classes.enqueue(_CLASSES)
        for gateway in self._objects.view(kinds.KUBERNETES_GATEWAYS):
            self._gateways.enqueue(object_key(gateway))
        for place in converted.sets:
            self._sets.enqueue(place)
        for key, status in converted.routes.items():
            if started or before.routes.get(key) != status or before.generations.get(key) != converted.generations[key]:
                self._routes.enqueue((key[1], f"{key[0]}/{key[2]}"))
        for policy in converted.policies:
            self._policies.enqueue(policy)

    def _of_class(self, found: View) -> Iterable[Key]:
        return [
            object_key(gateway)
            for gateway in self._objects.view(kinds.KUBERNETES_GATEWAYS)
            if gateway["spec"]["gatewayClassName"] == found["metadata"]["name"]
        ]

    def _of_service(self, service: View) -> Iterable[Key]:
        named = [
            object_key(gateway)
            for gateway in self._objects.view(kinds.KUBERNETES_GATEWAYS)
            if object_key(service) in services_of(gateway)
        ]
        return [*_owner(service), *named]

    def _sets_before(self, service: View) -> Iterable[Key]:
        """The ListenerSets whose Gateway is reached by a Service."""
        place = object_key(service)
        return [key for key, found in self._converted.sets.items() if place in services_of(found.gateway)]

    def _of_config_map(self, config_map: View) -> Iterable[Key]:
        return [
            object_key(gateway)
            for gateway in self._objects.view(kinds.KUBERNETES_GATEWAYS)
            if self._provisioner.concerns(config_map, gateway)
        ]

    async def _write_classes(self, _key: Key) -> None:
        if not self._ready or kinds.GATEWAY_CLASSES not in self._objects.resources():
            return
        for name in BUILTIN:
            if self._objects.find(kinds.GATEWAY_CLASSES, name) is None:
                self._objects.create(kinds.GATEWAY_CLASSES, made(name), manager=_PILOT)
        for found in self._objects.list(kinds.GATEWAY_CLASSES):
            if found["spec"]["controllerName"] in (CONTROLLER, REMOTE):
                before = found.get("status") or {}
                said = conditions([_HANDLED], before.get("conditions") or (), found["metadata"].get("generation", 1))
                self._write(kinds.GATEWAY_CLASSES, found, {**before, "conditions": said})

    async def _gateway(self, key: Key) -> None:
        gateway = self._objects.find(kinds.KUBERNETES_GATEWAYS, key[1], key[0])
        if not self._ready or gateway is None or "deletionTimestamp" in gateway["metadata"]:
            self._provisioner.forget(key)
            return
        if ("Gateway", key[0] or "", key[1]) not in self._converted.generations:
            # The mesh does not look at its namespace, or has not yet.
            return
        player = Classes(self._objects.view(kinds.GATEWAY_CLASSES)).controller_of(gateway)
        if player == REMOTE:
            self._write(kinds.KUBERNETES_GATEWAYS, gateway, remote_status(gateway))
        if player != CONTROLLER:
            return
        problem, place = "", (key[0] or "", key[1])
        refused: ApiError | None = None
        if managed(gateway) and self._is_ours(gateway):
            try:
                problem = self._provisioner.provide(gateway, [one.listener for one in self._converted.added_to(place)])
            except ApiError as error:
                # Its status says as well that there is no such Service.
                refused = error
        self._write_gateway(key, problem)
        if refused is not None:
            self._objects.event(gateway, "Warning", "FailedDeployment", f"apply failed: {refused.message}", _MANAGER)
            raise refused

    def _is_ours(self, gateway: Obj) -> bool:
        """Whether this version of the controller looks after a Gateway; it says so on it."""
        version = (gateway["metadata"].get("annotations") or {}).get(VERSION)
        if version is not None and (not version.isdecimal() or int(version) > _OURS):
            return False
        if version is None or int(version) < _OURS:
            patch = {"metadata": {"annotations": {VERSION: str(_OURS)}}}
            name, namespace = gateway["metadata"]["name"], gateway["metadata"]["namespace"]
            self._objects.patch(kinds.KUBERNETES_GATEWAYS, name, patch, namespace, manager=_MANAGER)
        return True

    def _write_gateway(self, key: Key, problem: str) -> None:
        found = self._objects.get(kinds.KUBERNETES_GATEWAYS, key[1], key[0])
        place = key[0] or "", key[1]
        if not self._seen(("Gateway", *place), found):
            return
        built = self._converted.built.get(place, ())
        more = self._converted.added_to(place)
        status = gateway_status(found, built, self._converted.attached, self._services, problem, more)
        self._write(kinds.KUBERNETES_GATEWAYS, found, status)

    def _services(self, name: str) -> Sequence[View]:
        return self._objects.view(kinds.SERVICES, fields=f"metadata.name={name}")

    async def _set(self, key: Key) -> None:
        place = key[0] or "", key[1]
        said = self._converted.sets.get(place)
        found = self._objects.find(kinds.LISTENER_SETS, key[1], key[0])
        if self._ready and said is not None and found is not None and self._seen((SET, *place), found):
            self._write(kinds.LISTENER_SETS, found, listener_set_status(found, said, self._services))

    async def _route(self, key: Key) -> None:
        kind, _, name = key[1].partition("/")
        said = self._converted.routes.get((kind, key[0] or "", name))
        route = self._objects.find(_ROUTES[kind], name, key[0])
        if not self._ready or said is None or route is None or not self._seen((kind, key[0] or "", name), route):
            return
        self._write(_ROUTES[kind], route, route_status(route, said))

    async def _policy(self, key: Key) -> None:
        place = key[0] or "", key[1]
        said = self._converted.policies.get(place)
        policy = self._objects.find(kinds.BACKEND_TLS_POLICIES, key[1], key[0])
        if self._ready and said is not None and policy is not None and self._seen((POLICY, *place), policy):
            self._write(kinds.BACKEND_TLS_POLICIES, policy, policy_status(policy, said))

    def _seen(self, key: tuple[str, str, str], obj: View) -> bool:
        """Whether what is known was made of this version of an object; if not, word of it is on its way."""
        generation: int = obj["metadata"].get("generation", 1)
        return self._converted.generations.get(key) == generation

    def _write(self, resource: str, obj: Obj, status: Obj) -> None:
        if (obj.get("status") or {}) != status:
            self._objects.update(resource, {**obj, "status": status}, subresource="status", manager=_PILOT)


def _owner(obj: View) -> list[Key]:
    """The Gateway for which something was made."""
    name = (obj["metadata"].get("labels") or {}).get(NAME_LABEL)
    return [(obj["metadata"]["namespace"], name)] if name else []


def _route_key(kind: str, route: View) -> Key:
    return route["metadata"]["namespace"], f"{kind}/{route['metadata']['name']}"
