# SPDX-License-Identifier: Apache-2.0
"""Optional values, and what else cel-python's own types do not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from celpy import celtypes
from celpy.evaluation import CELEvalError

__all__ = ["OPTIONALS", "Optional", "fail", "strict"]


class Optional(NamedTuple):
    """A value that may be missing."""

    items: tuple[Any, ...] = ()
    """The value, or nothing."""


def fail(message: str) -> Any:
    """An error as a value: cel-python combines those as CEL wants it: `false && error` is false."""
    return CELEvalError(message, ValueError, (message,))


def strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of errors is the first of them."""

    def run(*values: Any) -> Any:
        return next((one for one in values if isinstance(one, CELEvalError)), None) or function(*values)

    return run


def _field(value: Any, name: Any) -> Any:
    if isinstance(value, Optional):
        return _field(value.items[0], name) if value.items else value
    if isinstance(value, list):
        inside = isinstance(name, int) and 0 <= name < len(value)
        return Optional((value[name],)) if inside else Optional()
    if not isinstance(value, dict):
        return fail("no such overload")
    return Optional((value[name],)) if name in value else Optional()


def _value(value: Any) -> Any:
    return value.items[0] if value.items else fail("optional.none() dereference")


def _non_zero(value: Any) -> Any:
    return Optional((value,) if value else ())


def _pairs(value: Any) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
    else:
        items = [(celtypes.IntType(index), one) for index, one in enumerate(value)]
    return celtypes.ListType([celtypes.ListType(pair) for pair in items])


def _joined(entries: Any) -> Any:
    made: dict[Any, Any] = {}
    for entry in entries:
        for key, value in entry.items():
            if key in made:
                return fail(f"insert failed: key {key} already exists")
            made[key] = value
    return celtypes.MapType(made)


OPTIONALS: dict[str, Callable[..., Any]] = {
    "hasValue": strict(lambda value: celtypes.BoolType(bool(value.items))),
    "optional.field": strict(_field),
    "optional.first": strict(lambda found: Optional(tuple(found))),
    "optional.flat": strict(lambda found: found[0] if found else Optional()),
    "optional.index": strict(_field),
    "optional.items": strict(lambda value: celtypes.ListType(value.items)),
    "optional.none": Optional,
    "optional.of": strict(lambda value: Optional((value,))),
    "optional.ofNonZeroValue": strict(_non_zero),
    "or": strict(lambda value, other: value if value.items else other),
    "orValue": strict(lambda value, other: value.items[0] if value.items else other),
    "pair": strict(lambda key, value: celtypes.ListType([key, value])),
    "pairs": strict(_pairs),
    "transformMap": strict(lambda found: celtypes.MapType(dict(found))),
    "transformMapEntry": strict(_joined),
    "value": strict(_value),
}
"""Functions of optional values, and what `reading` makes of macros with two variables."""
