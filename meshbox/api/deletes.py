# SPDX-License-Identifier: Apache-2.0
"""Every removal of an object: grace, finalizers, what becomes of dependents, and what a CRD takes along."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from meshbox.api import refusals
from meshbox.api.metadata import now
from meshbox.api.options import DeleteOptions
from meshbox.api.resources import Registry, Resource
from meshbox.api.store import Entry, Store
from meshbox.api.writes import Writes, key_of
from meshbox.contracts import ApiError, Obj
from meshbox.values import clone

__all__ = ["Deletes"]

_PROPAGATION_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
_KEPT_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})
_DEFAULT_GRACE = 30


class Deletes:
    """Deletes objects.

    Args:
        store: Where they are.
        registry: What is served.
        writes: For admission.
    """

    def __init__(self, store: Store, registry: Registry, writes: Writes) -> None:
        self._store = store
        self._registry = registry
        self._writes = writes
        writes.finish = self.finished

    def delete(self, resource: Resource, entry: Entry, options: DeleteOptions) -> tuple[Obj, bool]:
        """Delete the object in `entry`; returns it as it is now and whether it is gone."""
        obj = entry.obj
        self._check_preconditions(resource, obj, options)
        name = obj["metadata"]["name"]
        if resource.name == "namespaces" and name in _KEPT_NAMESPACES:
            raise refusals.forbidden(resource, name, "this namespace may not be deleted")
        self._writes.delete_admitted(resource, obj, options.write, dry_run=options.dry_run)
        changed: Obj = clone(obj)
        self._mark(resource, changed, options)
        if self.finished(resource, changed):
            if options.dry_run:
                return obj, True
            return self._remove(resource, entry), True
        if options.dry_run or changed == obj:
            return changed, False
        if changed["metadata"].get("generation") and not obj["metadata"].get("deletionTimestamp"):
            changed["metadata"]["generation"] += 1
        if resource.name == CRDS:
            terminating(changed)
        put = self._store.put(resource.name, key_of(obj), changed)
        if resource.name == CRDS:
            self._drain_crd(resource, put)
        return put.obj, False

    @staticmethod
    def _check_preconditions(resource: Resource, obj: Obj, options: DeleteOptions) -> None:
        meta = obj["metadata"]
        for word, asked, is_now, perhaps in (
            ("UID", options.uid, meta["uid"], "deleted and then recreated"),
            ("ResourceVersion", options.resource_version, meta["resourceVersion"], "modified"),
        ):
            if asked and asked != is_now:
                # Whoever deletes is told of the kind, not of the resource.
                kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
                why = f"the {word} in the precondition ({asked}) does not match the {word} in record ({is_now}). "
                words = f'Operation cannot be fulfilled on {kind} "{meta["name"]}": {why}'
                details = {"name": meta["name"], "group": resource.group, "kind": resource.kind}
                details = {key: value for key, value in details.items() if value}
                raise ApiError(409, "Conflict", f"{words}The object might have been {perhaps}", details)

    @staticmethod
    def _mark(resource: Resource, obj: Obj, options: DeleteOptions) -> None:
        """Set what shows that `obj` is being deleted."""
        meta = obj["metadata"]
        if options.propagation is not None:
            kept = [name for name in meta.get("finalizers") or [] if name not in _PROPAGATION_FINALIZERS.values()]
            if options.propagation in _PROPAGATION_FINALIZERS:
                kept.append(_PROPAGATION_FINALIZERS[options.propagation])
            if kept:
                meta["finalizers"] = kept
            else:
                meta.pop("finalizers", None)
        grace = _pod_grace(obj, options) if resource.name == "pods" else 0
        known = meta.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" not in meta:
            when = datetime.now(UTC) + timedelta(seconds=grace)
            meta["deletionTimestamp"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
            meta["deletionGracePeriodSeconds"] = grace
        elif known and grace < known and (options.grace_period is not None or grace == 0):
            # A second delete may only make the wait shorter.
            when = datetime.strptime(meta["deletionTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            meta["deletionTimestamp"] = (when - timedelta(seconds=known - grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
            meta["deletionGracePeriodSeconds"] = grace
        if resource.name == "namespaces":
            obj.setdefault("status", {})["phase"] = "Terminating"
            meta.pop("deletionGracePeriodSeconds", None)

    @staticmethod
    def finished(resource: Resource, obj: Obj) -> bool:
        """Whether nothing holds an object back that is being deleted."""
        meta = obj["metadata"]
        if not meta.get("deletionTimestamp") or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
            return False
        return resource.name != "namespaces" or not (obj.get("spec") or {}).get("finalizers")

    def _remove(self, resource: Resource, entry: Entry) -> Obj:
        return self._store.remove(resource.name, key_of(entry.obj)).obj

    def _drain_crd(self, definitions: Resource, crd: Entry) -> None:
        """Delete every object of a CRD that is going; the CRD goes with the last of them."""
        resource = self._registry.get(crd.obj["metadata"]["name"])
        if resource is not None:
            for entry in self._store.entries(resource.name):
                self.delete(resource, entry, DeleteOptions())
        self.release_crd(definitions, crd.obj["metadata"]["name"])

    def release_crd(self, definitions: Resource, name: str) -> None:
        """Let a CRD go that is being deleted, once it has no objects left."""
        entry = self._store.entry(definitions.name, ("", name))
        if entry is None or not entry.obj["metadata"].get("deletionTimestamp") or self._store.entries(name):
            return
        crd: Obj = clone(entry.obj)
        finalizers = [one for one in crd["metadata"].get("finalizers") or [] if one != CRD_CLEANUP]
        crd["metadata"]["finalizers"] = finalizers
        if finalizers:
            self._store.put(definitions.name, ("", name), crd)
        else:
            self._store.remove(definitions.name, ("", name))


CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def terminating(crd: Obj) -> None:
    """Say in a CRD that its objects are being deleted, in place."""
    status = crd.setdefault("status", {})
    others = [one for one in status.get("conditions") or () if one["type"] != "Terminating"]
    condition = {
        "type": "Terminating",
        "status": "True",
        "reason": "InstanceDeletionInProgress",
        "message": "CustomResource deletion is in progress",
        "lastTransitionTime": now(),
    }
    status["conditions"] = [*others, condition]


CRD_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer that keeps a CRD until its objects are gone."""


def _pod_grace(pod: Obj, options: DeleteOptions) -> int:
    """Seconds a pod has to end: none where nothing of it runs."""
    if not (pod.get("spec") or {}).get("nodeName"):
        return 0
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_period is not None:
        return max(0, options.grace_period)
    grace = pod["spec"].get("terminationGracePeriodSeconds")
    return grace if isinstance(grace, int) and grace >= 0 else _DEFAULT_GRACE
