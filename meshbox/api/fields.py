# SPDX-License-Identifier: Apache-2.0
"""Sets of fields, as `metadata.managedFields` writes them: FieldsV1.

A path is a tuple of steps: `f:name` into a map, `k:{"name":"x"}` to an item of a list with keys, `v:"x"` to a value
of a set. An item of a list is in a set by its own path; everything else by the paths of its leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from meshbox.api.merge_keys import Shape
from meshbox.contracts import Obj

__all__ = [
    "MISSING",
    "Path",
    "collect",
    "decode",
    "encode",
    "fields_of",
    "lookup",
    "own_fields",
    "remove",
    "shape_at",
    "step_of",
    "tree_of",
    "words",
]

Path = tuple[str, ...]

MISSING: Any = object()
"""What `lookup` returns where there is nothing (None is a value)."""

_SERVER_OWNED = frozenset(
    {
        "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation",
        "managedFields", "name", "namespace", "resourceVersion", "selfLink", "uid",
    }
)  # fmt: skip


_written = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def step_of(item: Any, shape: Shape) -> str:
    """The step to `item` of a list (or set) of `shape`."""
    if shape.kind == "set" or not isinstance(item, dict):
        return "v:" + _written(item)
    keys = {key: item.get(key, shape.default(key)) for key in shape.keys}
    keys = {key: value for key, value in keys.items() if value is not None}
    return "k:" + _written(keys)


def fields_of(obj: Obj, shape: Shape) -> set[Path]:
    """The fields that an object sets for whoever applies it, but for those that the server owns."""
    found: set[Path] = set()
    for name, value in own_fields(obj).items():
        if name != "metadata" or value:
            collect(value, shape.field(name), (f"f:{name}",), found, inner=False)
    return found


def own_fields(obj: Obj) -> Obj:
    """An object without what the server owns of it."""
    own = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}
    if isinstance(obj.get("metadata"), dict):
        own["metadata"] = {name: value for name, value in obj["metadata"].items() if name not in _SERVER_OWNED}
    return own


def collect(value: Any, shape: Shape, path: Path, found: set[Path], *, inner: bool = True) -> None:
    """Add to `found` the paths of `value`, which is at `path`.

    Args:
        value: The value.
        shape: How it is merged.
        path: Where it is.
        found: What is added to.
        inner: Whether the maps and lists that hold others count as well: they do for who writes, not for who applies.
    """
    if isinstance(value, dict) and shape.kind != "atomic" and value:
        if inner:
            found.add(path)
        for name, inside in value.items():
            collect(inside, shape.field(name), (*path, f"f:{name}"), found, inner=inner)
    elif isinstance(value, list) and shape.kind in ("list", "set") and value:
        if inner:
            found.add(path)
        item = shape.item()
        for inside in value:
            place = (*path, step_of(inside, shape))
            found.add(place)
            if isinstance(inside, dict):
                collect(inside, item, place, found, inner=inner)
    else:
        found.add(path)


def tree_of(value: Any, shape: Shape, unowned: frozenset[str] = frozenset()) -> Obj:
    """All of `value` as FieldsV1: at once what `encode` makes of what `collect` finds.

    Args:
        value: The value.
        shape: How it is merged.
        unowned: Steps of maps and lists that nobody sets, from here down to the first other step; where there are any,
            `value` itself is nobody's either.
    """
    if isinstance(value, dict) and shape.kind != "atomic":
        parts = [(f"f:{name}", inside, shape.field(name)) for name, inside in value.items()]
    elif isinstance(value, list) and shape.kind in ("list", "set"):
        item = shape.item()
        parts = [(step_of(inside, shape), inside, item) for inside in value]
    else:
        return {}
    tree: Obj = {} if unowned or not parts else {".": {}}
    for step, inside, below in sorted(parts, key=itemgetter(0)):
        within = tree_of(inside, below, unowned if step in unowned else frozenset())
        if within or step not in unowned:
            tree[step] = _joined(tree[step], within) if step in tree else within
    return tree


def _joined(tree: Obj, other: Obj) -> Obj:
    """Of two items with the same keys, which a server lets pass with a warning."""
    return {step: _joined(tree.get(step, {}), other.get(step, {})) for step in sorted({*tree, *other})}


def encode(paths: Iterable[Path]) -> Obj:
    """A set of paths as FieldsV1."""
    tree: Obj = {}
    # What holds others comes before them, and is still empty when the first of them comes.
    for path in sorted(set(paths)):
        node = tree
        for step in path:
            below = node.get(step)
            if below is None:
                below = node[step] = {}
            elif not below:
                below["."] = {}
            node = below
    return tree


def decode(tree: Any) -> set[Path]:
    """The paths of a FieldsV1; what is not one has none."""
    found: set[Path] = set()

    def walk(node: Any, path: Path) -> None:
        if not isinstance(node, dict):
            return
        if path and (not node or "." in node):
            found.add(path)
        for step, inner in node.items():
            if step != ".":
                walk(inner, (*path, step))

    walk(tree, ())
    return found


def _position(items: list[Any], step: str, shape: Shape) -> int:
    return next((index for index, item in enumerate(items) if step_of(item, shape) == step), -1)


def lookup(obj: Any, path: Path, shape: Shape) -> Any:
    """The value at `path`, or MISSING."""
    for step in path:
        if step.startswith("f:"):
            name = step[2:]
            if not isinstance(obj, dict) or name not in obj:
                return MISSING
            obj, shape = obj[name], shape.field(name)
        else:
            index = _position(obj, step, shape) if isinstance(obj, list) else -1
            if index < 0:
                return MISSING
            obj, shape = obj[index], shape.item()
    return obj


def shape_at(path: Path, shape: Shape) -> Shape:
    """The shape of what is at `path`."""
    for step in path:
        shape = shape.field(step[2:]) if step.startswith("f:") else shape.item()
    return shape


def remove(obj: Any, path: Path, shape: Shape) -> None:
    """Take the value at `path` out of `obj`, in place, and what it leaves empty around it."""
    step, rest = path[0], path[1:]
    if step.startswith("f:"):
        name = step[2:]
        if not isinstance(obj, dict) or name not in obj:
            return
        if rest:
            remove(obj[name], rest, shape.field(name))
        if not rest or obj[name] in ({}, []):
            del obj[name]
    elif isinstance(obj, list) and (index := _position(obj, step, shape)) >= 0:
        if rest:
            remove(obj[index], rest, shape.item())
        else:
            del obj[index]


def words(path: Path) -> str:
    """A path as messages name it: `.spec.containers[name="x"].image`."""
    said = ""
    for step in path:
        kind, text = step[:2], step[2:]
        if kind == "f:":
            said += f".{text}"
        elif kind == "k:":
            keys = json.loads(text)
            said += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]"
        else:
            said += f"[={text}]"
    return said
