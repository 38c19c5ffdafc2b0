# SPDX-License-Identifier: Apache-2.0
"""Every object of a cluster, with what tells whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.cluster import resources
from labkit.cluster.client import Obj
from labkit.cluster.objects import connected, get
from labkit.cluster.resources import Resource

__all__ = ["COURSE", "LABELS_BEFORE", "LESSON", "RUN", "WORKSHOP", "Thing", "listing", "served", "things"]

WORKSHOP = "istio-workshop"
COURSE = "labkit.dev/course"
"""Label of everything that the course makes; its value is `WORKSHOP`."""

LESSON = "labkit.dev/lesson"
"""Annotation: the lesson that made it."""

RUN = "labkit.dev/run"
"""Annotation: whose course made it. Two readers on one cluster have two."""

LABELS_BEFORE = "labkit.dev/labels-before"
"""Annotation of a namespace that was there before: what the labels that the course set on it were, as JSON."""

# Written by the cluster itself all the time, or copies of what other objects say.
_NOT_COUNTED = {
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "controllerrevisions.apps",
}


@dataclass(frozen=True)
class Thing:
    """One object.

    Args:
        kind: Its kind.
        namespace: Its namespace; "" for cluster-scoped ones.
        name: Its name.
        owners: The uids of its owners.
        api_version: Its group and version.
        uid: What tells it from another of that name.
        created: Its creationTimestamp.
        course: Its label `COURSE`.
        run: Its annotation `RUN`.
        lesson: Its annotation `LESSON`.
        type: A Secret's or Service's type.
        defines: The kind that a CustomResourceDefinition defines.
        managers: Who wrote fields of it, where the server keeps that.
        labels_before: Its annotation `LABELS_BEFORE`.
    """

    kind: str
    namespace: str
    name: str
    owners: tuple[str, ...] = ()
    api_version: str = "v1"
    uid: str = ""
    created: str = ""
    course: str = ""
    run: str = ""
    lesson: str = ""
    type: str = ""
    defines: str = ""
    managers: tuple[str, ...] = ()
    labels_before: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"

    @property
    def group(self) -> str:
        """Its API group; "" for the core one."""
        return self.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """Its kind as kubectl prints and takes it: "deployment.apps"."""
        return self.kind.lower() + (f".{self.group}" if self.group else "")

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        return self.kind, self.namespace, self.name

    @property
    def origin(self) -> str:
        """What it says of who made it, in words: for people who have to ask somebody."""
        if self.course:
            return f"made by another run of this course ({self.run or 'unknown'})"
        by = sorted(set(self.managers))
        return f"made {self.created or 'at an unknown time'}" + (f" with {', '.join(by)}" if by else "")


def served() -> list[Resource]:
    """The kinds that can be listed and deleted, save those that the cluster itself writes all the time."""
    there = [one for one in resources.all_of(connected(), fresh=True) if {"list", "delete"} <= set(one.verbs)]
    return [one for one in there if one.preferred and one.name not in _NOT_COUNTED]


def listing(kinds: Sequence[str] = ()) -> list[Thing]:
    """All objects, each once though it may be served in several groups.

    Args:
        kinds: Only these kinds; () for all that are served.

    Raises:
        ClusterError: The cluster does not answer, or something may not be listed.
    """
    chosen = list(kinds) or [one.name for one in served()]
    return things(get(",".join(chosen), all_namespaces=True))


def things(objects: Iterable[Obj]) -> list[Thing]:
    """What tells of objects whose they are, each once."""
    found: dict[str, Thing] = {}
    for item in objects:
        thing = _thing(item)
        # In the Kubernetes of 2019 a Deployment is served in two groups.
        found.setdefault(thing.uid or f"{thing.api_version} {thing}", thing)
    return list(found.values())


def _thing(item: Obj) -> Thing:
    about, kind = item["metadata"], item["kind"]
    labels, notes = about.get("labels") or {}, about.get("annotations") or {}
    return Thing(
        kind,
        about.get("namespace", ""),
        about["name"],
        tuple(owner["uid"] for owner in about.get("ownerReferences") or ()),
        item["apiVersion"],
        about.get("uid", ""),
        about.get("creationTimestamp", ""),
        labels.get(COURSE, ""),
        notes.get(RUN, ""),
        notes.get(LESSON, ""),
        item.get("type", "") if kind == "Secret" else "",
        item["spec"]["names"]["kind"] if kind == "CustomResourceDefinition" else "",
        tuple(field["manager"] for field in about.get("managedFields") or () if field.get("manager")),
        notes.get(LABELS_BEFORE, ""),
    )
