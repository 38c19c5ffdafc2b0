# SPDX-License-Identifier: Apache-2.0
"""The cluster's objects with the API server's semantics, shared by controllers, node, mesh and HTTP server."""

from __future__ import annotations

import builtins
from typing import Any, Literal

from msgspec.structs import replace

from meshbox import failures
from meshbox.api import bootstrap, refusals, understanding
from meshbox.api.apply import applied
from meshbox.api.conversion import from_hub
from meshbox.api.crds import CRDS, Definitions
from meshbox.api.deletes import Deletes
from meshbox.api.managed_fields import Entries
from meshbox.api.merge_keys import shape_of
from meshbox.api.metrics_api import Registration
from meshbox.api.moving import settle
from meshbox.api.options import DeleteOptions, WriteOptions
from meshbox.api.patching import PatchKind, patched, patched_scale
from meshbox.api.recorder import Recorder
from meshbox.api.resources import Registry, Resource, Served
from meshbox.api.scale import scale_of, scaled
from meshbox.api.selectors import field_selector, label_selector
from meshbox.api.setting_aside import Aside
from meshbox.api.store import Entry, Store
from meshbox.api.strategic import strategic_patch
from meshbox.api.watch import EventWatch
from meshbox.api.writes import Writes
from meshbox.contracts import AdmissionPlugin, Obj, View, Watch
from meshbox.program import program
from meshbox.settings import SandboxSettings
from meshbox.values import clone

__all__ = ["ObjectStore"]


