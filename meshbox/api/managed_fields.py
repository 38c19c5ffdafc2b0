# SPDX-License-Identifier: Apache-2.0
"""`metadata.managedFields`: who set which field, the ground of server-side apply.

Kept for whoever says who writes: all clients, and the controllers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshbox.api import metadata
from meshbox.api.conversion import from_hub
from meshbox.api.fields import Path, collect, decode, encode, own_fields, step_of, tree_of
from meshbox.api.merge_keys import BuiltIn, Shape, shape_of
from meshbox.api.options import WriteOptions
from meshbox.api.resources import Resource, Served
from meshbox.contracts import Obj

__all__ = ["Entries", "changed_fields", "given_fields", "same", "track"]


class _Entry:
    """One manager's fields; taken apart only where somebody reckons with them."""

    def __init__(self, head: Obj, tree: Any, paths: set[Path] | None = None) -> None:
        self.head = head
        self._tree = tree
        self._paths = paths

    @property
    def paths(self) -> set[Path]:
        if self._paths is None:
            self._paths = decode(self._tree)
        return self._paths

    def lose(self, paths: set[Path]) -> bool:
        if self._paths is None and all(_below(self._tree, path) is None for path in paths):
            return False
        self._paths = self.paths - paths
        self._tree = None
        return True

    def has(self, path: Path) -> bool:
        if self._paths is not None:
            return path in self._paths
        found = _below(self._tree, path)
        return found is not None and (not found or "." in found)

    @property
    def tree(self) -> Any:
        return encode(self.paths) if self._tree is None else self._tree


def _below(tree: Any, path: Path) -> Any:
    """What a tree of fields has at `path`; None where it has nothing there."""
    for step in path:
        if not isinstance(tree, dict) or step not in tree:
            return None
        tree = tree[step]
    return tree


class Entries:
    """The entries of one object, as sets of paths that can be reckoned with.

    Args:
        given: `metadata.managedFields`, as kept or as a client sent it.
    """

    def __init__(self, given: Any) -> None:
        self._entries: list[_Entry] = []
        for one in given if isinstance(given, list) else []:
            if isinstance(one, dict) and one.get("manager"):
                head = {key: value for key, value in one.items() if key != "fieldsV1"}
                self._entries.append(_Entry(head, one.get("fieldsV1") or {}))

    def owned(self, manager: str, operation: str, subresource: str = "") -> set[Path]:
        """What `manager` owns by `operation`."""
        for one in self._entries:
            if _is(one.head, manager, operation, subresource):
                return one.paths
        return set()

    def others(self, manager: str, operation: str, subresource: str = "") -> list[tuple[Obj, set[Path]]]:
        """The entries of everybody else."""
        return [(one.head, one.paths) for one in self._entries if not _is(one.head, manager, operation, subresource)]

    def disown(self, paths: set[Path], manager: str, operation: str, subresource: str = "") -> bool:
        """Take `paths` from everybody else; whether anybody had to be looked into for that."""
        others = [one for one in self._entries if not _is(one.head, manager, operation, subresource)]
        lost = [one.lose(paths) for one in others]
        return any(lost)

    def stays(self, manager: str, subresource: str, api_version: str, changed: set[Path], gone: set[Path]) -> bool:
        """Whether `manager` owns by updates, in this version, all that is `changed` and nothing of what is `gone`."""
        for one in self._entries:
            if _is(one.head, manager, "Update", subresource):
                same = one.head.get("apiVersion") == api_version
                return same and all(map(one.has, changed)) and not any(map(one.has, gone))
        return False

    def set(
        self, manager: str, operation: str, subresource: str, api_version: str, paths: set[Path], *, timed: bool = True
    ) -> None:
        """Make `paths` what `manager` owns by `operation`; `timed` says whether that happens now."""
        now = {"time": metadata.now()} if timed else {}
        for index, one in enumerate(self._entries):
            if _is(one.head, manager, operation, subresource):
                if timed or one.paths != paths or one.head.get("apiVersion") != api_version:
                    self._entries[index] = _Entry({**one.head, "apiVersion": api_version, **now}, None, paths)
                return
        head = {"manager": manager, "operation": operation, "apiVersion": api_version, **now}
        if subresource:
            head["subresource"] = subresource
        self._entries.append(_Entry(head, None, paths))

    def value(self) -> list[Obj]:
        """As `metadata.managedFields` has it: who applied first, then by time."""
        self._entries.sort(key=_rank)
        return [{**one.head, "fieldsType": "FieldsV1", "fieldsV1": tree} for one in self._entries if (tree := one.tree)]


