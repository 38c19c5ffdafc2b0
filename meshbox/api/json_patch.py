# SPDX-License-Identifier: Apache-2.0
"""JSON patch (RFC 6902), as the API server plays it: a negative index counts from the end, a failed step fails all."""

from __future__ import annotations

from typing import Any

from labkit.ground.reading.json_text import json_kind
from meshbox.api.refusals import bad_request
from meshbox.contracts import ApiError, Obj
from meshbox.values import clone

__all__ = ["json_patch"]

_MOST = 10_000


def json_patch(target: Obj, operations: Any) -> Any:
    """`target` (changed) after a JSON patch.

    Raises:
        ApiError: 400 where `operations` is no list of operations, 413 where it is too long, 422 where one of them
            cannot be carried out. What the object holds (a Secret, perhaps) is not told.
    """
    operations = [] if operations is None else operations
    _decode(operations)
    if len(operations) > _MOST:
        words = f"The allowed maximum operations in a JSON patch is {_MOST}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", words)
    try:
        for one in operations:
            target = _step(target, one)
    except (AttributeError, LookupError, ValueError):
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request") from None
    return target


def _decode(operations: Any) -> None:
    def refuse(value: Any, where: str) -> None:
        raise bad_request(f"error decoding patch: json: cannot unmarshal {json_kind(value)} into Go {where}")

    if not isinstance(operations, list):
        refuse(operations, "value of type []handlers.jsonPatchOp")
    for one in operations:
        if one is None:
            # Go's decoder makes an operation of nothing of it, which then cannot be carried out.
            continue
        if not isinstance(one, dict):
            refuse(one, "value of type handlers.jsonPatchOp")
        for field in ("op", "path", "from"):
            if not isinstance(one.get(field, ""), str):
                refuse(one[field], f"struct field jsonPatchOp.{field} of type string")


def _step(target: Any, one: Obj) -> Any:
    kind, path = one.get("op"), one.get("path", "")
    if kind == "test" and not path:
        if target != one.get("value"):
            raise ValueError(kind)
        return target
    place, key = _place(target, path)
    if kind == "add":
        _add(place, key, one.get("value"))
    elif kind == "remove":
        del place[_known(place, key)]
    elif kind == "replace":
        if isinstance(place, dict):
            place[key] = one.get("value")
        else:
            place[_known(place, key)] = one.get("value")
    elif kind in ("move", "copy"):
        source, name = _place(target, one.get("from", ""))
        value = source.get(name) if isinstance(source, dict) else source[_known(source, name)]
        if kind == "move":
            del source[_known(source, name)]
            place, key = _place(target, path)
        _add(place, key, clone(value))
    elif kind == "test":
        if _value(place, key) != one.get("value"):
            raise ValueError(kind)
    else:
        raise ValueError(kind)
    return target


def _place(target: Any, path: str) -> tuple[Any, str]:
    """What holds the value at `path`, and the value's name there."""
    if not path.startswith("/"):
        raise LookupError(path)
    *outer, key = (part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/"))
    for part in outer:
        target = target[_known(target, part)]
    return target, key


def _known(place: Any, key: str) -> Any:
    """Name or index of what is there."""
    if isinstance(place, dict) and key in place:
        return key
    if isinstance(place, list) and -len(place) <= (index := int(key)) < len(place):
        return index
    raise LookupError(key)


def _value(place: Any, key: str) -> Any:
    # A field that is not there is as good as null.
    return place.get(key) if isinstance(place, dict) else place[_known(place, key)]


def _add(place: Any, key: str, value: Any) -> None:
    if isinstance(place, dict):
        place[key] = value
    elif isinstance(place, list):
        index = len(place) if key == "-" else int(key)
        if index < 0:
            index += len(place) + 1
        if not 0 <= index <= len(place):
            raise LookupError(key)
        place.insert(index, value)
    else:
        raise LookupError(key)
