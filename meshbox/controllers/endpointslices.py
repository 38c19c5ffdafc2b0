# SPDX-License-Identifier: Apache-2.0
"""The EndpointSlices of a Service: from its pods, or mirrored from Endpoints that a user wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from meshbox.contracts import Obj
from meshbox.controllers.backends import Backend, Port, publishes_not_ready
from meshbox.controllers.meta import MANAGER, Context, owner_reference
from meshbox.ip_texts import read_ip
from meshbox.reconcile import object_key

if TYPE_CHECKING:
    from meshbox.typed.services import (
        DiscoveryV1EndpointPort,
        Endpoint,
        EndpointAddress,
        Endpoints,
        EndpointSlice,
        Service,
    )

__all__ = ["SLICES", "mirror", "note_cause", "write_slices"]

SLICES = "endpointslices.discovery.k8s.io"
MOST_ENDPOINTS = 100
"""Endpoints a slice holds at most."""

_SERVICE = "kubernetes.io/service-name"
_MANAGED = "endpointslice.kubernetes.io/managed-by"
_SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def note_cause(context: Context, endpoints: Endpoints | EndpointSlice, changed: bool) -> None:
    """Note when a Service or a pod last changed what is told: now, or nobody did; pods that only went are no cause."""
    annotations = {
        key: value for key, value in (endpoints["metadata"].get("annotations") or {}).items() if key != _TRIGGER
    }
    endpoints["metadata"]["annotations"] = annotations | ({_TRIGGER: context.now()} if changed else {})


_HEADLESS = "service.kubernetes.io/headless"
_FROM_PODS = "endpointslice-controller.k8s.io"
_FROM_ENDPOINTS = "endpointslicemirroring-controller.k8s.io"


def write_slices(context: Context, service: Service, found: list[Backend]) -> None:
    """Bring the slices of a Service with a selector up to date.

    A Service without pods keeps one slice without endpoints: so a reader can tell "none" from "not looked yet".
    """
    all_ready = publishes_not_ready(service)
    groups: dict[tuple[Port, ...], list[Endpoint]] = {}
    for backend in found:
        endpoint: Endpoint = {
            "addresses": [backend.ip],
            "conditions": {
                "ready": all_ready or (backend.ready and not backend.terminating),
                "serving": backend.ready,
                "terminating": backend.terminating,
            },
            "nodeName": backend.pod["spec"].get("nodeName", ""),
            "targetRef": backend.target(),
        }
        if hostname := backend.hostname(service):
            endpoint["hostname"] = hostname
        groups.setdefault(backend.ports, []).append(endpoint)
    labels = dict(service["metadata"].get("labels") or {})
    if service["spec"].get("clusterIP") == "None":
        labels[_HEADLESS] = ""
    contents = [([_port(port) for port in ports], groups[ports]) for ports in sorted(groups)]
    _write(context, service, owner_reference(service, "v1", "Service"), labels, _FROM_PODS, contents or [([], [])])


def mirror(context: Context, endpoints: Endpoints) -> None:
    """Bring the slices that mirror Endpoints without a selector up to date."""
    if object_key(endpoints) == ("default", "kubernetes"):
        # The API server writes the slice of its own Service.
        return
    labels = endpoints["metadata"].get("labels") or {}
    annotations = endpoints["metadata"].get("annotations") or {}
    if labels.get(_SKIP_MIRROR) == "true" or "control-plane.alpha.kubernetes.io/leader" in annotations:
        return
    contents = []
    for subset in endpoints.get("subsets") or ():
        items = [_mirrored(address, ready=True) for address in subset.get("addresses") or ()]
        items += [_mirrored(address, ready=False) for address in subset.get("notReadyAddresses") or ()]
        ports: list[DiscoveryV1EndpointPort] = [
            {"name": port.get("name", ""), **port} for port in subset.get("ports") or ()
        ]
        contents.append((ports, items))
    _write(context, endpoints, owner_reference(endpoints, "v1", "Endpoints"), labels, _FROM_ENDPOINTS, contents)


def _mirrored(address: EndpointAddress, *, ready: bool) -> Endpoint:
    # Endpoints may have an address in a form that nobody else reads.
    endpoint: Endpoint = {"addresses": [str(read_ip(address["ip"]) or address["ip"])], "conditions": {"ready": ready}}
    if address.get("hostname"):
        endpoint["hostname"] = address["hostname"]
    if address.get("nodeName"):
        endpoint["nodeName"] = address["nodeName"]
    if address.get("targetRef"):
        endpoint["targetRef"] = address["targetRef"]
    return endpoint


def _port(port: Port) -> DiscoveryV1EndpointPort:
    written: DiscoveryV1EndpointPort = {"name": port.name, "port": port.number, "protocol": port.protocol}
    if port.app_protocol:
        written["appProtocol"] = port.app_protocol
    return written


def _write(
    context: Context,
    source: Service | Endpoints,
    owner: Obj,
    labels: dict[str, str],
    manager: str,
    contents: list[tuple[list[DiscoveryV1EndpointPort], list[Endpoint]]],
) -> None:
    meta = source["metadata"]
    labels = {**labels, _SERVICE: meta["name"], _MANAGED: manager}
    selector = f"{_SERVICE}={meta['name']},{_MANAGED}={manager}"
    left = [
        item
        for item in cast("list[EndpointSlice]", context.objects.list(SLICES, meta["namespace"], labels=selector))
        if "deletionTimestamp" not in item["metadata"]
    ]
    chunks = [
        (ports, endpoints[start : start + MOST_ENDPOINTS])
        for ports, endpoints in contents
        for start in range(0, max(1, len(endpoints)), MOST_ENDPOINTS)
    ]
    # A slice keeps its ports if it can: readers follow a slice by its name.
    pairs: list[tuple[EndpointSlice | None, list[DiscoveryV1EndpointPort], list[Endpoint]]] = []
    for ports, endpoints in chunks:
        same = next((item for item in left if (item.get("ports") or []) == ports), None)
        if same is not None:
            left.remove(same)
        pairs.append((same, ports, endpoints))
    for known, ports, endpoints in pairs:
        if known is None and left:
            known = left.pop(0)
        if known is None:
            context.objects.create(
                SLICES,
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "generateName": f"{meta['name']}-",
                        "namespace": meta["namespace"],
                        "labels": labels,
                        "annotations": {_TRIGGER: context.now()},
                        "ownerReferences": [owner],
                    },
                    "addressType": "IPv4",
                    "ports": ports,
                    "endpoints": endpoints,
                },
                meta["namespace"],
                manager=MANAGER,
            )
            continue
        same_content = (known.get("ports") or []) == ports and (known.get("endpoints") or []) == endpoints
        if same_content and known["metadata"].get("labels") == labels:
            continue
        known["metadata"]["labels"] = labels
        note_cause(context, known, any(one not in (known.get("endpoints") or []) for one in endpoints))
        context.objects.update(SLICES, {**known, "ports": ports, "endpoints": endpoints}, manager=MANAGER)
    for item in left:
        context.objects.delete(SLICES, item["metadata"]["name"], meta["namespace"])