class ObjectStore:
    """Implements `contracts.Objects` on a folder of the sandbox.

    Opening it brings back all objects written before, however that process ended.

    Args:
        settings: Of the sandbox; objects are kept in `settings.home`/objects.

    Raises:
        SandboxError: where they cannot be read, or are in use by another process.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        # The kubeconfig is written when the API first answers: where it is, there were objects.
        self.store = Store(
            settings.home / "objects" / "journal.jsonl",
            expected=(settings.home / "kubeconfig").exists(),
            recover=settings.recover,
            command=f"{program()} up" + (f" --name {settings.name}" if settings.name != "default" else ""),
        )
        try:
            self._begin(settings)
        except BaseException:
            self.store.close()
            raise

    def _begin(self, settings: SandboxSettings) -> None:
        self.registry = Registry(legacy=settings.legacy)
        self.writes = Writes(self.store, self.registry, settings)
        self.deletes = Deletes(self.store, self.registry, self.writes)
        self._definitions = Definitions(self.store, self.registry)
        self.writes.hooks[CRDS] = self._definitions.prepare
        self._aggregated = Registration(self.store, self.registry)
        self._recorder = Recorder(self, settings.node_name)
        understanding.set_aside(self.store, self.registry)
        self.moved = settle(self.store, settings.plan)
        """What was done about addresses of another block; "" if there were none."""
        bootstrap.bootstrap(self, settings.plan)
        for one in self.store.aside:
            self._tell(one)

    def _tell(self, one: Aside) -> None:
        """A Warning event about an object that was set aside, where somebody looks for it."""
        message = (
            f"{one} could not be understood when the sandbox started ({one.why}): it was left out, and what was stored "
            f"is in {one.file}; mend it there and apply it, or delete that file"
        )
        involved = one.involved
        if self.find("namespaces", involved["metadata"]["namespace"]) is None:
            involved["metadata"]["namespace"] = "default"
        self.event(involved, "Warning", "SetAside", message, "labkit")

    def close(self) -> None:
        """Close the journal; the objects stay on disk."""
        self.store.close()

    # --- reading

    def resource(self, name: str) -> Resource:
        """The resource called `name`.

        Raises:
            ApiError: 404 where it is not served.
        """
        resource = self.registry.get(name)
        if resource is None or not resource.stored:
            raise refusals.no_such_resource()
        return resource

    def entry(self, resource: Resource, name: str, namespace: str | None) -> Entry:
        """The stored object, shared: never change it.

        Raises:
            ApiError: 404 where there is none.
        """
        entry = self.store.entry(resource.name, _key(resource, name, namespace))
        if entry is None:
            raise refusals.not_found(resource, name)
        return entry

    def get(self, resource: str, name: str, namespace: str | None = None) -> Obj:
        """The object called `name`; 404 where there is none."""
        return _copy(self.entry(self.resource(resource), name, namespace).obj)

    def find(self, resource: str, name: str, namespace: str | None = None) -> Obj | None:
        """As `get`, but None where there is none."""
        found = self.see(resource, name, namespace)
        return None if found is None else _copy(found)

    def see(self, resource: str, name: str, namespace: str | None = None) -> Obj | None:
        """As `find`, but shared: never change it."""
        known = self.registry.get(resource)
        entry = None if known is None else self.store.entry(known.name, _key(known, name, namespace))
        return None if entry is None else entry.obj

    def select(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> builtins.list[Entry]:
        """The stored objects that both selectors match, ordered by namespace and name; shared: never change them."""
        entries = self.store.entries(resource.name, namespace if resource.namespaced else None)
        known = resource.selected or resource.name
        for match in (label_selector(labels), field_selector(fields, known, selectable_fields(resource))):
            if match is not None:
                entries = [entry for entry in entries if match(entry.obj)]
        return entries

    def list(self, resource: str, namespace: str | None = None, *, labels: str = "", fields: str = "") -> list[Obj]:
        """All objects of `resource` that the selectors match; none where it is not served."""
        return [_copy(obj) for obj in self.view(resource, namespace, labels=labels, fields=fields)]

    def view(
        self, resource: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> builtins.list[Obj]:
        """As `list`, but shared: never change them."""
        known = self.registry.get(resource)
        if known is None or not known.stored:
            return []
        return [entry.obj for entry in self.select(known, namespace, labels=labels, fields=fields)]

    def watch(self, resource: str, namespace: str | None = None) -> Watch:
        """ADDED for everything there is now, then every change."""
        return EventWatch(self.store, self.registry.canonical(resource), namespace)

    def resources(self) -> builtins.list[str]:
        """Every resource served now."""
        return [resource.name for resource in self.registry.all() if resource.stored]

    def namespaced(self, resource: str) -> bool:
        """Whether objects of `resource` live in namespaces; 404 where it is not served."""
        return self.resource(resource).namespaced

    # --- writing

    def create(
        self,
        resource: str,
        obj: Obj,
        namespace: str | None = None,
        *,
        manager: str = "",
        options: WriteOptions | None = None,
    ) -> Obj:
        """Create `obj`; returned as it is kept."""
        known = self.resource(resource)
        options = options or WriteOptions(manager)
        with self.writes.gate.waiting(options, "create", resource, obj, namespace):
            return _copy(self.writes.create(known, clone(obj), namespace, options))

    def update(
        self,
        resource: str,
        obj: Obj,
        *,
        subresource: str = "",
        manager: str = "",
        options: WriteOptions | None = None,
    ) -> Obj:
        """Replace an object, or with `subresource` a part of it."""
        known = self.resource(resource)
        meta = obj.get("metadata") or {}
        entry = self.entry(known, meta.get("name", ""), meta.get("namespace"))
        chosen = options or WriteOptions(manager)
        if not chosen.validation and isinstance(obj, dict):
            obj = _written(obj, subresource)
        return _copy(self._update(known, entry, clone(obj), chosen, subresource))

    def replace(self, resource: Resource, entry: Entry, obj: Obj, options: WriteOptions, subresource: str = "") -> Obj:
        """As `update`, of the object in `entry`, as a client asks for it."""
        return _copy(self._update(resource, entry, clone(obj), options, subresource))

    def patch(
        self,
        resource: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        subresource: str = "",
        manager: str = "",
        options: WriteOptions | None = None,
    ) -> Obj:
        """Change an object by a patch of `kind`."""
        known = self.resource(resource)
        entry = self.entry(known, name, namespace)
        chosen = options or WriteOptions(manager)
        if subresource == "scale":
            changed = patched_scale(known, scale_of(known, entry.obj), clone(patch), kind)
        else:
            changed = patched(known, entry.obj, clone(patch), kind, chosen)
        return _copy(self._update(known, entry, changed, chosen, subresource))

    def apply(
        self,
        resource: str,
        name: str,
        wanted: Any,
        namespace: str | None = None,
        *,
        force: bool = True,
        subresource: str = "",
        manager: str = "",
        strict: bool = False,
        options: WriteOptions | None = None,
    ) -> Obj:
        """Server-side apply of `wanted` by its manager; creates the object where there is none."""
        known = self.resource(resource)
        options = options or WriteOptions(manager, validation="Strict" if strict else "")
        wanted = clone(wanted)
        served = options.served or Served(known, known.group, known.version)
        if not isinstance(wanted, dict) or not isinstance(wanted.get("metadata"), dict):
            raise refusals.bad_request("the body of an apply request must be an object with metadata")
        if options.validation and known.crd is None:
            group, _, version = str(wanted.get("apiVersion") or "").rpartition("/")
            if (group, version, wanted.get("kind")) != (served.group, served.version, known.kind):
                raise refusals.bad_request(f"invalid object type: {group}/{version}, Kind={wanted.get('kind') or ''}")
        if wanted["metadata"].get("managedFields"):
            raise refusals.bad_request("metadata.managedFields must be nil")
        wanted["metadata"].setdefault("name", name)
        entry = self.store.entry(known.name, _key(known, name, namespace))
        live = None if entry is None else from_hub(served, entry.obj)
        if live is None and subresource:
            raise refusals.not_found(known, name)
        if options.validation:
            self.writes.checks.declared(known, wanted, served)
        if not subresource and "status" in known.subresources:
            # Whoever writes the object cannot write its status, so nobody owns what of it stands in a manifest.
            wanted.pop("status", None)
        shape = shape_of(known, served.version)
        entries = Entries(live["metadata"].get("managedFields") if live else None)
        result, options.applied = applied(
            live, wanted, entries, shape, manager=options.manager, subresource=subresource, force=force
        )
        options.created = entry is None
        if entry is None:
            if wanted["metadata"]["name"] != name:
                raise refusals.bad_request(
                    f"the name of the object ({wanted['metadata']['name']}) does not match the name on the URL ({name})"
                )
            with self.writes.gate.waiting(options, "apply", resource, wanted, namespace):
                return _copy(self.writes.create(known, result, namespace, options))
        return _copy(self._update(known, entry, result, options, subresource))

    def merged(self, resource: str, obj: Obj, patch: Obj) -> Obj:
        """`obj` (not changed) after a strategic merge patch; nothing is stored."""
        return strategic_patch(clone(obj), clone(patch), self.resource(resource).kind)

    def _update(self, resource: Resource, entry: Entry, obj: Obj, options: WriteOptions, subresource: str) -> Obj:
        if subresource and subresource not in resource.subresources:
            raise refusals.no_such_resource()
        if subresource == "scale":
            obj = scaled(resource, entry.obj, obj)
            options = replace(options, served=None)
        with self.writes.gate.waiting(options, "update", resource.name, obj, subresource):
            result = self.writes.update(resource, entry, obj, options, subresource)
        self._after_removal(resource, entry)
        return result

    def delete(
        self,
        resource: str,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        grace_period: int | None = None,
        uid: str = "",
    ) -> Obj:
        """Delete an object, or begin to; returns it as it is (or last was)."""
        known = self.resource(resource)
        options = DeleteOptions(propagation, grace_period, uid)
        return _copy(self.remove(known, self.entry(known, name, namespace), options)[0])

    def remove(self, resource: Resource, entry: Entry, options: DeleteOptions) -> tuple[Obj, bool]:
        """Delete the object in `entry`; the object (shared) and whether it is gone."""
        with self.writes.gate.waiting(options.write, "delete", resource.name, entry.obj["metadata"]):
            result = self.deletes.delete(resource, entry, options)
        self._after_removal(resource, entry)
        return result

    def _after_removal(self, resource: Resource, entry: Entry) -> None:
        """A CRD that is going waits for its last object."""
        if resource.crd is None:
            return
        meta = entry.obj["metadata"]
        if self.store.entry(resource.name, (meta.get("namespace", ""), meta["name"])) is None:
            self.deletes.release_crd(self.resource(CRDS), resource.name)

    def event(
        self,
        involved: View,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        component: str,
        *,
        field_path: str = "",
    ) -> None:
        """Record an Event about `involved`; never raises."""
        # Whoever tells of an error must not meet another by telling.
        with failures.spared(failures.in_log(f"the event {reason} could not be written")):
            self._recorder.record(involved, type, reason, message, component, field_path)

    def add_admission(self, plugin: AdmissionPlugin) -> None:
        """Let `plugin` change or refuse writes from now on."""
        self.writes.plugins.append(plugin)


def selectable_fields(resource: Resource) -> tuple[str, ...] | None:
    """Further fields that a custom resource can be selected by; None for a built-in one."""
    if resource.crd is None:
        return None
    return tuple(
        path["jsonPath"].lstrip(".")
        for version in resource.crd["spec"]["versions"]
        for path in version.get("selectableFields") or []
    )


def _key(resource: Resource, name: str, namespace: str | None) -> tuple[str, str]:
    return ((namespace or "default") if resource.namespaced else "", name)


def _written(obj: Obj, subresource: str) -> Obj:
    """What of an object is written by parts of the sandbox: no managedFields, and with a status nothing else."""
    of_status = ("apiVersion", "kind", "metadata", "status")
    own = {field: obj[field] for field in of_status if field in obj} if subresource == "status" else {**obj}
    if "managedFields" in (own.get("metadata") or {}):
        own["metadata"] = {name: value for name, value in own["metadata"].items() if name != "managedFields"}
    return own


def _copy(obj: Obj) -> Obj:
    """The caller's own; but managedFields, half of many an object, are replaced as a whole and never changed."""
    meta = obj["metadata"]
    managed = meta.get("managedFields")
    if managed is None:
        copied: Obj = clone(obj)
        return copied
    copied = clone({**obj, "metadata": {name: value for name, value in meta.items() if name != "managedFields"}})
    copied["metadata"]["managedFields"] = managed
    return copied
