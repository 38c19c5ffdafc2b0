# SPDX-License-Identifier: Apache-2.0
"""What the analyzers take for granted of an object: which fields are texts, lists and maps (`shapes.yaml`).

A cluster has seen to that; a file has not. What has another shape is taken out and told, so that no analyzer asks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster import Obj

__all__ = ["key_of", "mended"]

_DEEP = 60
"""Levels of nesting that are read; a file may say more, or mean itself."""

Shape = Any
"""A type's name, [the shape of each item], {field: shape}, or {"*": shape} for a map."""

_TYPES: dict[str, tuple[type, str]] = {
    "text": (str, "a text"),
    "number": (int, "a whole number"),
    "flag": (bool, "true or false"),
}
_METADATA = {"name": "text", "namespace": "text", "labels": {"*": "text"}, "annotations": {"*": "text"}}


@functools.cache
def _kinds() -> dict[str, dict[str, Shape]]:
    found: dict[str, dict[str, Shape]] = yaml.safe_load(Path(__file__).with_name("shapes.yaml").read_text("utf-8"))[
        "kinds"
    ]
    return found


def key_of(item: Obj) -> str:
    """What an object is to the analyzers: its kind, "KubernetesGateway" for the Gateway API's; "" if none reads it."""
    kind, version = item.get("kind"), item.get("apiVersion")
    if not isinstance(kind, str):
        return ""
    group = version.rpartition("/")[0] if isinstance(version, str) else ""
    kind = "KubernetesGateway" if (kind, group) == ("Gateway", "gateway.networking.k8s.io") else kind
    known = _kinds().get(kind)
    # Others have kinds of these names as well, such as Knative's Service. Without a group it is what it is called.
    return kind if known and ("apiVersion" not in item or group == known["group"]) else ""


def mended(item: Obj, key: str, problems: list[str]) -> Obj:
    """An object as its analyzers can read it.

    Args:
        item: It.
        key: As `key_of` has it.
        problems: Where to put what was taken out, in words.
    """
    known = {name: shape for name, shape in _kinds()[key].items() if name != "group"}
    shape = {"metadata": _METADATA, "spec": {}, **known}
    return {"metadata": {}, "spec": {}, **dict(_fields(item, shape, "", problems, 0))}


def _mend(value: Any, shape: Shape, path: str, problems: list[str], depth: int) -> Any:
    """A value of this shape, None for what has another one."""
    if depth > _DEEP:
        problems.append(f"{path[:80]} …: nested too deep")
        return None
    if value is None or shape == "any":
        return _plain(value, depth)
    if isinstance(shape, dict) or shape == "map":
        if isinstance(value, dict):
            return dict(_fields(value, {} if shape == "map" else shape, path, problems, depth))
        return _wrong(path, "a map", value, problems)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _wrong(path, "a list", value, problems)
        items = [_mend(one, shape[0], f"{path}[{n}]", problems, depth + 1) for n, one in enumerate(value)]
        # A rule that says nothing is one all the same, and counted; no text is no text.
        empty = isinstance(shape[0], dict)
        return [{} if one is None else one for one in items if empty or one is not None]
    kind, words = _TYPES[shape]
    good = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    return value if good else _wrong(path, words, value, problems)


def _fields(
    value: Obj, shape: dict[str, Shape], path: str, problems: list[str], depth: int
) -> Iterator[tuple[str, Any]]:
    for name, field in value.items():
        inner = shape.get(str(name), shape.get("*", "any"))
        here = f"{path}.{name}" if path else str(name)
        if (found := _mend(field, inner, here, problems, depth + 1)) is not None:
            yield str(name), found


def _plain(value: Any, depth: int) -> Any:
    """What no analyzer reads, as JSON could have it: a file's dates become texts."""
    if depth > _DEEP:
        return None
    if isinstance(value, dict):
        return {str(name): _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, depth + 1) for one in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _wrong(path: str, wanted: str, value: Any, problems: list[str]) -> None:
    problems.append(f"{path}: {wanted} is wanted, not {repr(value)[:60]}")
