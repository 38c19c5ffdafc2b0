# SPDX-License-Identifier: Apache-2.0
"""The JSONPath that CRDs' printer columns are written in: Kubernetes' dialect.

``.spec.hosts``, ``.metadata.annotations.example\\.com/name``, ``['name']``, ``[0]``, ``[-1]``, ``[1:3]``, ``[*]``,
``.*``, ``..name`` and ``[?(@.type=="Ready")].status``, with ``== != < <= > >=`` or no operator (the field exists).
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from labkit.ground import reading

__all__ = ["JSONPathError", "find"]

_Step = Callable[[Any], Iterator[Any]]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(
    r"""(?P<filter>\[\?\((?P<condition>(?:"[^"]*"|'[^']*'|[^"')])*)\)\])
      | \[(?P<key>'[^']*'|"[^"]*")\]
      | \[(?P<index>\*|-?\d+)\]
      | \[(?P<slice>-?\d*:-?\d*)\]
      | (?P<deep>\.\.)(?P<deep_name>(?:\\.|[^.\[\]])+)
      | \.?(?P<name>(?:\\.|[^.\[\]])+)
      | (?P<dot>\.)$""",
    re.VERBOSE,
)
_CONDITION = re.compile(r"^\s*@(?P<path>[^=!<>]*?)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<value>.+?)\s*)?$")


class JSONPathError(ValueError):
    """A path that is not JSONPath as Kubernetes knows it."""


def find(path: str, obj: Any) -> list[Any]:
    """All that `path` selects in `obj`, in order.

    Raises:
        JSONPathError: the path cannot be read.
    """
    found = [obj]
    for step in _compiled(path):
        found = [result for value in found for result in step(value)]
    return found


@lru_cache(maxsize=1024)
def _compiled(path: str) -> tuple[_Step, ...]:
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[_Step] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise JSONPathError(f"unrecognized column definition {json.dumps(path)}")
        position = token.end()
        steps.append(_step(token, path))
    return tuple(steps)


def _step(token: re.Match[str], path: str) -> _Step:
    if token["filter"]:
        return _filter(token["condition"], path)
    if token["key"]:
        return _named(token["key"][1:-1])
    if token["index"]:
        return _wildcard if token["index"] == "*" else _at(int(token["index"]))
    if token["slice"]:
        first, last = (int(end) if end else None for end in token["slice"].split(":"))
        return lambda value: iter(value[first:last] if isinstance(value, list) else ())
    if token["deep"]:
        return _deep(_unescaped(token["deep_name"]))
    if token["dot"]:
        return lambda value: iter((value,))
    name = _unescaped(token["name"])
    return _wildcard if name == "*" else _named(name)


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _named(name: str) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _at(index: int) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _wildcard(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _deep(name: str) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]
        for inner in _wildcard(value):
            yield from step(inner)

    return step


def _filter(condition: str, path: str) -> _Step:
    parts = _CONDITION.match(condition)
    if parts is None:
        raise JSONPathError(f"unrecognized column definition {json.dumps(path)}")
    inner = parts["path"]
    compare = _COMPARE[parts["operator"]] if parts["operator"] else None
    wanted = _literal(parts["value"], path) if parts["operator"] else None

    def matches(item: Any) -> bool:
        found = find(inner, item)
        if compare is None:
            return bool(found)
        if len(found) != 1:
            return False
        try:
            return bool(compare(found[0], wanted))
        except TypeError:
            # Values of different kinds have no order.
            return False

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from filter(matches, value)

    return step


def _literal(text: str, path: str) -> Any:
    if text[0] in "'\"" and text[-1] == text[0]:
        return text[1:-1]
    try:
        return reading.json_value(text)
    except reading.ReadingError:
        raise JSONPathError(f"unrecognized column definition {json.dumps(path)}") from None
