# SPDX-License-Identifier: Apache-2.0
"""`==`, `in` and `<` between values whatever their types, as Kubernetes' CEL has them.

cel-python knows them for two values of one type only, and even an object that is compared with `null` is an error to
it. Kubernetes lets equality ask about any two values (those of different types are not equal), and compares numbers
whatever kind of number each is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from celpy import celtypes
from celpy.evaluation import CELEvalError

__all__ = ["COMPARISONS"]

_NUMBERS = (celtypes.IntType, celtypes.UintType, celtypes.DoubleType)
_ORDERED = (celtypes.StringType, celtypes.TimestampType, celtypes.DurationType, celtypes.BytesType, celtypes.BoolType)


def _plain(value: Any) -> int | float:
    """A number as Python's own, which compares whole ones with others exactly."""
    return float(value) if isinstance(value, celtypes.DoubleType) else int(value)


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are equal: never an error."""
    if isinstance(one, _NUMBERS) and isinstance(other, _NUMBERS):
        return _plain(one) == _plain(other)
    if _is_null(one) or _is_null(other):
        return _is_null(one) and _is_null(other)
    if isinstance(one, celtypes.ListType) and isinstance(other, celtypes.ListType):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, celtypes.MapType) and isinstance(other, celtypes.MapType):
        # Keys are looked at one by one: 1 and 1.0 are the same key.
        return len(one) == len(other) and all(
            any(_alike(key, name) and _alike(value, held) for name, held in other.items()) for key, value in one.items()
        )
    if type(one) is not type(other):
        # A type is compared by what it names.
        return isinstance(one, type) and isinstance(other, type) and one == other
    return bool(one == other)


def _is_null(value: Any) -> bool:
    return value is None or isinstance(value, celtypes.NullType)


def _failed(*values: Any) -> Any:
    """The first of some values that is an error, since what is made of an error is that error; else None."""
    return next((one for one in values if isinstance(one, CELEvalError)), None)


def _equal(one: Any, other: Any) -> Any:
    failed = _failed(one, other)
    return failed if failed is not None else celtypes.BoolType(_alike(one, other))


def _unequal(one: Any, other: Any) -> Any:
    failed = _failed(one, other)
    return failed if failed is not None else celtypes.BoolType(not _alike(one, other))


def _within(item: Any, container: Any) -> Any:
    failed = _failed(item, container)
    if failed is not None:
        return failed
    if not isinstance(container, celtypes.ListType | celtypes.MapType):
        return CELEvalError("no such overload", TypeError, ("no such overload",))
    return celtypes.BoolType(any(_alike(item, one) for one in container))


def _ordering(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def run(one: Any, other: Any) -> Any:
        failed = _failed(one, other)
        if failed is not None:
            return failed
        if isinstance(one, _NUMBERS) and isinstance(other, _NUMBERS):
            return celtypes.BoolType(compare(_plain(one), _plain(other)))
        if type(one) is type(other) and isinstance(one, _ORDERED):
            return celtypes.BoolType(compare(one, other))
        return CELEvalError("no such overload", TypeError, ("no such overload",))

    return run


COMPARISONS: dict[str, Callable[..., Any]] = {
    "_!=_": _unequal,
    "_<=_": _ordering(operator.le),
    "_<_": _ordering(operator.lt),
    "_==_": _equal,
    "_>=_": _ordering(operator.ge),
    "_>_": _ordering(operator.gt),
    "_in_": _within,
}
"""What cel-python calls these operators → what they mean."""
