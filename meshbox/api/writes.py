# SPDX-License-Identifier: Apache-2.0
"""The one path of every create and update: decode, default, admit, validate, keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from meshbox.api import metadata, refusals
from meshbox.api.allocation import ServiceAllocator
from meshbox.api.managed_fields import track
from meshbox.api.object_checks import Checks
from meshbox.api.options import WriteOptions
from meshbox.api.resources import Registry, Resource
from meshbox.api.store import Entry, Key, Store, clone
from meshbox.api.strategies import first_status, prepare
from meshbox.contracts import AdmissionPlugin, AdmissionRequest, ApiError, Obj
from meshbox.settings import SandboxSettings

__all__ = ["Writes", "key_of"]


def key_of(obj: Obj) -> Key:
    """The key of a stored object."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


class Writes:
    """Creates and updates.

    Args:
        store: Where objects are kept.
        registry: What is served.
        settings: Of the sandbox.
    """

    def __init__(self, store: Store, registry: Registry, settings: SandboxSettings) -> None:
        self._store = store
        self._checks = Checks(settings, self._token_secret)
        self._allocator = ServiceAllocator(store, settings)
        self._settings = settings
        self._registry = registry
        self.plugins: list[AdmissionPlugin] = []
        self.finish: Callable[[Resource, Obj], bool] = lambda _resource, _obj: False
        """Says whether an object that is being deleted has nothing left to wait for."""
        self.hooks: dict[str, Callable[[Obj, Obj | None], list[Obj]]] = {}
        """Further preparation by resource name (CustomResourceDefinitions), as `strategies.prepare`."""

    def _token_secret(self, namespace: str, name: str) -> str:
        entry = self._store.entry("serviceaccounts", (namespace, name))
        if entry is None:
            return ""
        if not entry.obj.get("secrets"):
            # Its controller is about to make one; a pod without its token would never get it.
            raise ApiError(
                403,
                "Forbidden",
                f'No API token found for service account "{name}", retry after the token is automatically created and '
                "added to the service account",
            )
        return str(entry.obj["secrets"][-1]["name"])

    def create(self, resource: Resource, obj: Obj, namespace: str | None, options: WriteOptions) -> Obj:
        """Create `obj` (the caller gives it away); returns the stored object, shared."""
        has_status = "status" in resource.subresources or resource.name in ("persistentvolumes",)
        if has_status and resource.crd is not None and isinstance(obj, dict):
            # Before it is completed: the first status of such an object is what its schema's defaults say.
            obj.pop("status", None)
        obj = self._checks.incoming(resource, obj, None, options)
        metadata.begin(resource, obj, namespace)
        if has_status and resource.crd is None:
            first_status(resource.name, obj)
        causes = metadata.check(resource, obj)
        if causes:
            raise refusals.invalid(resource, obj["metadata"].get("name", ""), causes)
        self._require_namespace(resource, obj)
        self._checks.defaults(resource, obj)
        request = self._request("CREATE", resource, obj, None, options)
        self._mutate(resource, request)
        causes = self._prepare(resource, obj, None)
        name = obj["metadata"]["name"]
        if causes:
            raise refusals.invalid(resource, name, causes)
        key = key_of(obj)
        if self._store.entry(resource.name, key) is not None:
            raise refusals.already_exists(resource, name)
        self._validate(request)
        if resource.name == "services":
            self._allocator.allocate(resource, obj, None)
        track(resource, None, obj, options)
        if options.dry_run:
            return obj
        return self._store.put(resource.name, key, obj).obj

    def update(self, resource: Resource, old: Entry, obj: Obj, options: WriteOptions, subresource: str = "") -> Obj:
        """Replace the object in `old` by `obj` (given away); returns the stored object, shared."""
        before = old.obj
        name = before["metadata"]["name"]
        obj = self._checks.incoming(resource, obj, before, options, subresource)
        self._check_identity(resource, before, obj)
        obj = self._merge(resource, before, obj, subresource)
        metadata.carry_over(obj, before)
        causes = metadata.check(resource, obj)
        whole = subresource in ("", "scale")
        if whole:
            self._checks.defaults(resource, obj)
        request = self._request("UPDATE", resource, obj, before, options, subresource)
        self._mutate(resource, request)
        if whole:
            causes += self._prepare(resource, obj, before)
            causes += self._checks.errors(resource, obj, before, options)
            causes += self._new_finalizers(before, obj)
        if causes:
            raise refusals.invalid(resource, name, causes)
        self._validate(request)
        if resource.name == "services" and whole:
            self._allocator.allocate(resource, obj, before)
        track(resource, before, obj, options, subresource)
        if same(before, obj):
            return before
        self._count_generation(resource, before, obj)
        if options.dry_run:
            return obj
        key = key_of(before)
        if self.finish(resource, obj):
            # Kept once more, so that a watch sees what the last write changed.
            self._store.put(resource.name, key, obj)
            return self._store.remove(resource.name, key).obj
        return self._store.put(resource.name, key, obj).obj

    def _require_namespace(self, resource: Resource, obj: Obj) -> None:
        if not resource.namespaced:
            return
        name = obj["metadata"]["namespace"]
        entry = self._store.entry("namespaces", ("", name))
        if entry is None:
            namespaces = self._registry.get("namespaces")
            assert namespaces is not None
            raise refusals.not_found(namespaces, name)
        if entry.obj["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {name} because it is being terminated"
            refusal = refusals.forbidden(resource, obj["metadata"].get("name", ""), why)
            message = f"namespace {name} is being terminated"
            refusal.details["causes"] = [
                {"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}
            ]
            raise refusal

    @staticmethod
    def _check_identity(resource: Resource, before: Obj, obj: Obj) -> None:
        meta, known = obj["metadata"], before["metadata"]
        name = known["name"]
        if (given := meta.get("name", name)) != name:
            raise refusals.bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        if (given := meta.get("namespace") or known.get("namespace")) != known.get("namespace"):
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if (uid := meta.get("uid")) and uid != known["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {known['uid']}"
            raise refusals.conflict(resource, name, why)
        if (version := meta.get("resourceVersion")) and version != known["resourceVersion"]:
            raise refusals.modified(resource, name)
        meta["name"] = name

    @staticmethod
    def _merge(resource: Resource, before: Obj, obj: Obj, subresource: str) -> Obj:
        """What the request may change: all but the status, or (a subresource) only its part."""
        if subresource == "status":
            merged: Obj = clone(before)
            if "status" in obj:
                merged["status"] = obj["status"]
            else:
                merged.pop("status", None)
            if "managedFields" in obj["metadata"]:
                merged["metadata"]["managedFields"] = obj["metadata"]["managedFields"]
            return merged
        if subresource == "finalize":
            merged = clone(before)
            merged["spec"] = (
                {"finalizers": finalizers} if (finalizers := (obj.get("spec") or {}).get("finalizers")) else {}
            )
            return merged
        if "status" in resource.subresources:
            if "status" in before:
                obj["status"] = clone(before["status"])
            else:
                obj.pop("status", None)
        return obj

    def _prepare(self, resource: Resource, obj: Obj, before: Obj | None) -> list[Obj]:
        causes = prepare(resource.name, obj, before)
        hook = self.hooks.get(resource.name)
        return causes + hook(obj, before) if hook else causes

    @staticmethod
    def _new_finalizers(before: Obj, obj: Obj) -> list[Obj]:
        if not before["metadata"].get("deletionTimestamp"):
            return []
        added = set(obj["metadata"].get("finalizers") or []) - set(before["metadata"].get("finalizers") or [])
        if not added:
            return []
        words = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
        return [refusals.cause("metadata.finalizers", f"{words}{sorted(added)}")]

    @staticmethod
    def _count_generation(resource: Resource, before: Obj, obj: Obj) -> None:
        if not resource.counts_generation:
            return
        ignored = {"metadata", "status"} if resource.crd is None or "status" in resource.subresources else {"metadata"}
        fields = (set(before) | set(obj)) - ignored
        if any(before.get(field) != obj.get(field) for field in fields):
            obj["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1

    @staticmethod
    def _request(
        operation: Literal["CREATE", "UPDATE"],
        resource: Resource,
        obj: Obj,
        before: Obj | None,
        options: WriteOptions,
        subresource: str = "",
    ) -> AdmissionRequest:
        meta = obj["metadata"]
        return AdmissionRequest(
            operation=operation,
            resource=resource.name,
            namespace=meta.get("namespace"),
            name=meta.get("name", ""),
            object=obj,
            old_object=before,
            subresource=subresource,
            dry_run=options.dry_run,
            warnings=options.warnings,
        )

    def _mutate(self, resource: Resource, request: AdmissionRequest) -> None:
        for plugin in self.plugins:
            plugin.mutate(request)
        if self.plugins and resource.name == "pods" and request.operation == "CREATE":
            self._checks.completed(resource, request.object)

    def _validate(self, request: AdmissionRequest) -> None:
        for plugin in self.plugins:
            plugin.validate(request)

    def delete_admitted(self, resource: Resource, obj: Obj, *, dry_run: bool) -> None:
        """Ask the plugins whether `obj` may be deleted.

        Raises:
            ApiError: as a plugin refuses.
        """
        if not self.plugins:
            return
        meta = obj["metadata"]
        request = AdmissionRequest(
            "DELETE", resource.name, meta.get("namespace"), meta["name"], clone(obj), clone(obj), dry_run=dry_run
        )
        self._validate(request)


def same(before: Obj, obj: Obj) -> bool:
    """Whether a write would change nothing (times in managedFields aside)."""
    if before == obj:
        return True
    if "managedFields" not in before["metadata"] or "managedFields" not in obj["metadata"]:
        return False
    return _timeless(before) == _timeless(obj)


def _timeless(obj: Obj) -> Obj:
    fields = [{key: value for key, value in one.items() if key != "time"} for one in obj["metadata"]["managedFields"]]
    return {**obj, "metadata": {**obj["metadata"], "managedFields": fields}}
