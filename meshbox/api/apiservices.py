# SPDX-License-Identifier: Apache-2.0
"""APIService objects: who serves which group and version. Those of the sandbox itself are made when asked for."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from meshbox.api.crds import CRDS
from meshbox.api.discovery import PRIORITIES, Discovery
from meshbox.api.metrics_api import availability
from meshbox.api.selectors import field_selector, label_selector
from meshbox.api.store import Entry
from meshbox.contracts import Obj
from meshbox.values import dumps

if TYPE_CHECKING:
    from meshbox.api.objects import ObjectStore

__all__ = ["apiservices"]

_RESOURCE = "apiservices.apiregistration.k8s.io"
_RANKS = {"v1.": 1, "v2.autoscaling": 30, "v1.flowcontrol.apiserver.k8s.io": 21, "v1.resource.k8s.io": 21}
"""Versions whose place among those of their group is another than most have."""


def apiservices(objects: ObjectStore, *, name: str = "", labels: str = "", fields: str = "") -> list[Entry]:
    """The APIServices now, by name: all, or those that have this name and these labels and fields."""
    definitions: dict[str, Obj] = {}
    for entry in objects.store.entries(CRDS):
        definitions.setdefault(entry.obj["spec"]["group"], entry.obj)
    began = objects.get("namespaces", "default")["metadata"]["creationTimestamp"]
    made: list[Obj] = []
    stored = {entry.obj["metadata"]["name"]: entry.obj for entry in objects.store.entries(_RESOURCE)}
    made += [_served_elsewhere(objects, one) for one in stored.values()]
    for served in Discovery(objects.registry).group_versions():
        group, _, version = served.rpartition("/")
        if f"{version}.{group}" in stored or group == _RESOURCE.partition(".")[2]:
            # Who keeps these objects serves them himself.
            continue
        crd = definitions.get(group)
        made.append(_service(group, version, crd["metadata"]["creationTimestamp"] if crd else began, crd is not None))
    found = sorted(
        (one for one in made if name in ("", one["metadata"]["name"])), key=lambda o: str(o["metadata"]["name"])
    )
    for match in (label_selector(labels), field_selector(fields, _RESOURCE)):
        found = [one for one in found if match is None or match(one)]
    return [Entry(one, dumps(one), 1) for one in found]


def _served_elsewhere(objects: ObjectStore, service: Obj) -> Obj:
    """One that names a Service, with what is to be said of that one now."""
    well, reason, message = availability(objects, service["spec"].get("service") or {})
    return {**service, "status": _status(well, reason, message, service["metadata"]["creationTimestamp"])}


def _status(well: bool, reason: str, message: str, since: str) -> Obj:
    told = {"status": str(well), "reason": reason, "message": message, "lastTransitionTime": since}
    return {"conditions": [{"type": "Available", **told}]}


def _service(group: str, version: str, since: str, custom: bool) -> Obj:
    name = f"{version}.{group}"
    priority = (1000, 100) if custom else (PRIORITIES.get(group, 17800), _RANKS.get(name, 15))
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {
            "name": name,
            "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
            "resourceVersion": "1",
            "creationTimestamp": since,
            "labels": {"kube-aggregator.kubernetes.io/automanaged": "true" if custom else "onstart"},
        },
        "spec": {
            **({"group": group} if group else {}),
            "version": version,
            "groupPriorityMinimum": priority[0],
            "versionPriority": priority[1],
        },
        "status": _status(True, "Local", "Local APIServices are always available", since),
    }