def _rank(entry: _Entry) -> tuple[str, ...]:
    fields = ("operation", "time", "manager", "apiVersion", "subresource")
    return tuple(str(entry.head.get(field) or "") for field in fields)


def _is(head: Obj, manager: str, operation: str, subresource: str) -> bool:
    return (head.get("manager"), head.get("operation"), head.get("subresource", "")) == (
        manager,
        operation,
        subresource,
    )


def changed_fields(before: Obj, after: Obj, shape: Shape) -> tuple[set[Path], set[Path]]:
    """Which fields a write set to another value, and which it took away."""
    changed: set[Path] = set()
    gone: set[Path] = set()
    _compare(own_fields(before), own_fields(after), shape, (), changed, gone)
    always = _unowned(shape)
    return {path for path in changed if not always.issuperset(path)}, gone - changed


def created_fields(after: Obj, shape: Shape) -> Obj:
    """The fields of a new object, as FieldsV1; its maps of metadata are there whoever writes."""
    tree: Obj = {}
    unowned = _unowned(shape)
    for name, value in sorted(own_fields(after).items()):
        step = f"f:{name}"
        fields = tree_of(value, shape.field(name), unowned if step in unowned else frozenset())
        if name == "metadata":
            fields.pop(".", None)
        if fields or not (name == "metadata" or step in unowned):
            tree[step] = fields
    return tree


_ACCOUNT = frozenset({"serviceAccount", "serviceAccountName"})
_ADDED: dict[str, tuple[tuple[frozenset[str], Iterable[str]], ...]] = {
    "services": tuple((frozenset({name}), (name,)) for name in ("ipFamilies", "ipFamilyPolicy")),
    "pods": ((_ACCOUNT, _ACCOUNT), (frozenset({"tolerations"}), ("tolerations",))),
    "namespaces": ((frozenset({"finalizers"}), ("finalizers",)),),
    "statefulsets.apps": ((frozenset({"serviceName"}), ("serviceName",)),),
}
"""Fields of specs that the server adds where a client gives none of the first names: nobody sets them."""


def given_fields(resource: Resource, obj: Obj, options: WriteOptions, spec: Iterable[str] = ()) -> Obj:
    """As `created_fields`, of the version in which `obj` was given, without what the server adds after its defaults.

    Args:
        resource: What `obj` is.
        obj: A new object with its defaults.
        options: Of the write.
        spec: Names of the fields of its spec that the client has given.
    """
    served = options.served or Served(resource, resource.group, resource.version)
    after = from_hub(served, obj)
    if "status" in resource.subresources:
        # Nobody writes it so.
        after = {name: value for name, value in after.items() if name != "status"}
    tree = created_fields(after, shape_of(resource, served.version))
    fields = tree.get("f:spec") or {}
    for given, names in _ADDED.get(resource.name, ()):
        if given.isdisjoint(spec):
            for name in names:
                fields.pop(f"f:{name}", None)
    if not fields and resource.crd is None:
        tree.pop("f:spec", None)
    if resource.name == "pods":
        _lose(fields, "f:volumes", 'k:{"name":"kube-api-access-')
        for kind in ("f:containers", "f:initContainers"):
            for one in (fields.get(kind) or {}).values():
                _lose(one, "f:volumeMounts", 'k:{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}')
    return tree


