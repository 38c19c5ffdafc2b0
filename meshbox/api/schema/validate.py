# SPDX-License-Identifier: Apache-2.0
"""Validation of a custom resource against its schema, in the words and the order of the API server."""

from __future__ import annotations

import functools
import math
from typing import Any

from meshbox.api.problems import (
    Cause,
    duplicate,
    invalid,
    not_supported,
    required,
    shown,
    too_long,
    too_many,
    type_invalid,
)
from meshbox.api.schema.formats import fits
from meshbox.api.schema.node import Node

__all__ = ["ABSENT", "identical", "list_problems", "validate"]


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()
"""What an old value is where there is none."""

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def validate(node: Node, value: Any, path: str, causes: list[Cause], old: Any = ABSENT) -> None:
    """Check `value`; what has not changed since `old` is not checked again (the server's "ratcheting").

    Args:
        node: Its schema.
        value: Anything that JSON can be.
        path: Where it is, e.g. "spec.http[0]"; "" for the whole object.
        causes: Where to add what is wrong.
        old: The value as it is stored, ABSENT on creation.
    """
    if old is not ABSENT and identical(value, old):
        return
    if value is None:
        if node.types and not node.nullable:
            causes.append(_wrong_type(path, ",".join(node.types), "null"))
        if "enum" in node.conditions and None not in node.conditions["enum"]:
            causes.append(_enum(path, None, node.conditions["enum"]))
        return
    if node.types:
        _check_type(node, value, path, causes)
    if node.any_of or node.one_of or node.all_of or node.not_ is not None:
        _check_combinations(node, value, path, causes)
    kind = type(value)
    if node.conditions:
        _check_conditions(node, value, path, causes)
    if kind is str and node.format and not fits(node.format, value):
        causes.append(type_invalid(path, value, f"{path} in body must be of type {node.format}: {shown(value)}"))
    if kind is list:
        if node.items is not None:
            before = _old_items(node, value, old)
            for index, one in enumerate(value):
                validate(node.items, one, f"{path}[{index}]", causes, before[index] if before else ABSENT)
    elif kind is dict:
        _check_object(node, value, path, causes, old)


def _check_object(node: Node, value: dict[str, Any], path: str, causes: list[Cause], old: Any) -> None:
    previous = old if isinstance(old, dict) else {}
    properties, additional = node.properties, node.additional
    for name, one in value.items():
        child = properties.get(name) or additional
        if child is not None:
            validate(child, one, f"{path}.{name}" if path else name, causes, previous.get(name, ABSENT))
    for name in node.required:
        if name not in value:
            causes.append(required(f"{path}.{name}" if path else name))


def _old_items(node: Node, value: list[Any], old: Any) -> list[Any] | None:
    """The stored items that correspond to `value`'s: by key in lists of type "map", none otherwise."""
    if not isinstance(old, list) or node.list_type != "map":
        return None
    known = {_key(node, one): one for one in old if isinstance(one, dict)}
    return [known.get(_key(node, one), ABSENT) if isinstance(one, dict) else ABSENT for one in value]


def _key(node: Node, item: dict[str, Any]) -> str:
    return shown([item.get(name) for name in node.list_keys])


