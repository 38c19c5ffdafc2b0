# SPDX-License-Identifier: Apache-2.0
"""One node of a CustomResourceDefinition's schema, made ready once: pruning and defaults."""

from __future__ import annotations

import copy
from typing import Any

from meshbox.api.schema.formats import checked
from meshbox.contracts import Obj

__all__ = ["TYPE_AND_META", "Node"]

TYPE_AND_META = frozenset({"apiVersion", "kind", "metadata"})
"""What any object has, whatever its schema says of it."""

_CONDITIONS = (
    "enum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "uniqueItems",
)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class Node:
    """A schema, with its parts as attributes so that a walk over an object looks nothing up twice.

    Args:
        schema: JSON schema as in `openAPIV3Schema`.
        tracked: Whether objects of it are resources of their own (the root, and embedded resources).
    """

    __slots__ = (
        "additional",
        "all_of",
        "any_of",
        "conditions",
        "default",
        "embedded",
        "format",
        "has_defaults",
        "has_embedded",
        "has_lists",
        "has_rules",
        "items",
        "list_keys",
        "list_type",
        "map_type",
        "not_",
        "nullable",
        "one_of",
        "open",
        "preserve",
        "properties",
        "required",
        "rules",
        "schema",
        "type_name",
        "types",
    )

    def __init__(self, schema: Any) -> None:
        schema = _dict(schema)
        self.schema: Obj = schema
        self.type_name: str = schema.get("type") or ""
        int_or_string = schema.get("x-kubernetes-int-or-string") is True
        self.types: tuple[str, ...] = (
            ("integer", "string") if int_or_string else (self.type_name,) if self.type_name else ()
        )
        self.nullable = schema.get("nullable") is True
        wanted = schema.get("format")
        self.format: str = wanted if checked(wanted) else ""
        self.preserve = schema.get("x-kubernetes-preserve-unknown-fields") is True
        self.embedded = schema.get("x-kubernetes-embedded-resource") is True
        self.properties = {name: Node(one) for name, one in _dict(schema.get("properties")).items()}
        self.required: tuple[str, ...] = tuple(schema.get("required") or ())
        more = schema.get("additionalProperties")
        self.additional = Node(more) if isinstance(more, dict) else None
        self.open = more is True
        below = schema.get("items")
        self.items = Node(below) if isinstance(below, dict) else None
        self.any_of, self.all_of, self.one_of = (
            tuple(Node(one) for one in schema.get(name) or ()) for name in ("anyOf", "allOf", "oneOf")
        )
        self.not_ = Node(schema["not"]) if isinstance(schema.get("not"), dict) else None
        self.conditions = {name: schema[name] for name in _CONDITIONS if schema.get(name) is not None}
        self.default = schema.get("default")
        self.list_type: str = schema.get("x-kubernetes-list-type") or "atomic"
        self.list_keys: tuple[str, ...] = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str = schema.get("x-kubernetes-map-type") or "granular"
        self.rules: tuple[Obj, ...] = tuple(_dict(one) for one in schema.get("x-kubernetes-validations") or ())
        children = self.children()
        self.has_defaults: bool = self.default is not None or any(one.has_defaults for one in children)
        self.has_embedded: bool = self.embedded or any(one.has_embedded for one in children)
        self.has_lists: bool = self.list_type in ("map", "set") or any(one.has_lists for one in children)
        self.has_rules: bool = bool(self.rules) or any(one.has_rules for one in (*children, *self.all_of))

    def children(self) -> list[Node]:
        """The nodes of what an object of this schema holds."""
        below = [one for one in (self.items, self.additional) if one is not None]
        return [*self.properties.values(), *below]

    def prune(self, value: Any, path: str, unknown: list[str]) -> None:
        """Drop, in place, what the schema does not know; its paths are added to `unknown`."""
        if isinstance(value, dict):
            strange = []
            for name, one in value.items():
                if self.embedded and name in TYPE_AND_META:
                    continue
                child = self.properties.get(name) or self.additional
                if child is not None:
                    if isinstance(one, dict | list):
                        child.prune(one, f"{path}.{name}" if path else name, unknown)
                elif not (self.preserve or self.open):
                    strange.append(name)
            for name in strange:
                del value[name]
                unknown.append(f"{path}.{name}" if path else name)
        elif isinstance(value, list) and self.items is not None:
            for index, one in enumerate(value):
                if isinstance(one, dict | list):
                    self.items.prune(one, f"{path}[{index}]", unknown)

    def drop_nulls(self, value: Any) -> None:
        """Drop, in place, what is null in a map where the schema allows no null, and has no default to put there."""
        if isinstance(value, dict):
            for name, one in list(value.items()):
                child = self.properties.get(name) or self.additional
                if child is None:
                    continue
                if one is None and not child.nullable and child.default is None:
                    del value[name]
                elif isinstance(one, dict | list):
                    child.drop_nulls(one)
        elif isinstance(value, list) and self.items is not None:
            for one in value:
                self.items.drop_nulls(one)

    def fill(self, value: Any) -> None:
        """Write defaults into `value`, in place; they also replace a null that the schema does not allow."""
        if not self.has_defaults:
            return
        if isinstance(value, dict):
            for name, child in self.properties.items():
                if child.default is not None and (name not in value or (value[name] is None and not child.nullable)):
                    value[name] = copy.deepcopy(child.default)
                if child.has_defaults and name in value:
                    child.fill(value[name])
            if self.additional is not None and self.additional.has_defaults:
                for name in value.keys() - self.properties.keys():
                    if value[name] is None and self.additional.default is not None and not self.additional.nullable:
                        value[name] = copy.deepcopy(self.additional.default)
                    self.additional.fill(value[name])
        elif isinstance(value, list) and self.items is not None:
            for one in value:
                self.items.fill(one)