def _lose(fields: Obj, name: str, begin: str) -> None:
    """Take the items whose keys begin so from a list of a tree; the list as well where they were all it had."""
    items = fields.get(name) or {}
    for step in [step for step in items if step.startswith(begin)]:
        del items[step]
        if items.keys() <= {"."}:
            fields.pop(name)


def _unowned(shape: Shape) -> frozenset[str]:
    return _UNOWNED.get(shape.of, _ALWAYS) if isinstance(shape, BuiltIn) else frozenset()


def _compare(before: Any, after: Any, shape: Shape, path: Path, changed: set[Path], gone: set[Path]) -> None:
    """What differs below `path`; parts that are equal are not looked into."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict) and shape.kind != "atomic":
        was = {f"f:{name}": (value, shape.field(name)) for name, value in before.items() if value != after.get(name)}
        now = {f"f:{name}": (value, shape.field(name)) for name, value in after.items() if value != before.get(name)}
    elif isinstance(before, list) and isinstance(after, list) and shape.kind in ("list", "set"):
        item = shape.item()
        was = {step_of(value, shape): (value, item) for value in before}
        now = {step_of(value, shape): (value, item) for value in after}
    else:
        changed.add(path)
        collect(after, shape, path, changed)
        collect(before, shape, path, gone)
        return
    for step, (value, below) in now.items():
        if step in was:
            _compare(was[step][0], value, below, (*path, step), changed, gone)
        else:
            collect(value, below, (*path, step), changed)
    for step, (value, below) in was.items():
        if step not in now:
            collect(value, below, (*path, step), gone)


_ALWAYS = frozenset(
    {
        "f:containers", "f:jobTemplate", "f:loadBalancer", "f:metadata", "f:spec", "f:status", "f:strategy",
        "f:template", "f:updateStrategy",
    }
)  # fmt: skip
"""Maps and lists that are there in each built-in object, be they empty: nobody sets them."""
_UNOWNED = {
    "PersistentVolumeClaim": _ALWAYS | {"f:resources"},
    "ReplicationController": _ALWAYS - {"f:template"},
}
"""Kinds in which others are there."""


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
    if not options.manager:
        if kept is not None:
            meta["managedFields"] = kept
        return
    cleared = bool(options.validation) and given is not None and before is not None and given != kept
    if cleared and given in ([], [{}]):
        return
    served = options.served or Served(resource, resource.group, resource.version)
    shape = shape_of(resource, served.version)
    after = from_hub(served, obj)
    if before is None:
        if tree := options.owned or given_fields(resource, obj, options):
            head = {"manager": options.manager, "operation": "Update", "apiVersion": served.api_version}
            meta["managedFields"] = [{**head, "time": metadata.now(), "fieldsType": "FieldsV1", "fieldsV1": tree}]
        return
    changed, gone = changed_fields(from_hub(served, before), after, shape)
    if not subresource and "status" in resource.subresources:
        # Whoever writes the object cannot write its status.
        changed = {path for path in changed if path[0] != "f:status"}
    if not (changed or gone or cleared):
        if kept is not None:
            meta["managedFields"] = kept
        return
    entries = Entries(given if cleared else kept)
    if changed or gone:
        lost = entries.disown(changed | gone, options.manager, "Update", subresource)
        if not (lost or cleared) and entries.stays(options.manager, subresource, served.api_version, changed, gone):
            # Most writes are of a status whose fields its writer has already.
            meta["managedFields"] = kept
            return
        own = entries.owned(options.manager, "Update", subresource)
        owned = (own | changed) - gone
        timed = subresource != "scale" and owned != own
        entries.set(options.manager, "Update", subresource, served.api_version, owned, timed=timed)
    if value := entries.value():
        meta["managedFields"] = value


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
