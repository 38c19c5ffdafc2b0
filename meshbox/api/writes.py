# SPDX-License-Identifier: Apache-2.0
"""The one path of every create and update: decode, default, admit, validate, keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from meshbox.api import metadata, refusals
from meshbox.api.admission.asked import Asked
from meshbox.api.admission.gate import Gate, internal
from meshbox.api.allocation import ServiceAllocator
from meshbox.api.bindings import BINDING, bound
from meshbox.api.managed_fields import given_fields, same, track
from meshbox.api.object_checks import Checks
from meshbox.api.options import WriteOptions
from meshbox.api.resources import Registry, Resource, Served
from meshbox.api.scale import scaled
from meshbox.api.store import Entry, Key, Store
from meshbox.api.strategies import (
    EPHEMERAL,
    SIGNING_REQUESTS,
    asked_by,
    ephemeral_problems,
    first_status,
    prepare,
    taint,
)
from meshbox.contracts import AdmissionPlugin, AdmissionRequest, ApiError, Obj
from meshbox.settings import SandboxSettings
from meshbox.values import clone

__all__ = ["Writes", "key_of"]


_ADDRESS_FIELDS = ("metadata.", "spec.clusterIP", "spec.ipFamil")
DEPLOYMENTS = "deployments.apps"
"""Their revision is written with their status."""
_COUNTED = {DEPLOYMENTS: "annotations", "endpointslices.discovery.k8s.io": "labels"}
"""Kinds that count changes of a part of their metadata as well."""


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
        self.checks = Checks(settings, self._token_secret)
        self._allocator = ServiceAllocator(store, settings)
        self._settings = settings
        self._registry = registry
        self.plugins: list[AdmissionPlugin] = []
        self.gate = Gate(store, registry, settings)
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
        obj = self.checks.incoming(resource, obj, None, options)
        generated = not obj["metadata"].get("name")
        metadata.begin(resource, obj, namespace)
        if options.reviews is not None:
            options.reviews.settle(obj["metadata"])
        if has_status and resource.crd is None:
            first_status(resource.name, obj)
        self._require_namespace(resource, obj)
        if resource.crd is not None and self._ends(resource):
            why = "create not allowed while custom resource definition is terminating"
            raise refusals.forbidden(resource, obj["metadata"].get("name", ""), why)
        given = {name for name, value in obj["spec"].items() if value} if isinstance(obj.get("spec"), dict) else set()
        self.checks.defaults(resource, obj)
        served = options.served
        # Of another version what is broken is found only after this.
        told = options.validation or resource.name == "pods"
        if options.manager and told and options.applied is None and (served is None or served.hub):
            options.owned = given_fields(resource, obj, options, given)
        request = self._request("CREATE", resource, obj, None, options)
        self._mutate(resource, request)
        asked = self.gate.asked("CREATE", resource, obj, None, options, generated=generated)
        obj = self._changed(resource, request, asked, options)
        if resource.name == "pods":
            self._require_account(resource, obj)
        # All that is wrong is said at once, of the object as it would be kept.
        prepare(resource.name, obj, None)
        if resource.name == "pods":
            options.warnings += self.checks.profiles(obj)
        if resource.name == "nodes" and options.validation:
            taint(obj)
        if resource.name == SIGNING_REQUESTS and options.user is not None:
            asked_by(obj, options.user)
        added = resource.name == "pods" and bool(self.plugins)
        causes = metadata.check(resource, obj) + self.checks.errors(resource, obj, None, options, added=added)
        if resource.name == "pods":
            causes += ephemeral_problems(None, obj)
        if resource.name == "services" and not any(one["field"].startswith(_ADDRESS_FIELDS) for one in causes):
            # What a Service cannot be given is said before what else is wrong with it.
            self._allocator.allocate(resource, obj, None)
        causes = causes or self._hooked(resource, obj, None)
        name = obj["metadata"].get("name", "")
        if causes:
            raise refusals.invalid(resource, name, causes)
        key = key_of(obj)
        if (taken := self._store.entry(resource.name, key)) is not None:
            raise refusals.already_exists(resource, name, ends="deletionTimestamp" in taken.obj["metadata"])
        options.warnings += self.checks.warnings(resource, obj, None, options)
        self._validate(request)
        self.gate.validate(asked and asked.about(obj), options)
        options.warnings += self.gate.notes(resource, obj)
        if options.vet is not None:
            options.vet(obj)
        self.checks.stored(resource, obj)
        track(resource, None, obj, options)
        if options.dry_run:
            return obj
        return self._store.put(resource.name, key, _ordered(resource, obj)).obj

    def update(self, resource: Resource, old: Entry, obj: Obj, options: WriteOptions, subresource: str = "") -> Obj:
        """Replace the object in `old` by `obj` (given away); returns the stored object, shared."""
        before = old.obj
        name = before["metadata"]["name"]
        obj = self.checks.incoming(resource, obj, before, options, subresource)
        metadata.identify(resource, before, obj, options)
        obj = self._merge(resource, before, obj, subresource)
        changed = metadata.carry_over(obj, before)
        whole = subresource in ("", "scale", EPHEMERAL)
        if whole:
            self.checks.defaults(resource, obj)
        request = self._request("UPDATE", resource, obj, before, options, subresource)
        self._mutate(resource, request)
        asked = self.gate.asked("UPDATE", resource, obj, before, options, subresource=subresource)
        obj = self._changed(resource, request, asked, options)
        if whole:
            prepare(resource.name, obj, before)
        causes = metadata.check(resource, obj)
        if subresource == "status":
            causes += self.checks.status_errors(resource, obj, options)
        if whole:
            causes += changed if options.validation else []
            causes += self.checks.errors(resource, obj, before, options)
            causes += self._new_finalizers(before, obj)
            if subresource == EPHEMERAL:
                causes += ephemeral_problems(before, obj)
            causes = causes or self._hooked(resource, obj, before)
        if causes:
            raise refusals.invalid(resource, name, causes)
        told = len(options.warnings)
        self._validate(request)
        self.gate.validate(asked and asked.about(obj), options)
        options.warnings += self.gate.notes(resource, obj)
        if options.vet is not None:
            options.vet(obj)
        if resource.name == "services" and whole:
            self._allocator.allocate(resource, obj, before)
        self.checks.stored(resource, obj, before)
        if whole:
            # Before what those say who judge it last; what is new in it shows in the form that is kept.
            options.warnings[told:told] = self.checks.warnings(resource, obj, before, options)
        track(resource, before, obj, options, subresource)
        if same(before, obj):
            return before
        self._count_generation(resource, before, obj, subresource)
        if options.dry_run:
            return obj
        key, obj = key_of(before), _ordered(resource, obj)
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

    def _require_account(self, resource: Resource, pod: Obj) -> None:
        """A pod runs as a ServiceAccount that exists; "default" is there a moment after its namespace."""
        namespace, name = pod["metadata"]["namespace"], (pod.get("spec") or {}).get("serviceAccountName")
        if name in (None, "", "default") or self._store.entry("serviceaccounts", (namespace, name)) is not None:
            return
        problem = f'serviceaccount "{name}" not found'
        if "/" in name:
            problem = f"invalid resource name {refusals.quoted(name)}: [may not contain '/']"
        why = f"error looking up service account {namespace}/{name}: {problem}"
        raise refusals.forbidden(resource, pod["metadata"].get("name", ""), why)

    def _ends(self, resource: Resource) -> bool:
        """Whether the definition of a custom resource is being deleted."""
        definition = self._store.entry("customresourcedefinitions.apiextensions.k8s.io", ("", resource.name))
        return definition is not None and "deletionTimestamp" in definition.obj["metadata"]

    @staticmethod
    def _merge(resource: Resource, before: Obj, obj: Obj, subresource: str) -> Obj:
        """What the request may change: all but the status, or (a subresource) only its part."""
        if subresource in ("status", "approval"):
            # The rest has its form already, and is not changed on the way.
            merged: Obj = {**before, "metadata": {**before["metadata"]}}
            if "status" in obj:
                merged["status"] = obj["status"]
            else:
                merged.pop("status", None)
            for field in ("managedFields", *(("annotations",) if resource.name == DEPLOYMENTS else ())):
                if field in obj["metadata"]:
                    merged["metadata"][field] = obj["metadata"][field]
            return merged
        if subresource == BINDING:
            return bound(before, obj)
        if subresource == "finalize":
            merged = clone(before)
            merged["spec"] = (
                {"finalizers": finalizers} if (finalizers := (obj.get("spec") or {}).get("finalizers")) else {}
            )
            return merged
        if subresource == EPHEMERAL:
            merged = clone(before)
            merged["spec"]["ephemeralContainers"] = (obj.get("spec") or {}).get("ephemeralContainers") or []
            return merged
        if resource.name == "pods" and isinstance(obj.get("spec"), dict):
            # They are written by the subresource only.
            obj["spec"].pop("ephemeralContainers", None)
            if added := before["spec"].get("ephemeralContainers"):
                obj["spec"]["ephemeralContainers"] = clone(added)
        if "status" in resource.subresources:
            if "status" in before:
                obj["status"] = clone(before["status"])
            else:
                obj.pop("status", None)
        return obj

    def _hooked(self, resource: Resource, obj: Obj, before: Obj | None) -> list[Obj]:
        hook = self.hooks.get(resource.name)
        return hook(obj, before) if hook else []

    @staticmethod
    def _new_finalizers(before: Obj, obj: Obj) -> list[Obj]:
        if not before["metadata"].get("deletionTimestamp"):
            return []
        added = set(obj["metadata"].get("finalizers") or []) - set(before["metadata"].get("finalizers") or [])
        if not added:
            return []
        words = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
        listed = ", ".join(refusals.quoted(one) for one in sorted(added))
        return [refusals.cause("metadata.finalizers", f"{words}[]string{{{listed}}}")]

    @staticmethod
    def _count_generation(resource: Resource, before: Obj, obj: Obj, subresource: str) -> None:
        if not resource.counts_generation:
            return
        ignored = {"metadata", "status"} if resource.crd is None or "status" in resource.subresources else {"metadata"}
        fields = (set(before) | set(obj)) - ignored
        if resource.name == "pods" and {**before["spec"], "nodeName": obj["spec"].get("nodeName")} == obj["spec"]:
            # To be put on a node is no change of what was asked for.
            return
        if resource.kind == "PriorityClass":
            return
        if subresource == "" and (part := _COUNTED.get(resource.name)):
            was, now = ((one["metadata"].get(part) or {}) for one in (before, obj))
            if was != now:
                obj["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1
                return
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
            self.checks.completed(resource, request.object)

    def _changed(
        self, resource: Resource, request: AdmissionRequest, asked: Asked | None, options: WriteOptions
    ) -> Obj:
        """The object of `request` after users' webhooks, with the form and the defaults of what clients send."""
        before: Obj = request.object

        def change(shown: Obj, served: Served) -> Obj:
            if request.subresource == "scale":
                return scaled(resource, before, shown)
            given = WriteOptions(validation="Ignore", served=served)
            try:
                obj = self.checks.incoming(resource, shown, request.old_object, given, request.subresource)
            except ApiError as error:
                raise internal(error) from error
            for owned in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion"):
                if owned in before["metadata"]:
                    obj["metadata"][owned] = before["metadata"][owned]
            self.checks.completed(resource, obj)
            return obj

        changed = self.gate.mutate(asked, options, change)
        request.object = before if changed is None else changed
        return request.object

    def _validate(self, request: AdmissionRequest) -> None:
        for plugin in self.plugins:
            plugin.validate(request)

    def delete_admitted(self, resource: Resource, obj: Obj, options: WriteOptions, *, dry_run: bool) -> None:
        """Ask the plugins, users' webhooks and policies whether `obj` may be deleted.

        Raises:
            ApiError: as one of them refuses.
            ReviewNeededError: a webhook is to be asked first.
        """
        options.dry_run = dry_run
        if (asked := self.gate.asked("DELETE", resource, None, obj, options)) is not None:
            self.gate.mutate(asked, options, lambda shown, _served: shown)
            self.gate.validate(asked, options)
        if not self.plugins:
            return
        meta = obj["metadata"]
        request = AdmissionRequest(
            "DELETE", resource.name, meta.get("namespace"), meta["name"], clone(obj), clone(obj), dry_run=dry_run
        )
        self._validate(request)


_FIRST = ("kind", "apiVersion", "metadata")
_META = (
    "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
    "managedFields",
)  # fmt: skip


def _ordered(resource: Resource, obj: Obj) -> Obj:
    """`obj` with its fields in the order in which the server writes them: who cuts a line of JSON finds its name."""
    meta = obj["metadata"]
    if resource.crd is not None:
        return {field: obj[field] for field in sorted(obj)} | {"metadata": dict(sorted(meta.items()))}
    named = {field: meta.get(field, "") for field in _META if field in meta or field == "resourceVersion"}
    first = {field: obj[field] for field in _FIRST if field in obj}
    return {**first, **obj, "metadata": {**named, **meta}}
