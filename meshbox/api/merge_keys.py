# SPDX-License-Identifier: Apache-2.0
"""How lists and maps are merged: which lists have keys, which parts count as one value (data/merging.txt)."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

from meshbox.api.resources import Resource
from meshbox.api.table_files import table
from meshbox.contracts import Obj

__all__ = ["BuiltIn", "Custom", "Shape", "merge_keys", "replaces", "shape_of"]

_CONTAINERS = frozenset({"containers", "initContainers", "ephemeralContainers"})


def _keyed(heading: str) -> dict[str, tuple[str, ...]]:
    return {name: tuple(keys) for name, *keys in map(str.split, table("merging.txt")[heading])}


def _names(heading: str) -> frozenset[str]:
    return frozenset(" ".join(table("merging.txt")[heading]).split())


_MERGE_KEYS = _keyed("lists")
"""The keys by which items of a list are told apart, by the list's name (`ports` depends on where it is)."""
_APPLIED_KEYS = _keyed("applied")
_APPLIED_WHOLE = frozenset({("Job", "conditions")})
"""Lists that server-side apply takes as one value."""
_SETS, _ATOMIC, _ATOMIC_ITEMS = map(_names, ("sets", "atomic", "items"))


def replaces(name: str, kind: str) -> bool:
    """Whether a strategic merge patch puts its own in the place of field `name` of an object of `kind`."""
    return (kind, name) == ("PodDisruptionBudget", "selector")


def merge_keys(name: str, parent: str, kind: str) -> tuple[str, ...]:
    """The keys of list `name` below `parent` in an object of `kind`; none where the list is replaced as a whole."""
    if name == "ports":
        if parent in _CONTAINERS:
            return ("containerPort", "protocol")
        return ("port", "protocol") if kind == "Service" and parent == "spec" else ()
    if (name == "addresses" and kind != "Node") or (name == "imagePullSecrets" and kind == "ServiceAccount"):
        return ()
    return _MERGE_KEYS.get(name, ())


Kind = Literal["map", "list", "set", "atomic"]


class Shape(ABC):
    """How one part of an object is merged: `kind`, and for a list with keys those `keys`."""

    kind: Kind = "map"
    keys: tuple[str, ...] = ()

    @abstractmethod
    def field(self, name: str) -> Shape:
        """The shape of a field."""

    @abstractmethod
    def item(self) -> Shape:
        """The shape of a list's items."""

    def default(self, key: str) -> Any:
        """What a key field means where an item leaves it out."""
        return "TCP" if key == "protocol" else None


class BuiltIn(Shape):
    """Shapes of a built-in kind, told by the names of fields."""

    def default(self, key: str) -> Any:
        """Nearly all keys are fields that are always sent, empty or not."""
        if key in ("port", "containerPort"):
            return 0
        return super().default(key) or (None if self._name == "secrets" else "")

    def __init__(self, kind: str, name: str = "", parent: str = "", *, item: bool = False) -> None:
        self.of = kind
        self._name = name
        self._parent = parent
        if item:
            if name in _ATOMIC_ITEMS:
                self.kind = "atomic"
            return
        whole = (kind, name) in _APPLIED_WHOLE
        self.keys = () if whole else merge_keys(name, parent, kind) or _APPLIED_KEYS.get(name, ())
        if self.keys:
            self.kind = "list"
        elif name in _SETS and (parent, name) != ("spec", "finalizers"):
            self.kind = "set"
        elif name in _ATOMIC or f"{parent}.{name}" in _ATOMIC:
            self.kind = "atomic"

    def field(self, name: str) -> Shape:
        """The shape of a field."""
        # Labels and data may have any names: nothing below them is a list.
        return _built_in(self.of, name, self._name)

    def item(self) -> Shape:
        """The shape of a list's items."""
        return BuiltIn(self.of, self._name, self._parent, item=True)


@functools.lru_cache(maxsize=8192)
def _built_in(kind: str, name: str, parent: str) -> BuiltIn:
    return BuiltIn(kind, name, parent)


class Custom(Shape):
    """Shapes of a custom resource, told by its schema."""

    def __init__(self, schema: Any, *, item: bool = False) -> None:
        self._schema: Mapping[str, Any] = schema if isinstance(schema, dict) else {}
        if item:
            return
        kind = self._schema.get("x-kubernetes-list-type")
        if kind == "map":
            self.kind, self.keys = "list", tuple(self._schema.get("x-kubernetes-list-map-keys") or ())
        elif kind == "set":
            self.kind = "set"
        elif self._schema.get("x-kubernetes-map-type") == "atomic":
            self.kind = "atomic"

    def field(self, name: str) -> Shape:
        """The shape of a field."""
        properties = self._schema.get("properties") or {}
        return Custom(properties.get(name, self._schema.get("additionalProperties")))

    def item(self) -> Shape:
        """The shape of a list's items."""
        return Custom(self._schema.get("items"))

    def default(self, key: str) -> Any:
        """What a key field means where an item leaves it out."""
        properties = (self._schema.get("items") or {}).get("properties") or {}
        return (properties.get(key) or {}).get("default")


class _CustomObject(Shape):
    """The whole of a custom resource: its schema, and metadata as everywhere."""

    def __init__(self, schema: Any) -> None:
        self._body = Custom(schema)

    def field(self, name: str) -> Shape:
        """The shape of a field."""
        return BuiltIn("", name) if name == "metadata" else self._body.field(name)

    def item(self) -> Shape:
        """The shape of a list's items, though an object is none."""
        return self._body.item()


def shape_of(resource: Resource, version: str) -> Shape:
    """How objects of `resource` in `version` are merged."""
    if resource.crd is None:
        return BuiltIn(resource.kind)
    definition: Obj = next((one for one in resource.crd["spec"]["versions"] if one["name"] == version), {})
    return _CustomObject((definition.get("schema") or {}).get("openAPIV3Schema"))
