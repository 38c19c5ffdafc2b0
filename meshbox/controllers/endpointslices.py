"""The EndpointSlices of a Service: from its pods, or mirrored from Endpoints that a user wrote."""

from __future__ import annotations

from typing import Any

from meshbox.contracts import Obj
from meshbox.controllers.backends import Backend, Port, publishes_not_ready
from meshbox.controllers.meta import MANAGER, Context, owner_reference
from meshbox.reconcile import object_key

__all__ = ["SLICES", "mirror", "write_slices"]

SLICES = "endpointslices.discovery.k8s.io"
MOST_ENDPOINTS = 100
"""Endpoints a slice holds at most."""

_SERVICE = "kubernetes.io/service-name"
_MANAGED = "endpointslice.kubernetes.io/managed-by"
_SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
_HEADLESS = "service.kubernetes.io/headless"
_FROM_PODS = "endpointslice-controller.k8s.io"
_FROM_ENDPOINTS = "endpointslicemirroring-controller.k8s.io"


def write_slices(context: Context, service: Obj, found: list[Backend]) -> None:
    """Bring the slices of a Service with a selector up to date.

    A Service without pods keeps one slice without endpoints: so a reader can tell "none" from "not looked yet".
    """
    all_ready = publishes_not_ready(service)
    groups: dict[tuple[Port, ...], list[Obj]] = {}
    for backend in found:
        endpoint: dict[str, Any] = {
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


def mirror(context: Context, endpoints: Obj) -> None:
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
        items = []
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                endpoint: dict[str, Any] = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
                kept = {key: address[key] for key in ("hostname", "nodeName", "targetRef") if address.get(key)}
                items.append(endpoint | kept)
        ports = [{"name": port.get("name", ""), **port} for port in subset.get("ports") or ()]
        contents.append((ports, items))
    _write(context, endpoints, owner_reference(endpoints, "v1", "Endpoints"), labels, _FROM_ENDPOINTS, contents)


def _port(port: Port) -> Obj:
    written: Obj = {"name": port.name, "port": port.number, "protocol": port.protocol}
    if port.app_protocol:
        written["appProtocol"] = port.app_protocol
    return written


def _write(
    context: Context,
    source: Obj,
    owner: Obj,
    labels: dict[str, str],
    manager: str,
    contents: list[tuple[list[Obj], list[Obj]]],
) -> None:
    meta = source["metadata"]
    labels = {**labels, _SERVICE: meta["name"], _MANAGED: manager}
    selector = f"{_SERVICE}={meta['name']},{_MANAGED}={manager}"
    left = [
        item
        for item in context.objects.list(SLICES, meta["namespace"], labels=selector)
        if "deletionTimestamp" not in item["metadata"]
    ]
    chunks = [
        (ports, endpoints[start : start + MOST_ENDPOINTS])
        for ports, endpoints in contents
        for start in range(0, max(1, len(endpoints)), MOST_ENDPOINTS)
    ]
    # A slice keeps its ports if it can: readers follow a slice by its name.
    pairs: list[tuple[Obj | None, list[Obj], list[Obj]]] = []
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
        known["metadata"].setdefault("annotations", {})[_TRIGGER] = context.now()
        context.objects.update(SLICES, {**known, "ports": ports, "endpoints": endpoints}, manager=MANAGER)
    for item in left:
        context.objects.delete(SLICES, item["metadata"]["name"], meta["namespace"])
