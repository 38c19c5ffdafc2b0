# SPDX-License-Identifier: Apache-2.0
"""Endpoints and EndpointSlices: the addresses behind each Service."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, cast

from meshbox.contracts import Event, Obj
from meshbox.controllers.backends import Backend, Port, backends, publishes_not_ready
from meshbox.controllers.endpointslices import SLICES, mirror, note_cause, write_slices
from meshbox.controllers.meta import MANAGER, Context
from meshbox.controllers.selecting import SelectorIndex
from meshbox.reconcile import Key, Reconciler, object_key

if TYPE_CHECKING:
    from meshbox.typed.services import CoreV1EndpointPort, EndpointAddress, Endpoints, EndpointSubset, Service

__all__ = ["EndpointsController"]

_LEADER = "control-plane.alpha.kubernetes.io/leader"
_HEADLESS = "service.kubernetes.io/headless"
_MANAGED = "endpoints.kubernetes.io/managed-by"


def _selector(service: Obj) -> Obj | None:
    labels = service["spec"].get("selector")
    return {"matchLabels": labels} if labels else None


def _told(subsets: list[EndpointSubset]) -> set[tuple[str, bool]]:
    """Each address, and whether it is ready."""
    ready = {(one["ip"], True) for subset in subsets for one in subset.get("addresses") or ()}
    return ready | {(one["ip"], False) for subset in subsets for one in subset.get("notReadyAddresses") or ()}


class EndpointsController:
    """Keeps Endpoints and EndpointSlices of Services with a selector; mirrors Endpoints that users write to slices."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._index = SelectorIndex(_selector)
        self._gone: set[Key] = set()
        self.reconciler = (
            Reconciler("endpoints", context.objects, self._reconcile)
            .watches_events("services", self._service_keys)
            .watches_events("pods", self._index.member_keys)
            .watches_events("endpoints", self._endpoints_keys)
            .watches_events(SLICES, self._slice_keys)
        )

    def prepare(self) -> None:
        """Forget Endpoints whose Service was deleted while nobody looked."""
        for endpoints in self._context.objects.list("endpoints"):
            namespace, name = object_key(endpoints)
            annotations = endpoints["metadata"].get("annotations") or {}
            if _LEADER not in annotations and self._context.objects.find("services", name, namespace) is None:
                self._gone.add((namespace, name))

    def _service_keys(self, event: Event) -> list[Key]:
        keys = self._index.keys(event)
        if event.type == "DELETED":
            self._gone.update(keys)
        else:
            self._gone.difference_update(keys)
        return keys

    def _endpoints_keys(self, event: Event) -> list[Key]:
        # Those of Services with a selector are written here: only their loss is news.
        key = object_key(event.object)
        return [key] if event.type == "DELETED" or not self._index.selects(key) else []

    @staticmethod
    def _slice_keys(event: Event) -> list[Key]:
        meta = event.object["metadata"]
        service = (meta.get("labels") or {}).get("kubernetes.io/service-name")
        return [(meta["namespace"], service)] if service and event.type == "DELETED" else []

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        objects = self._context.objects
        service = cast("Service | None", objects.find("services", name, namespace))
        endpoints = cast("Endpoints | None", objects.find("endpoints", name, namespace))
        if service is None:
            # Endpoints may be written before their Service: only those whose Service was there are deleted.
            if key in self._gone and endpoints is not None:
                objects.delete("endpoints", name, namespace)
            self._gone.discard(key)
            return
        if "deletionTimestamp" in service["metadata"]:
            return
        slices = self._slices_served
        if service["spec"].get("type") == "ExternalName" and not self._context.settings.legacy:
            return
        if not service["spec"].get("selector"):
            if slices and endpoints is not None:
                mirror(self._context, endpoints)
            return
        found = backends(self._context, service)
        self._write(service, endpoints, found)
        if slices:
            write_slices(self._context, service, found)

    @functools.cached_property
    def _slices_served(self) -> bool:
        # Kubernetes 1.14 knows none. What is built in neither comes nor goes.
        return SLICES in self._context.objects.resources()

    def _write(self, service: Service, endpoints: Endpoints | None, found: list[Backend]) -> None:
        meta = service["metadata"]
        labels = dict(meta.get("labels") or {})
        if service["spec"].get("clusterIP") == "None":
            labels[_HEADLESS] = ""
        if not self._context.settings.legacy:
            labels[_MANAGED] = "endpoint-controller"
        subsets = self._subsets(service, found)
        if endpoints is None:
            wanted: Endpoints = {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            }
        else:
            known = endpoints["metadata"].get("labels") or {}
            if (endpoints.get("subsets") or []) == subsets and known == labels:
                return
            wanted = endpoints
        wanted["metadata"]["labels"] = labels
        note_cause(self._context, wanted, endpoints is None or not _told(subsets) <= _told(wanted.get("subsets") or []))
        wanted["subsets"] = subsets
        if endpoints is None:
            self._context.objects.create("endpoints", {**wanted}, meta["namespace"], manager=MANAGER)
        else:
            self._context.objects.update("endpoints", {**wanted}, manager=MANAGER)

    def _subsets(self, service: Service, found: list[Backend]) -> list[EndpointSubset]:
        """Addresses grouped by the ports they serve."""
        all_ready = publishes_not_ready(service)
        subsets: dict[tuple[Port, ...], EndpointSubset] = {}
        for backend in found:
            if backend.terminating and not all_ready:
                continue
            address: EndpointAddress = {"ip": backend.ip}
            if hostname := backend.hostname(service):
                address["hostname"] = hostname
            address["nodeName"] = backend.pod["spec"].get("nodeName", "")
            address["targetRef"] = backend.target()
            subset = subsets.setdefault(backend.ports, {})
            if backend.ready or all_ready:
                subset.setdefault("addresses", []).append(address)
            else:
                subset.setdefault("notReadyAddresses", []).append(address)
        for ports, subset in subsets.items():
            if ports:
                subset["ports"] = [_port(port) for port in ports]
        return [subsets[ports] for ports in sorted(subsets)]


def _port(port: Port) -> CoreV1EndpointPort:
    written: CoreV1EndpointPort = {"name": port.name} if port.name else {}
    written |= {"port": port.number, "protocol": port.protocol}
    if port.app_protocol:
        written["appProtocol"] = port.app_protocol
    return written
