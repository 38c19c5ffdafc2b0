# SPDX-License-Identifier: Apache-2.0
"""The scale subresource: replicas of a workload behind one face."""

from __future__ import annotations

from typing import Any

from labkit.ground.labels import written
from meshbox.api import refusals
from meshbox.api.resources import Resource
from meshbox.contracts import Obj
from meshbox.values import clone

__all__ = ["scale_of", "scaled"]


def _paths(resource: Resource) -> tuple[str, str, str]:
    if resource.crd is not None:
        for version in resource.crd["spec"]["versions"]:
            if version["name"] == resource.version and (scale := (version.get("subresources") or {}).get("scale")):
                return scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath", "")
        raise refusals.no_such_resource()
    return ".spec.replicas", ".status.replicas", ""


def _at(obj: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


def _selector(resource: Resource, obj: Obj, path: str) -> str:
    if path:
        return str(_at(obj, path) or "")
    selector = (obj.get("spec") or {}).get("selector") or {}
    if resource.name == "replicationcontrollers":
        selector = {"matchLabels": selector}
    return written(selector)


def scale_of(resource: Resource, obj: Obj) -> Obj:
    """The Scale (autoscaling/v1) of `obj`."""
    wanted, seen, selector = _paths(resource)
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Obj = {"replicas": _at(obj, seen) or 0}
    if text := _selector(resource, obj, selector):
        status["selector"] = text
    replicas = _at(obj, wanted) or 0
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: meta[field] for field in kept if field in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def scaled(resource: Resource, obj: Obj, scale: Obj) -> Obj:
    """`obj` (not changed) with the replicas that `scale` asks for.

    Raises:
        ApiError: 400 or 422 where it asks for none, or for a number that cannot be.
    """
    replicas = (scale.get("spec") or {}).get("replicas", 0) if isinstance(scale.get("spec", {}), dict) else None
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise refusals.bad_request("Scale.spec.replicas: must be a whole number")
    name = obj["metadata"]["name"]
    if replicas < 0 and resource.crd is None:
        words = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise refusals.invalid(resource, name, [refusals.cause("spec.replicas", words)])
    version = (scale.get("metadata") or {}).get("resourceVersion")
    if version and version != obj["metadata"]["resourceVersion"]:
        raise refusals.modified(resource, name)
    result: Obj = clone(obj)
    *parents, last = filter(None, _paths(resource)[0].split("."))
    inner = result
    for part in parents:
        inner = inner.setdefault(part, {})
    inner[last] = replicas
    return result
