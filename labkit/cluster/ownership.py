# SPDX-License-Identifier: Apache-2.0
"""Whose an object is: the course's, made by what is the course's, or somebody else's. Nothing here asks a cluster.

Two things have to agree before an object counts as the course's: it carries the course's label, and its uid stands in
our own record of what was made. So a copy that somebody made of ours, with the label, is theirs (another uid); and an
object from which somebody took the label is theirs from then on. Whatever is in doubt is somebody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

from labkit.cluster.listing import WORKSHOP, Thing
from labkit.cluster.record import Record

__all__ = ["BYPRODUCTS", "Byproduct", "Ownership"]

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Byproduct:
    """Objects that a controller makes by itself, and that stand in no manifest.

    Args:
        kind: Their kind.
        name: Their name; "*" and "?" as in a shell.
        namespace: Their namespace, likewise.
        type: A Secret's type; "" for any.
        by: Who makes them.
        removed: Whether they have to be removed with their maker; else they go with their namespace.
    """

    kind: str
    name: str
    namespace: str = "*"
    type: str = ""
    by: str = "Kubernetes"
    removed: bool = False

    def fits(self, thing: Thing) -> bool:
        """Whether `thing` is one."""
        same = thing.kind == self.kind and self.type in ("", thing.type)
        return same and fnmatchcase(thing.name, self.name) and fnmatchcase(thing.namespace, self.namespace)


BYPRODUCTS: list[Byproduct] = [
    Byproduct("ServiceAccount", "default"),
    Byproduct("ConfigMap", "kube-root-ca.crt"),
    Byproduct("Secret", "*-token-*", type="kubernetes.io/service-account-token"),
]
"""Of Kubernetes itself; `labkit.istio` adds those of each release's components."""


@dataclass(frozen=True)
class Ownership:
    """All objects of a cluster, and what tells whose they are.

    Args:
        things: The objects.
        record: What the course wrote down of this cluster; None without.
        before: What was there before the course, by kind, namespace and name; None without a snapshot.
        whole: Whether the cluster is the reader's alone, as a sandbox is: then what came since is the course's too.
        named: Objects that count as the course's on such a cluster though there is no snapshot.
        cluster: The uid of the cluster's namespace kube-system.
    """

    things: Sequence[Thing]
    record: Record | None = None
    before: frozenset[Key] | None = None
    whole: bool = False
    named: frozenset[Key] = field(default_factory=frozenset)
    cluster: str = ""

    def marked(self, thing: Thing) -> bool:
        """Whether the course made `thing`, and it is still the same and still says so."""
        return self.record is not None and thing.course == WORKSHOP and thing.uid in self.record.made

    def why(self, thing: Thing) -> str:
        """Why `thing` is the course's, in a few words; "" if it is somebody else's."""
        return self._whys.get(thing.uid, "")

    def byproduct(self, thing: Thing) -> Byproduct | None:
        """What `thing` is if a controller made it by itself; None if none did, or if it was there before the course."""
        # In a namespace of the course's nothing was there before it, whatever a later snapshot has seen in it.
        if thing.key in (self.before or ()) and thing.namespace not in self._own_namespaces:
            return None
        return next((one for one in BYPRODUCTS if one.fits(thing)), None)

    def keeping(self, namespace: str) -> list[Thing]:
        """What is in `namespace` and would be lost with it, though it is somebody else's."""
        return [
            thing
            for thing in self.things
            if thing.namespace == namespace and not self.why(thing) and not self.byproduct(thing)
        ]

    def of_kind(self, crd: Thing) -> list[Thing]:
        """Objects of the kind that `crd` defines which would be lost with it, though they are somebody else's."""
        group = crd.name.partition(".")[2]
        return [
            thing
            for thing in self.things
            if (thing.group, thing.kind) == (group, crd.defines) and not self.why(thing) and not self.byproduct(thing)
        ]

    def in_the_way(self, wanted: Collection[Key]) -> list[Thing]:
        """Which of the objects that are about to be made are there already, and somebody else's."""
        if self.whole:
            return []
        return [thing for thing in self.things if thing.key in wanted and not self.why(thing)]

    @cached_property
    def _own_namespaces(self) -> set[str]:
        return {thing.name for thing in self.things if thing.kind == "Namespace" and self.marked(thing)}

    @cached_property
    def _whys(self) -> dict[str, str]:
        by_uid = {thing.uid: thing for thing in self.things}
        known: dict[str, str] = {}

        def why(thing: Thing, seen: frozenset[str]) -> str:
            if thing.uid in known:
                return known[thing.uid]
            if self.marked(thing):
                return f"made in {thing.lesson}" if thing.lesson else "made by the course"
            owners = [by_uid[uid] for uid in thing.owners if uid in by_uid and uid not in seen]
            for owner in owners:
                if why(owner, seen | {thing.uid}):
                    return f"belongs to {owner.kind} {owner.name}"
            if self.whole and not thing.owners:
                if self.before is not None and thing.key not in self.before:
                    return "came since the snapshot"
                if self.before is None and thing.key in self.named:
                    return "is named in the release's manifests"
            return ""

        for thing in self.things:
            known[thing.uid] = why(thing, frozenset())
        return known
