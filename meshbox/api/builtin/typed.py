# SPDX-License-Identifier: Apache-2.0
"""Objects as they come back from Go's types: what is empty there vanishes, and what has no way to be absent stands.

The tables are those of the protobuf codec, which know of each field whether Go keeps a pointer and whether JSON leaves
a zero out. An object that has gone through `typed` is therefore what a real server would decode, or store.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from collections.abc import Callable, Collection
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

from labkit.ground import quantity as quantities
from meshbox.api.builtin.decoding import quantity_error
from meshbox.api.codec.fields import fields_of, is_message, message_of

__all__ = ["typed"]

_ZEROS: dict[str, Any] = {"string": "", "bool": False, "Quantity": "0", "IntOrString": 0, "bytes": "", "double": 0}
_ZEROS |= {"int32": 0, "int64": 0}
_NONE = object()
_THOUSANDTH = -3
"""As a power of ten."""
_Form = Callable[[Any, bool], Any]
"""From a value, and whether it is to be stored, to how it is written."""


def typed(obj: Any, api_version: str, kind: str, *, stored: bool = True, known: Collection[str] = ()) -> None:
    """Give `obj` the form of its kind's Go type, in place; one of a kind that no table knows is left as it is.

    Args:
        obj: Anything that JSON can be.
        api_version: The version that it is in.
        kind: Its kind.
        stored: Whether to give it the form in which it is kept; else it is as decoding leaves it, where an empty list
            is not yet the same as none.
        known: Its own fields that have that form already.

    Fields that the type does not have, and values of a wrong type, stay: to refuse or drop them is others' matter.
    """
    message = message_of(api_version, kind)
    if message and isinstance(obj, dict):
        _struct(obj, message, stored, known)


class _Slot(NamedTuple):
    """What becomes of one field that JSON shows in a message."""

    kind: str
    many: str
    """"[]" a list, "{}" a map, "" neither."""
    shown: bool
    """Whether Go shows the field where it has nothing to say."""
    pointer: bool
    """Whether it shows it as null then, and knows that from a zero."""
    form: _Form | None
    """How a value of it is written; None where it stays as it is."""
    zero: Any
    """The value that JSON leaves out; `_NONE` where it leaves none out."""


@cache
def _plan(message: str) -> tuple[dict[str, _Slot], tuple[str, ...]]:
    """Of each field that JSON shows in a message by its name: what becomes of it; and which are always shown."""
    found: dict[str, _Slot] = {}
    for field in fields_of(message).values():
        if field.name:
            many = field.mark[-2:] if field.mark.endswith(("[]", "{}")) else ""
            zero = _NONE if field.mark else _ZEROS.get(field.type, _NONE)
            form = _amount if (field.type, many) == ("Quantity", "{}") else _form(field.type)
            found[field.name] = _Slot(field.type, many, field.mark[:1] == "+", field.mark == "+*", form, zero)
        else:
            found |= _plan(field.type)[0]
    return found, tuple(name for name, slot in found.items() if slot.shown)


def _struct(obj: dict[str, Any], message: str, stored: bool, known: Collection[str] = ()) -> dict[str, Any]:
    slots, shown = _plan(message)
    # By what there is, not by what there could be: a pod has a tenth of the fields that its type has.
    for name in [name for name in obj if name in slots and name not in known]:
        slot, value = slots[name], obj[name]
        if value is None:
            del obj[name]
        elif slot.many:
            if value and isinstance(value, list if slot.many == "[]" else dict):
                _each(value, slot, stored)
            if stored and value in ([], {}):
                del obj[name]
        else:
            if slot.form:
                value = obj[name] = slot.form(value, stored)
            if slot.zero is not _NONE and value == slot.zero and type(value) is type(slot.zero):
                del obj[name]
    for name in shown:
        slot = slots[name]
        if name not in obj and (stored or not slot.pointer):
            empty = slot.many or slot.pointer or slot.kind == "bytes"
            obj[name] = None if empty else _zero(slot.kind, stored)
    return obj


def _each(values: Any, slot: _Slot, stored: bool) -> None:
    for key, one in values.items() if isinstance(values, dict) else enumerate(values):
        if one is None and slot.kind != "JSON":
            values[key] = _zero(slot.kind, stored)
        elif slot.form:
            values[key] = slot.form(one, stored)


def _zero(kind: str, stored: bool) -> Any:
    if is_message(kind):
        return None if _stands_for_one(kind) else _struct({}, kind, stored)
    return _ZEROS.get(kind)


@cache
def _stands_for_one(message: str) -> bool:
    """Whether JSON shows one field of the message in its place."""
    return any(field.name == "=" for field in fields_of(message).values())


def _form(kind: str) -> _Form | None:
    """How values of a type are written; None where they stay as they are."""
    if kind in _FORMS:
        return _FORMS[kind]
    if not is_message(kind):
        return None
    if not _stands_for_one(kind):
        return lambda value, stored: _struct(value, kind, stored) if isinstance(value, dict) else value
    inner = next((one.type for one in fields_of(kind).values() if is_message(one.type)), "")
    return partial(_one, inner) if inner else None


def _one(inner: str, value: Any, stored: bool) -> Any:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            _struct(one, inner, stored)
    return value


def _amount(value: Any, _: bool) -> Any:
    """An amount of a resource by name: what is finer than a thousandth is rounded up to it."""
    if quantity_error(value):
        return value
    found = quantities.Quantity.of(value)
    if int(found.amount.as_tuple().exponent) < _THOUSANDTH:
        amount = math.ceil(abs(found.amount).scaleb(-_THOUSANDTH))
        found.amount = decimal.Decimal(amount).scaleb(_THOUSANDTH).copy_sign(found.amount)
    return str(found)


def _text(write: Callable[[str], str]) -> _Form:
    """A form of texts: the same few are written again and again. What is no text stays."""
    known = lru_cache(maxsize=4096)(write)
    return lambda value, _: known(value) if isinstance(value, str) else value


def _moment(timespec: str, value: str) -> str:
    try:
        moment = datetime.datetime.fromisoformat(value).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return value
    return moment.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def _encoded(value: Any) -> Any:
    """Bytes as they are stored; Go also reads them from a list of numbers."""
    if isinstance(value, list):
        return base64.b64encode(bytes(one or 0 for one in value)).decode()
    return value.replace("\n", "").replace("\r", "") if isinstance(value, str) else value


_FORMS: dict[str, _Form] = {
    "Quantity": lambda value, _: value if quantity_error(value) else str(quantities.Quantity.of(value)),
    "bytes": lambda value, _: _encoded(value),
    "Time": _text(partial(_moment, "seconds")),
    "MicroTime": _text(partial(_moment, "microseconds")),
}
"""How values are written that JSON can write in more than one way."""
