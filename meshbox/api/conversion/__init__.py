# SPDX-License-Identifier: Apache-2.0
"""Between the hub version of a resource and the other versions served; there and back again nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from meshbox.api.conversion import autoscaling as conversion_autoscaling
from meshbox.api.conversion import crd as conversion_crd
from meshbox.api.custom_schema import schema_of
from meshbox.api.defaults import fill_in
from meshbox.api.resources import Served
from meshbox.contracts import Obj
from meshbox.values import clone

__all__ = ["from_hub", "to_hub"]

Convert = Callable[[Obj, str], None]
"""Changes an object in place; the string is the other version (with group where that is `extensions`)."""


def to_hub(served: Served, obj: Obj) -> Obj:
    """`obj`, given in `served`'s version, as it is kept; changed in place and returned."""
    if not served.hub:
        convert = _CONVERSIONS.get(served.resource.name)
        if served.resource.crd is not None:
            _refit(served, obj, served.resource.version)
        elif convert is not None:
            convert[0](obj, served.api_version)
        obj["apiVersion"] = served.resource.api_version
    return obj


def from_hub(served: Served, obj: Obj) -> Obj:
    """A kept object in `served`'s version; never changes `obj`, but may share its parts."""
    if served.hub:
        return obj
    convert = _CONVERSIONS.get(served.resource.name)
    alike = convert is None if served.resource.crd is None else _alike(served)
    if alike:
        return {**obj, "apiVersion": served.api_version}
    converted: Obj = clone(obj)
    if convert is None or served.resource.crd is not None:
        _refit(served, converted, served.version)
    else:
        convert[1](converted, served.api_version)
    converted["apiVersion"] = served.api_version
    return converted


def _alike(served: Served) -> bool:
    """Whether a version of a custom resource has the schema of the one that is kept."""
    crd, versions = served.resource.crd, (served.version, served.resource.version)
    schemas = [found.written if (found := schema_of(crd, one)) is not None else None for one in versions]
    return schemas[0] == schemas[1]


def _refit(served: Served, obj: Obj, version: str) -> None:
    """Give a custom resource the fields of another version, in place: conversion "None" changes nothing else."""
    if not _alike(served) and (schema := schema_of(served.resource.crd, version)) is not None:
        schema.fit(obj)


def _same(obj: Obj, version: str) -> None:
    """Where the versions differ in defaults only."""


def _spec(obj: Obj) -> Obj:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def _workload(resource: str, obj: Obj, version: str) -> None:
    """What the beta versions of workloads filled in by themselves, and apps/v1 does not."""
    spec = _spec(obj)
    if not isinstance(spec.get("template"), dict):
        return
    meta = spec["template"].get("metadata")
    labels = meta.get("labels") if isinstance(meta, dict) else None
    if not spec.get("selector") and labels and version != "apps/v1beta2":
        spec["selector"] = {"matchLabels": dict(labels)}
    fill_in(f"{resource}@{version}", obj)


def _filled(resource: str, obj: Obj, version: str) -> None:
    fill_in(f"{resource}@{version}", obj)


def _backend_to_hub(backend: object) -> object:
    if not isinstance(backend, dict) or "serviceName" not in backend:
        return backend
    port = backend.pop("servicePort", None)
    named = {"name": port} if isinstance(port, str) else {"number": port}
    backend["service"] = {"name": backend.pop("serviceName"), "port": named}
    return backend


def _backend_from_hub(backend: object) -> object:
    if not isinstance(backend, dict) or not isinstance(backend.get("service"), dict):
        return backend
    service = backend.pop("service")
    port = service.get("port") or {}
    return {**backend, "serviceName": service.get("name"), "servicePort": port.get("name", port.get("number"))}


def _paths(spec: Obj) -> list[Obj]:
    rules = spec.get("rules")
    found = []
    for rule in rules if isinstance(rules, list) else []:
        http = rule.get("http") if isinstance(rule, dict) else None
        paths = http.get("paths") if isinstance(http, dict) else None
        found += [path for path in paths or [] if isinstance(path, dict)]
    return found


def _ingress_to_hub(obj: Obj, version: str) -> None:
    spec = _spec(obj)
    if "backend" in spec:
        spec["defaultBackend"] = _backend_to_hub(spec.pop("backend"))
    for path in _paths(spec):
        path["backend"] = _backend_to_hub(path.get("backend"))
        path.setdefault("pathType", "ImplementationSpecific")


def _ingress_from_hub(obj: Obj, version: str) -> None:
    spec = _spec(obj)
    if "defaultBackend" in spec:
        spec["backend"] = _backend_from_hub(spec.pop("defaultBackend"))
    for path in _paths(spec):
        path["backend"] = _backend_from_hub(path.get("backend"))


_EVENT_NAMES = {
    "note": "message",
    "regarding": "involvedObject",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}


def _event_to_hub(obj: Obj, version: str) -> None:
    for theirs, ours in _EVENT_NAMES.items():
        if theirs in obj:
            obj[ours] = obj.pop(theirs)
    regarding = obj.setdefault("involvedObject", {})
    if isinstance(regarding, dict) and isinstance(obj.get("metadata"), dict):
        regarding.setdefault("namespace", obj["metadata"].get("namespace", ""))


def _event_from_hub(obj: Obj, version: str) -> None:
    for theirs, ours in _EVENT_NAMES.items():
        if ours in obj:
            obj[theirs] = obj.pop(ours)


_WORKLOADS = ("daemonsets.apps", "deployments.apps", "replicasets.apps", "statefulsets.apps")
_WEBHOOKS = tuple(f"{kind}webhookconfigurations.admissionregistration.k8s.io" for kind in ("mutating", "validating"))
_CONVERSIONS: dict[str, tuple[Convert, Convert]] = {
    "customresourcedefinitions.apiextensions.k8s.io": (conversion_crd.to_v1, conversion_crd.from_v1),
    "horizontalpodautoscalers.autoscaling": (conversion_autoscaling.to_v2, conversion_autoscaling.from_v2),
    **{name: (partial(_workload, name), _same) for name in _WORKLOADS},
    **{name: (partial(_filled, name), _same) for name in _WEBHOOKS},
    "ingresses.networking.k8s.io": (_ingress_to_hub, _ingress_from_hub),
    "events": (_event_to_hub, _event_from_hub),
}
