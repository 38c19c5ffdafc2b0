# SPDX-License-Identifier: Apache-2.0
"""Resources within custom resources: they have the type and the metadata of any object, whatever their schema says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.ground.names import dns1035_label
from meshbox.api.builtin.decoding import decode, prune
from meshbox.api.builtin.types import OBJECT_META
from meshbox.api.problems import Cause, invalid, required
from meshbox.api.schema.node import Node
from meshbox.contracts import Obj

__all__ = ["coerced", "embedded_problems"]

_KINDS_NAME = "may have mixed case, but should otherwise match: "


def _within(node: Node, value: Any, path: str) -> Iterator[tuple[Obj, str]]:
    """The embedded resources in a value, and where they are."""
    if not node.has_embedded:
        return
    if isinstance(value, dict):
        if node.embedded:
            yield value, path
        for name, one in value.items():
            if name in node.properties:
                yield from _within(node.properties[name], one, f"{path}.{name}" if path else name)
            elif node.additional is not None:
                yield from _within(node.additional, one, f"{path}[{name}]")
    elif isinstance(value, list) and node.items is not None:
        for index, one in enumerate(value):
            yield from _within(node.items, one, f"{path}[{index}]")


def coerced(node: Node, value: Any, unknown: list[str]) -> str:
    """Drop, in place, fields that no metadata has, and add them to `unknown`; says why a resource cannot be decoded."""
    for obj, path in _within(node, value, ""):
        for field in ("apiVersion", "kind"):
            if field in obj and not isinstance(obj[field], str):
                return _said(invalid(f"{path}.{field}", obj[field], "must be a string"))
        if (meta := obj.get("metadata")) is None:
            continue
        found = decode(meta, OBJECT_META)
        if found.decode:
            return _said(invalid(f"{path}.metadata", meta, found.decode))
        unknown += [f"{path}.metadata.{text.split(chr(34))[1]}" for text in found.unknown]
        prune(meta, OBJECT_META)
    return ""


def _said(cause: Cause) -> str:
    return f"{cause['field']}: {cause['message']}"


def embedded_problems(node: Node, value: Any, causes: list[Cause]) -> None:
    """Add what is wrong with the types of embedded resources, which must say theirs."""
    for obj, path in _within(node, value, ""):
        causes += [required(f"{path}.{field}") for field in ("apiVersion", "kind") if field not in obj]
        version, kind = obj.get("apiVersion"), obj.get("kind")
        for field, text in (("apiVersion", version), ("kind", kind)):
            if text == "":
                causes.append(invalid(f"{path}.{field}", text, "must not be empty"))
        if isinstance(version, str) and version.count("/") > 1:
            causes.append(invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
        if isinstance(kind, str) and kind and (words := dns1035_label(kind.lower())):
            causes.append(invalid(f"{path}.kind", kind, _KINDS_NAME + ",".join(words)))
