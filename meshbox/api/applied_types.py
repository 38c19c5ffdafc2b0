# SPDX-License-Identifier: Apache-2.0
"""Whether what is applied has the types of its kind: server-side apply asks this before anything else."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from meshbox.api.builtin.types import OBJECT_META, fields_of
from meshbox.api.fields import step_of, words
from meshbox.api.go_words import printed, syntax
from meshbox.api.merge_keys import Shape

__all__ = ["built_in", "custom", "misfits"]

_Schema = Mapping[str, Any]
_OPEN = "x-kubernetes-preserve-unknown-fields"
_GO_TYPES: dict[type, str] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}
_TYPES: dict[str, _Schema] = {
    "string": {"type": "string"},
    "bytes": {"type": "string"},
    "bool": {"type": "boolean"},
    **{name: {"type": "number"} for name in ("int32", "int64", "float64")},
    **{name: {"type": "string", "format": name} for name in ("Quantity", "IntOrString", "Time", "MicroTime")},
}
"""Types of built-in fields as a schema has them; those with a format may be any scalar."""


_NO_SET: dict[type, str] = {
    dict: "associative list without keys has an element that's a map type",
    list: "not supported: associative list with lists as elements",
    type(None): "associative list without keys has an element that's an explicit null",
}


def custom(schema: _Schema) -> _Schema:
    """The schema of a custom resource, whose metadata is that of all objects."""
    return {**schema, "x-kubernetes-embedded-resource": True}


@functools.cache
def built_in(type_name: str) -> _Schema:
    """The fields of a built-in type as a schema, e.g. of "[]V1Container"."""
    written = type_name.rstrip("!")
    if written.startswith("[]"):
        return {"type": "array", "items": built_in(written[2:])}
    if written.startswith("{}"):
        return {"type": "object", "additionalProperties": built_in(written[2:])}
    if (fields := fields_of(written)) is not None:
        return {"type": "object", "fields": fields}
    return _TYPES.get(written.partition(":")[0], {_OPEN: True})


def misfits(schema: _Schema, shape: Shape, value: Any, *, kept: bool = False) -> Iterator[tuple[str, str]]:
    """Where a value does not have the types of a schema, and how that is said.

    Args:
        schema: As in `openAPIV3Schema`, or of `built_in`.
        shape: How the value is merged.
        value: Anything that JSON can be; a null fits all.
        kept: Whether a schema around this one keeps unknown fields: those below it then do as well.
    """
    if value is None:
        return
    kept = kept or schema.get(_OPEN) is True
    kind = schema.get("type") or ("object" if isinstance(value, dict) else "array" if isinstance(value, list) else "")
    if kind == "object":
        if isinstance(value, dict):
            yield from _of_fields(schema, shape, value, kept=kept)
        else:
            yield "", f"expected map, got &{{{printed(value)}}}"
    elif kind == "array":
        if isinstance(value, list):
            yield from _of_items(schema, shape, value, kept=kept)
        else:
            yield "", f"expected list, got &{{{printed(value)}}}"
    elif said := _scalar(kind, schema.get("format") or "", value):
        yield "", said


def _of_fields(schema: _Schema, shape: Shape, value: dict[str, Any], *, kept: bool) -> Iterator[tuple[str, str]]:
    properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
    names: Mapping[str, str] = schema.get("fields") or {}
    if schema.get("x-kubernetes-embedded-resource") is True:
        names = {"apiVersion": "string", "kind": "string", "metadata": OBJECT_META}
    free = more is True or (more is None and (kept or not (properties or names)))
    for name, one in value.items():
        below = built_in(names[name]) if name in names else properties.get(name, more)
        if isinstance(below, Mapping):
            for path, said in misfits(below, shape.field(name), one, kept=kept):
                yield f".{name}{path}", said
        elif not free:
            yield f".{name}", "field not declared in schema"


def _of_items(schema: _Schema, shape: Shape, value: list[Any], *, kept: bool) -> Iterator[tuple[str, str]]:
    below, seen = schema.get("items"), set()
    for index, one in enumerate(value):
        place = f"[{index}]"
        if shape.kind in ("list", "set"):
            if said := _not_told_apart(shape, one):
                yield "", f"element {index}: {said}"
                return
            place = words((step_of(one, shape),))
            if place in seen:
                yield "", f"duplicate entries for key {place}"
            seen.add(place)
        if isinstance(below, Mapping):
            for path, said in misfits(below, shape.item(), one, kept=kept):
                yield f"{place}{path}", said


def _not_told_apart(shape: Shape, one: Any) -> str:
    """Why an item has no key among others, "" where it has one."""
    if shape.kind == "set":
        return _NO_SET.get(type(one), "")
    if not isinstance(one, dict):
        what = "a null element" if one is None else "non-map elements"
        return f"associative list with keys may not have {what}"
    if any(key in one or shape.default(key) is not None for key in shape.keys):
        return ""
    keys = " ".join(map(json.dumps, shape.keys))
    no_default = "doesn't have default values for any key fields"
    return f"associative list with keys has an element that omits all key fields [{keys}] (and {no_default})"


def _scalar(kind: str, form: str, value: Any) -> str:
    given = type(value)
    if kind in ("integer", "number"):
        return "" if given in (int, float) else f"expected numeric (int or float), got {_GO_TYPES[given]}"
    if kind == "string" and form in ("", "byte"):
        return "" if given is str else f"expected string, got &value.valueUnstructured{{Value:{syntax(value)}}}"
    if kind == "boolean":
        return "" if given is bool else f"expected boolean, got &{{{printed(value)}}}"
    return f"expected any scalar, got &{{{printed(value)}}}" if kind and given in (dict, list) else ""