def identical(a: Any, b: Any) -> bool:
    """Equality that tells true from 1, and 1 from 1.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(value, b[name]) for name, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(identical(one, other) for one, other in zip(a, b, strict=True))
    return bool(a == b)


def _wrong_type(path: str, wanted: str, seen: str) -> Cause:
    return type_invalid(path, seen, f"{path} in body must be of type {wanted}: {shown(seen)}")


def _check_type(node: Node, value: Any, path: str, causes: list[Cause]) -> None:
    kind = _JSON_TYPES.get(type(value), "object")
    types = node.types
    if kind in types:
        return
    if kind == "integer" and "number" in types:
        return
    if kind == "number" and "integer" in types and value.is_integer():
        return
    if node.format and kind == "array" and not {"number", "integer"} & set(types):
        # It takes any list where a text of some format is wanted.
        return
    if node.format and kind not in ("string", "array"):
        # With a format the server names formats, not types.
        causes.append(_wrong_type(path, node.format, {"integer": "int64", "number": "float64"}.get(kind, "")))
        return
    causes.append(_wrong_type(path, ",".join(types), kind))


def _check_combinations(node: Node, value: Any, path: str, causes: list[Cause]) -> None:
    if node.any_of:
        failures = _failures(node.any_of, value, path)
        if all(failures):
            causes.append(invalid("<nil>", "", f"{shown(path)} must validate at least one schema (anyOf)"))
            causes += failures[0]
    if node.one_of:
        failures = _failures(node.one_of, value, path)
        good = sum(1 for one in failures if not one)
        if good != 1:
            said = f"Found {good} valid alternatives" if good else "Found none valid"
            causes.append(invalid("<nil>", "", f"{shown(path)} must validate one and only one schema (oneOf). {said}"))
            if not good:
                causes += failures[0]
    if node.all_of:
        failures = _failures(node.all_of, value, path)
        for one in failures:
            causes += one
        if any(failures):
            said = ". None validated" if all(failures) else ""
            causes.append(invalid("<nil>", "", f"{shown(path)} must validate all the schemas (allOf){said}"))
    if node.not_ is not None and not _failures((node.not_,), value, path)[0]:
        causes.append(invalid("<nil>", "", f"{shown(path)} must not validate the schema (not)"))


def _failures(nodes: tuple[Node, ...], value: Any, path: str) -> list[list[Cause]]:
    found = []
    for one in nodes:
        causes: list[Cause] = []
        validate(one, value, path, causes)
        found.append(causes)
    return found


def _check_conditions(node: Node, value: Any, path: str, causes: list[Cause]) -> None:
    conditions = node.conditions
    if isinstance(value, str):
        _check_string(conditions, value, path, causes)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        _check_number(conditions, node.schema, value, path, causes)
    elif isinstance(value, list):
        _check_list(conditions, value, path, causes)
    elif isinstance(value, dict):
        _check_size(conditions, value, path, causes)
    allowed = conditions.get("enum")
    if allowed is not None and not any(identical(value, one) or _equal_numbers(value, one) for one in allowed):
        causes.append(_enum(path, value, allowed))


def _equal_numbers(a: Any, b: Any) -> bool:
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return numbers and not isinstance(a, bool) and not isinstance(b, bool) and a == b


def _enum(path: str, value: Any, allowed: list[Any]) -> Cause:
    return not_supported(path, value, [one if isinstance(one, str) else shown(one) for one in allowed])


def _check_string(conditions: dict[str, Any], value: str, path: str, causes: list[Cause]) -> None:
    # The server stops at the first of these that fails.
    most, least, pattern = conditions.get("maxLength"), conditions.get("minLength"), conditions.get("pattern")
    if most is not None and len(value) > most:
        causes.append(too_long(path, most))
    elif least is not None and len(value) < least:
        causes.append(invalid(path, value, f"{path} in body should be at least {least} chars long"))
    elif pattern:
        found = _pattern(pattern)
        if found is not None and found.search(value) is None:
            causes.append(invalid(path, value, f"{path} in body should match '{pattern}'"))


@functools.lru_cache(maxsize=256)
def _pattern(pattern: str) -> Any:
    # RE2 as in Go: a pattern from a CRD must not be able to stop the server.
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def _check_number(
    conditions: dict[str, Any], schema: dict[str, Any], value: float, path: str, causes: list[Cause]
) -> None:
    factor = conditions.get("multipleOf")
    if factor and not math.isclose(round(value / factor) * factor, value, rel_tol=1e-12):
        causes.append(invalid(path, value, f"{path} in body should be a multiple of {shown(factor)}"))
    most, below = conditions.get("maximum"), schema.get("exclusiveMaximum") is True
    if most is not None and (value > most or (below and value == most)):
        words = "less than" if below else "less than or equal to"
        causes.append(invalid(path, value, f"{path} in body should be {words} {shown(most)}"))
    least, above = conditions.get("minimum"), schema.get("exclusiveMinimum") is True
    if least is not None and (value < least or (above and value == least)):
        words = "greater than" if above else "greater than or equal to"
        causes.append(invalid(path, value, f"{path} in body should be {words} {shown(least)}"))


def _check_list(conditions: dict[str, Any], value: list[Any], path: str, causes: list[Cause]) -> None:
    least, most = conditions.get("minItems"), conditions.get("maxItems")
    if least is not None and len(value) < least:
        causes.append(invalid(path, len(value), f"{path} in body should have at least {least} items"))
    if most is not None and len(value) > most:
        causes.append(too_many(path, len(value), most))
    if conditions.get("uniqueItems") is True and len({shown(one) for one in value}) < len(value):
        causes.append(invalid(path, "", f"{path} in body shouldn't contain duplicates"))


def _check_size(conditions: dict[str, Any], value: dict[str, Any], path: str, causes: list[Cause]) -> None:
    least, most = conditions.get("minProperties"), conditions.get("maxProperties")
    if least is not None and len(value) < least:
        causes.append(invalid(path, len(value), f"{path} in body should have at least {least} properties"))
    if most is not None and len(value) > most:
        causes.append(too_many(path, len(value), most))


def list_problems(node: Node, value: Any, path: str, causes: list[Cause]) -> None:
    """Items that come twice in lists of type "set", or with the same keys in lists of type "map"."""
    if not node.has_lists:
        return
    if isinstance(value, list):
        if node.list_type == "set":
            _unique([(f"{path}[{index}]", one) for index, one in enumerate(value)], causes)
        elif node.list_type == "map":
            _unique_keys(node, value, path, causes)
        if node.items is not None:
            for index, one in enumerate(value):
                list_problems(node.items, one, f"{path}[{index}]", causes)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name in node.properties:
                list_problems(node.properties[name], one, f"{path}.{name}" if path else name, causes)
            elif node.additional is not None:
                list_problems(node.additional, one, f"{path}[{name}]", causes)


def _unique_keys(node: Node, value: list[Any], path: str, causes: list[Cause]) -> None:
    for index, one in enumerate(value):
        if one is not None and not isinstance(one, dict):
            detail = "must be an object for an array of list-type map"
            causes.append(invalid(f"{path}[{index}]", one, detail))
            return
    keys = [{name: item[name] for name in node.list_keys if name in item} for item in (one or {} for one in value)]
    _unique([(f"{path}[{index}]", key) for index, key in enumerate(keys)], causes)


def _unique(values: list[tuple[str, Any]], causes: list[Cause]) -> None:
    times: dict[str, int] = {}
    for path, value in values:
        text = shown(value)
        times[text] = times.get(text, 0) + 1
        if times[text] == 2:
            causes.append(duplicate(path, value))
