"""Every object of a cluster in one command, with what tells whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus

from labkit.cluster.kubectl import kubectl

__all__ = ["COURSE", "LABELS_BEFORE", "LESSON", "RUN", "WORKSHOP", "Thing", "listing", "parse", "served"]

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


_ONE = "{{{{with {}}}}}{{{{urlquery .}}}}{{{{end}}}}"
_KEYED = '{{{{with .metadata.{}}}}}{{{{with index . "{}"}}}}{{{{urlquery .}}}}{{{{end}}}}{{{{end}}}}'
_OF_KIND = '{{{{if eq .kind "{}"}}}}' + _ONE + "{{{{end}}}}"
_EACH = "{{{{range .metadata.{}}}}}{{{{urlquery .{}}}}} {{{{end}}}}"
# Quoted, since what strangers write into an annotation or a type may look like a row of its own.
_FIELDS = (
    _ONE.format(".kind"),
    _ONE.format(".metadata.namespace"),
    _ONE.format(".metadata.name"),
    _EACH.format("ownerReferences", "uid"),
    _ONE.format(".apiVersion"),
    _ONE.format(".metadata.uid"),
    _ONE.format(".metadata.creationTimestamp"),
    _KEYED.format("labels", COURSE),
    _KEYED.format("annotations", RUN),
    _KEYED.format("annotations", LESSON),
    _OF_KIND.format("Secret", ".type"),
    _OF_KIND.format("CustomResourceDefinition", ".spec.names.kind"),
    _EACH.format("managedFields", "manager"),
    _KEYED.format("annotations", LABELS_BEFORE),
)
_LINE = "|".join(_FIELDS) + '{{"\\n"}}'
# What is asked for by one name comes without a list around it.
ROW = f"go-template={{{{if .metadata.uid}}}}{_LINE}{{{{else}}}}{{{{range .items}}}}{_LINE}{{{{end}}}}{{{{end}}}}"


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


def served() -> list[str]:
    """The kinds that can be listed and deleted, save those that the cluster itself writes all the time."""
    names = kubectl("api-resources --verbs=list,delete -o name", show=False).split()
    return [name for name in names if name not in _NOT_COUNTED]


def listing(kinds: Sequence[str] = ()) -> list[Thing]:
    """All objects, each once though it may be served in several groups.

    Args:
        kinds: Only these kinds; () for all that are served.

    Raises:
        ClusterError: The cluster does not answer, or something may not be listed.
    """
    chosen = list(kinds) or served()
    return parse(kubectl(["get", ",".join(chosen), "--all-namespaces", "-o", ROW], show=False))


def parse(text: str) -> list[Thing]:
    """What `listing` asked kubectl to print."""
    found: dict[str, Thing] = {}
    for line in text.splitlines():
        fields = [unquote_plus(field) for field in line.split("|")]
        fields += [""] * (len(_FIELDS) - len(fields))
        owners, managers = tuple(fields[3].split()), tuple(fields[12].split())
        thing = Thing(*fields[:3], owners, *fields[4:12], managers, fields[13])  # type: ignore[arg-type,call-arg]
        # In the Kubernetes of 2019 a Deployment is served in two groups.
        found.setdefault(thing.uid or f"{thing.api_version} {thing}", thing)
    return list(found.values())
