# SPDX-License-Identifier: Apache-2.0
"""Objects as they come back from Go's types: what is empty there vanishes, and what has no way to be absent stands.

The tables are those of the protobuf codec, which know of each field whether Go keeps a pointer and whether JSON leaves
a zero out. An object that has gone through `typed` is therefore what a real server would decode, or store.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import cache
from typing import Any

from labkit.ground import quantity as quantities
from meshbox.api.builtin.decoding import quantity_error
from meshbox.api.codec.fields import fields_of, is_message, message_of

__all__ = ["typed"]

_ZEROS: dict[str, Any] = {"string": "", "bool": False, "Quantity": "0", "IntOrString": 0, "bytes": "", "double": 0}
_ZEROS |= {"int32": 0, "int64": 0}
_Form = Callable[[Any], Any]


def typed(obj: Any, api_version: str, kind: str, *, stored: bool = True) -> None:
    """Give `obj` the form of its kind's Go type, in place; one of a kind that no table knows is left as it is.

    Args:
        obj: Anything that JSON can be.
        api_version: The version that it is in.
        kind: Its kind.
        stored: Whether to give it the form in which it is kept; else it is as decoding leaves it, where an empty list
            is not yet the same as none.

    Fields that the type does not have, and values of a wrong type, stay: to refuse or drop them is others' matter.
    """
    message = message_of(api_version, kind)
    if message and isinstance(obj, dict):
        _struct(obj, message, stored)


@cache
def _plan(message: str) -> tuple[tuple[str, str, str], ...]:
    """Of each field that JSON shows in a message: its name, mark and type."""
    found: list[tuple[str, str, str]] = []
    for field in fields_of(message).values():
        if field.name:
            found.append((field.name, field.mark, field.type))
        else:
            found += _plan(field.type)
    return tuple(found)


def _struct(obj: dict[str, Any], message: str, stored: bool) -> dict[str, Any]:
    for name, mark, kind in _plan(message):
        value = obj.get(name)
        if value is None:
            if mark == "+" and kind != "bytes":
                obj[name] = _zero(kind, stored)
            elif mark.startswith("+"):
                obj[name] = None
            else:
                obj.pop(name, None)
        elif mark.endswith("[]"):
            if isinstance(value, list):
                value[:] = [
                    _zero(kind, stored) if one is None and kind != "JSON" else _value(one, kind, stored)
                    for one in value
                ]
            if stored:
                _drop(obj, name, mark)
        elif mark.endswith("{}"):
            if isinstance(value, dict):
                for key, one in value.items():
                    value[key] = _zero(kind, stored) if one is None and kind != "JSON" else _value(one, kind, stored)
            if stored:
                _drop(obj, name, mark)
        else:
            value = obj[name] = _value(value, kind, stored)
            if not mark and kind in _ZEROS and value == _ZEROS[kind] and type(value) is type(_ZEROS[kind]):
                del obj[name]
    return obj


def _drop(obj: dict[str, Any], name: str, mark: str) -> None:
    if obj[name] in ([], {}):
        if mark.startswith("+"):
            obj[name] = None
        else:
            del obj[name]


def _zero(kind: str, stored: bool) -> Any:
    if is_message(kind):
        return None if _stands_for_one(kind) else _struct({}, kind, stored)
    return _ZEROS.get(kind)


@cache
def _stands_for_one(message: str) -> bool:
    """Whether JSON shows one field of the message in its place."""
    return any(field.name == "=" for field in fields_of(message).values())


def _value(value: Any, kind: str, stored: bool) -> Any:
    if kind in _FORMS:
        return _FORMS[kind](value)
    if not is_message(kind):
        return value
    if not _stands_for_one(kind):
        return _struct(value, kind, stored) if isinstance(value, dict) else value
    inner = next((one.type for one in fields_of(kind).values() if is_message(one.type)), "")
    for one in value if isinstance(value, list) else [value]:
        if inner and isinstance(one, dict):
            _struct(one, inner, stored)
    return value


def _quantity(value: Any) -> Any:
    return value if quantity_error(value) else str(quantities.Quantity.of(value))


def _bytes(value: Any) -> Any:
    return value.replace("\n", "").replace("\r", "") if isinstance(value, str) else value


def _moment(value: Any, timespec: str) -> Any:
    try:
        moment = datetime.datetime.fromisoformat(value).astimezone(datetime.UTC)
    except (ValueError, TypeError, OverflowError):
        return value
    return moment.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


_FORMS: dict[str, _Form] = {
    "Quantity": _quantity,
    "bytes": _bytes,
    "Time": lambda value: _moment(value, "seconds"),
    "MicroTime": lambda value: _moment(value, "microseconds"),
}
"""How values are written that JSON can write in more than one way."""
