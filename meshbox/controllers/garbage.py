# SPDX-License-Identifier: Apache-2.0
"""Garbage collection: dependents follow their owners, in the background, in the foreground, or not at all.

A dependent is deleted once none of its owners exists. An owner deleted in the foreground is kept by its finalizer until
the dependents that block it are gone; one deleted with Orphan until its dependents no longer name it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from meshbox.contracts import ApiError, Event, Obj
from meshbox.controllers.kinds import CRDS, Kinds
from meshbox.controllers.meta import MANAGER, Context
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["GarbageCollector"]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

_NEVER_OWNED = {"events", "events.events.k8s.io"}


def _owners(obj: Obj) -> list[Obj]:
    found: list[Obj] = obj["metadata"].get("ownerReferences") or []
    return found


def _is_ending(obj: Obj, finalizer: str) -> bool:
    meta = obj["metadata"]
    return "deletionTimestamp" in meta and finalizer in (meta.get("finalizers") or ())


def _key(resource: str, obj: Obj) -> Key:
    namespace, name = object_key(obj)
    return namespace, f"{resource}/{name}"


class GarbageCollector:
    """Watches every resource; keys are (namespace, "resource/name")."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kinds = Kinds(context.objects)
        self._watched: set[str] = set()
        self._uids: dict[str, Key] = {}
        self._owners_of: dict[Key, set[str]] = {}
        self._dependents: dict[str, set[Key]] = {}
        self._foreground: set[str] = set()
        # Owners that were seen to end and have dependents left: their kind may be served no more.
        self._gone: set[str] = set()
        self.reconciler = Reconciler("garbage", context.objects, self._reconcile, about="")

    def prepare(self) -> None:
        """Watch every resource there is."""
        for resource in self._context.objects.resources():
            self._watch(resource)

    def _watch(self, resource: str) -> None:
        if resource not in self._watched and resource not in _NEVER_OWNED:
            self._watched.add(resource)
            self.reconciler.watches_events(resource, partial(self._keys, resource))

    def _keys(self, resource: str, event: Event) -> Iterable[Key]:
        obj = event.object
        if resource == CRDS and event.type == "ADDED":
            self._watch(obj["metadata"]["name"])
        key, uid = _key(resource, obj), obj["metadata"]["uid"]
        owners = set() if event.type == "DELETED" else {reference["uid"] for reference in _owners(obj)}
        before = self._owners_of.pop(key, set())
        for owner in before - owners:
            self._dependents[owner].discard(key)
            if not self._dependents[owner]:
                del self._dependents[owner]
                self._gone.discard(owner)
        for owner in owners:
            self._dependents.setdefault(owner, set()).add(key)
        if owners:
            self._owners_of[key] = owners
        found = {self._uids[owner] for owner in before if owner in self._foreground and owner in self._uids}
        if event.type == "DELETED":
            self._uids.pop(uid, None)
            self._foreground.discard(uid)
            if uid in self._dependents:
                self._gone.add(uid)
            return found | self._dependents.get(uid, set())
        self._uids[uid] = key
        if _is_ending(obj, FOREGROUND):
            self._foreground.add(uid)
            found.add(key)
        if _is_ending(obj, ORPHAN) or any(o not in self._uids or o in self._foreground for o in owners):
            found.add(key)
        return found

    async def _reconcile(self, key: Key) -> None:
        namespace, (resource, _, name) = key[0], key[1].partition("/")
        obj = self._context.objects.find(resource, name, namespace)
        if obj is None:
            return
        if _is_ending(obj, ORPHAN):
            for dependent_resource, dependent in self._scan(obj):
                self._drop_owners(dependent_resource, dependent, {obj["metadata"]["uid"]})
            self._drop_finalizer(resource, obj, ORPHAN)
        elif _is_ending(obj, FOREGROUND):
            self._foreground_step(resource, obj)
        elif "deletionTimestamp" not in obj["metadata"] and _owners(obj):
            self._check(resource, obj)

    def _scan(self, owner: Obj) -> list[tuple[str, Obj]]:
        """Every object that names `owner`, read from the objects themselves: an event may still be on its way."""
        objects, meta = self._context.objects, owner["metadata"]
        namespace = meta.get("namespace")
        return [
            (resource, item)
            for resource in objects.resources()
            if resource not in _NEVER_OWNED and (namespace is None or objects.namespaced(resource))
            for item in objects.list(resource, namespace)
            if any(reference["uid"] == meta["uid"] for reference in _owners(item))
        ]

    def _foreground_step(self, resource: str, owner: Obj) -> None:
        uid = owner["metadata"]["uid"]
        dependents = self._scan(owner)
        for dependent_resource, dependent in dependents:
            if "deletionTimestamp" not in dependent["metadata"]:
                self._check(dependent_resource, dependent)
        # Deleting may have ended some at once, and nothing else will tell this owner.
        if not any(
            reference["uid"] == uid and reference.get("blockOwnerDeletion")
            for _, dependent in (self._scan(owner) if dependents else ())
            for reference in _owners(dependent)
        ):
            self._drop_finalizer(resource, owner, FOREGROUND)

    def _check(self, resource: str, obj: Obj) -> None:
        """Delete `obj` if no owner keeps it; else make it forget owners that are gone."""
        absent, waiting, solid = [], [], []
        for reference in _owners(obj):
            owner = self._owner(obj, reference)
            if owner is None:
                absent.append(reference)
            elif _is_ending(owner, FOREGROUND):
                waiting.append(reference)
            else:
                solid.append(reference)
        if solid:
            if absent or waiting:
                self._drop_owners(resource, obj, {reference["uid"] for reference in absent + waiting})
            return
        meta = obj["metadata"]
        # Under an owner that waits, dependents of dependents must be gone first as well.
        foreground = bool(waiting) and bool(self._dependents.get(meta["uid"]))
        orphan = ORPHAN in (meta.get("finalizers") or ())
        try:
            self._context.objects.delete(
                resource,
                meta["name"],
                meta.get("namespace"),
                propagation="Orphan" if orphan else "Foreground" if foreground else "Background",
                uid=meta["uid"],
            )
        except ApiError as error:
            if error.code != 404:
                raise

    def _owner(self, obj: Obj, reference: Obj) -> Obj | None:
        """The owner that a reference names; the reference itself where it cannot be known whether there is one."""
        if reference["uid"] in self._gone:
            return None
        objects = self._context.objects
        unknown: Obj = {"metadata": {"name": reference["name"]}}
        resource = self._kinds.resource(reference["apiVersion"], reference["kind"])
        namespace = obj["metadata"].get("namespace")
        if resource is None:
            return unknown
        namespaced = objects.namespaced(resource)
        if namespaced and namespace is None:
            return unknown
        owner = objects.find(resource, reference["name"], namespace if namespaced else None)
        return owner if owner is not None and owner["metadata"]["uid"] == reference["uid"] else None

    def _drop_owners(self, resource: str, obj: Obj, uids: set[str]) -> None:
        rest = [reference for reference in _owners(obj) if reference["uid"] not in uids]
        self._patch(resource, obj, {"ownerReferences": rest or None})

    def _drop_finalizer(self, resource: str, obj: Obj, finalizer: str) -> None:
        rest = [item for item in obj["metadata"].get("finalizers") or () if item != finalizer]
        self._patch(resource, obj, {"finalizers": rest or None})

    def _patch(self, resource: str, obj: Obj, metadata: dict[str, Any]) -> None:
        meta = obj["metadata"]
        try:
            self._context.objects.patch(
                resource, meta["name"], {"metadata": metadata}, meta.get("namespace"), manager=MANAGER
            )
        except ApiError as error:
            if error.code != 404:
                raise
