# SPDX-License-Identifier: Apache-2.0
"""How the injector lays one pod over another: a strategic merge, as `kubectl apply` of a pod would be.

Lists whose elements have a name are merged element by element, other lists are replaced, maps are merged, and a null
takes a field away.
"""

from __future__ import annotations

from typing import Any

from meshbox.contracts import Obj

__all__ = ["merge_container", "merge_map", "merge_named", "merge_pod"]

_KEYS = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath", "volumeDevices": "devicePath"}
"""What tells the elements of a container's lists apart; lists that are not here are one value."""

_POD_KEYS = {"volumes": "name", "imagePullSecrets": "name", "hostAliases": "ip"}
_CONTAINERS = ("initContainers", "containers")


def merge_map(below: Obj, above: Obj) -> Obj:
    """`above` laid over `below`, field by field; lists are replaced."""
    found = dict(below)
    for key, value in above.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merge_map(found[key], value)
        else:
            found[key] = value
    return found


def merge_named(below: list[Obj], above: list[Obj], key: str, merge: Any = merge_map) -> list[Obj]:
    """Two lists of maps that `key` tells apart: what both have is merged, what only one has is kept, the new first."""
    known = {one.get(key): one for one in below}
    mine = {one.get(key): one for one in above}
    new = [one for name, one in mine.items() if name not in known]
    return [*new, *(merge(one, mine[name]) if name in mine else one for name, one in known.items())]


def merge_container(below: Obj, above: Obj) -> Obj:
    """The container `above` laid over the container `below`."""
    found = merge_map(below, {key: value for key, value in above.items() if key not in _KEYS})
    for key, name in _KEYS.items():
        if above.get(key):
            found[key] = merge_named(found.get(key) or [], above[key], name)
    return found


def merge_pod(below: Obj, above: Obj) -> Obj:
    """The pod `above` laid over the pod `below`."""
    lower, upper = below.get("spec") or {}, above.get("spec") or {}
    spec = merge_map(lower, {key: value for key, value in upper.items() if key not in (*_POD_KEYS, *_CONTAINERS)})
    for key, name in _POD_KEYS.items():
        if upper.get(key):
            spec[key] = merge_named(lower.get(key) or [], upper[key], name)
    for key in _CONTAINERS:
        if upper.get(key):
            spec[key] = merge_named(lower.get(key) or [], upper[key], "name", merge_container)
    metadata = merge_map(below.get("metadata") or {}, above.get("metadata") or {})
    return {**below, "metadata": metadata, "spec": spec}
