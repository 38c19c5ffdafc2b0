# SPDX-License-Identifier: Apache-2.0
"""A look at all objects of an earlier run, before any part works with them: what cannot be understood is set aside.

Every write is checked on its way in, so all fields of what this version of labkit wrote are of the right types. What
another version wrote, or what was damaged, may differ; the parts that go over all objects must not fall over one.
"""

from __future__ import annotations

import re
from typing import Any

from meshbox.api.builtin import decode_builtin, validate_builtin
from meshbox.api.crds import CRDS, defined
from meshbox.api.resources import Registry, Resource
from meshbox.api.store import Store
from meshbox.contracts import Obj

__all__ = ["set_aside"]

_WITH_SPEC = frozenset(
    (
        "cronjobs.batch",
        "daemonsets.apps",
        "deployments.apps",
        "horizontalpodautoscalers.autoscaling",
        "jobs.batch",
        "poddisruptionbudgets.policy",
        "pods",
        "replicasets.apps",
        "services",
        "statefulsets.apps",
    )
)
"""Kinds that are nothing without a spec."""

_CHECKED = _WITH_SPEC | {"configmaps", "endpoints", "endpointslices.discovery.k8s.io", "namespaces", "nodes", "secrets"}
"""Kinds whose fields the parts rely on. Of others a strange object is in nobody's way: better kept than left out."""


_STEP = re.compile(r"([^.\[\]]+)(?=[.\[]|$)|\[(\d+)\]")


def set_aside(store: Store, registry: Registry) -> None:
    """Take out of `store` what cannot be understood: objects of the wrong shape, and of kinds that are not served."""
    fields = store.foreign
    for entry in store.entries(CRDS):
        if why := _problem(registry.get(CRDS), entry.obj, fields=False) or defined(entry.obj):
            store.set_aside(CRDS, ("", entry.obj["metadata"]["name"]), why)
            registry.remove_custom(entry.obj["metadata"]["name"])
    for name in store.resources():
        resource = registry.get(name)
        for entry in store.entries(name) if name != CRDS else ():
            if why := _problem(resource, entry.obj, fields=fields):
                meta = entry.obj["metadata"]
                store.set_aside(name, (meta.get("namespace") or "", meta["name"]), why)
    store.adopt()


def _problem(resource: Resource | None, obj: Obj, *, fields: bool) -> str:
    if resource is None or not resource.stored:
        return "its kind is not served"
    if bool(obj["metadata"].get("namespace")) != resource.namespaced:
        return "it has a namespace" if obj["metadata"].get("namespace") else "it has no namespace"
    if obj.get("kind") != resource.kind or not isinstance(obj.get("apiVersion"), str):
        return f"its kind is not {resource.kind}"
    if resource.crd is not None:
        return "its spec is no object" if not isinstance(obj.get("spec", {}), dict | None) else ""
    if resource.name in _WITH_SPEC and not isinstance(obj.get("spec"), dict):
        return "it has no spec"
    if not fields or resource.name not in _CHECKED:
        return ""
    if why := decode_builtin(resource.api_version, resource.kind, obj).decode:
        return why
    found = validate_builtin(resource.api_version, resource.kind, obj, new=False)
    # Rules may have become stricter since; what is not there at all is what nobody can do without.
    missing = [f"{cause['field']}: {cause['message']}" for cause in found.errors if _missing(obj, cause["field"])]
    return missing[0] if missing else found.decode


def _missing(obj: Any, path: str) -> bool:
    """Whether there is nothing at `path`, such as "spec.ports[0].port"."""
    for name, index in _STEP.findall(path):
        try:
            obj = obj[int(index)] if index else obj[name]
        except (KeyError, IndexError, TypeError):
            return True
    # A port that says no number is kept as Go's types have it: zero.
    return obj is None or (path.endswith(".port") and obj == 0)
