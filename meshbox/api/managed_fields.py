# SPDX-License-Identifier: Apache-2.0
"""`metadata.managedFields`: who set which field, the ground of server-side apply.

Kept for clients' writes; the sandbox's own controllers never apply, so nobody asks what they own.
"""

from __future__ import annotations

from typing import Any

from meshbox.api import metadata
from meshbox.api.conversion import from_hub
from meshbox.api.fields import Path, decode, encode, fields_of, lookup
from meshbox.api.merge_keys import Shape, shape_of
from meshbox.api.options import WriteOptions
from meshbox.api.resources import Resource, Served
from meshbox.contracts import Obj

__all__ = ["Entries", "changed_fields", "entries_of", "track"]


class Entries:
    """The entries of one object, as sets of paths that can be reckoned with.

    Args:
        given: `metadata.managedFields`, as kept or as a client sent it.
    """

    def __init__(self, given: Any) -> None:
        self._entries: list[tuple[Obj, set[Path]]] = []
        for one in given if isinstance(given, list) else []:
            if isinstance(one, dict) and one.get("manager"):
                head = {key: value for key, value in one.items() if key != "fieldsV1"}
                self._entries.append((head, decode(one.get("fieldsV1"))))

    def owned(self, manager: str, operation: str, subresource: str = "") -> set[Path]:
        """What `manager` owns by `operation`."""
        for head, paths in self._entries:
            if _is(head, manager, operation, subresource):
                return paths
        return set()

    def others(self, manager: str, operation: str, subresource: str = "") -> list[tuple[Obj, set[Path]]]:
        """The entries of everybody else."""
        return [(head, paths) for head, paths in self._entries if not _is(head, manager, operation, subresource)]

    def disown(self, paths: set[Path], manager: str, operation: str, subresource: str = "") -> None:
        """Take `paths` from everybody else."""
        for _, owned in self.others(manager, operation, subresource):
            owned -= paths

    def set(self, manager: str, operation: str, subresource: str, api_version: str, paths: set[Path]) -> None:
        """Make `paths` what `manager` owns by `operation`."""
        for index, (head, owned) in enumerate(self._entries):
            if _is(head, manager, operation, subresource):
                if owned != paths or head.get("apiVersion") != api_version:
                    self._entries[index] = ({**head, "apiVersion": api_version, "time": metadata.now()}, paths)
                return
        head = {"manager": manager, "operation": operation, "apiVersion": api_version, "time": metadata.now()}
        if subresource:
            head["subresource"] = subresource
        self._entries.append((head, paths))

    def value(self) -> list[Obj]:
        """As `metadata.managedFields` has it."""
        return [{**head, "fieldsType": "FieldsV1", "fieldsV1": encode(paths)} for head, paths in self._entries if paths]


def _is(head: Obj, manager: str, operation: str, subresource: str) -> bool:
    return (head.get("manager"), head.get("operation"), head.get("subresource", "")) == (
        manager,
        operation,
        subresource,
    )


def entries_of(obj: Obj) -> Entries:
    """The entries in an object."""
    return Entries(obj["metadata"].get("managedFields"))


def changed_fields(before: Obj | None, after: Obj, shape: Shape) -> tuple[set[Path], set[Path]]:
    """Which fields a write set to another value, and which it took away."""
    now = fields_of(after, shape)
    if before is None:
        return now, set()
    known = fields_of(before, shape)
    changed = {path for path in now if path not in known or _differs(before, after, path, shape)}
    return changed, known - now


def _differs(before: Obj, after: Obj, path: Path, shape: Shape) -> bool:
    if not path[-1].startswith("f:"):
        # An item is in the set for being there; its fields have paths of their own.
        return False
    return bool(lookup(before, path, shape) != lookup(after, path, shape))


def track(resource: Resource, before: Obj | None, obj: Obj, options: WriteOptions, subresource: str = "") -> None:
    """Record in `obj` which fields `options.manager` has set, in place.

    A client may also have sent managedFields: its own list counts from then on, an empty one clears it.
    """
    meta = obj["metadata"]
    kept = before["metadata"].get("managedFields") if before else None
    if options.applied is not None:
        meta["managedFields"] = options.applied
        return
    given = meta.pop("managedFields", None)
    if not options.validation or not options.manager:
        if kept is not None:
            meta["managedFields"] = kept
        return
    cleared = given is not None and before is not None and given != kept
    if cleared and given in ([], [{}]):
        return
    entries = Entries(given if cleared else kept)
    served = options.served or Served(resource, resource.group, resource.version)
    shape = shape_of(resource, served.version)
    after = from_hub(served, obj)
    changed, gone = changed_fields(from_hub(served, before) if before else None, after, shape)
    if changed or gone:
        own = entries.owned(options.manager, "Update", subresource)
        entries.disown(changed | gone, options.manager, "Update", subresource)
        entries.set(options.manager, "Update", subresource, served.api_version, (own | changed) - gone)
    if value := entries.value():
        meta["managedFields"] = value
