# SPDX-License-Identifier: Apache-2.0
"""Label selectors: kubectl's text ("app=x,tier in (a,b),!old") and the object (matchLabels, matchExpressions)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.ground.names import label_value, qualified_name
from labkit.ground.numbers import whole

__all__ = ["Requirement", "matches", "parse", "selects", "written"]

Labels = Mapping[str, str]

_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^ \t\r\n=!(),<>]+|\Z)")
_SYMBOLS = frozenset({"==", "!=", *"=!(),<>", ""})
_BINARY = {"in": "In", "notin": "NotIn", "=": "In", "==": "In", "!=": "NotIn", "<": "Lt", ">": "Gt"}


@dataclass(frozen=True)
class Requirement:
    """One condition on labels.

    Args:
        key: Of the label.
        operator: "In", "NotIn", "Exists", "DoesNotExist", "Gt" or "Lt".
        values: What the operator compares with.
    """

    key: str
    operator: str
    values: Collection[str] = ()

    def fits(self, labels: Labels) -> bool:
        """Whether `labels` meet it; what is not there is not in any set, and no number."""
        found = labels.get(self.key)
        match self.operator:
            case "In":
                return found in self.values
            case "NotIn":
                return found not in self.values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
        seen, bound = whole(found), whole(next(iter(self.values), None))
        return seen is not None and bound is not None and (seen > bound if self.operator == "Gt" else seen < bound)

    def __str__(self) -> str:
        among = ",".join(sorted(self.values))
        return {
            "In": f"{self.key} in ({among})",
            "NotIn": f"{self.key} notin ({among})",
            "Exists": self.key,
            "DoesNotExist": f"!{self.key}",
            "Gt": f"{self.key}>{among}",
            "Lt": f"{self.key}<{among}",
        }[self.operator]

    @classmethod
    def of(cls, expression: Mapping[str, Any]) -> Requirement:
        """An item of `matchExpressions`."""
        return cls(expression.get("key") or "", expression["operator"], expression.get("values") or ())


def selects(wanted: Labels | None, labels: Labels | None) -> bool:
    """Whether each label that is `wanted` is among `labels`, as in a Service's selector; an empty one selects all."""
    have = labels or {}
    return all(have.get(key) == value for key, value in (wanted or {}).items())


def matches(selector: Mapping[str, Any] | None, labels: Labels | None) -> bool:
    """Whether a selector object chooses what has `labels`; an empty one, and none, choose all."""
    given = selector or {}
    if not selects(given.get("matchLabels"), labels):
        return False
    return all(Requirement.of(one).fits(labels or {}) for one in given.get("matchExpressions") or ())


def written(selector: Mapping[str, Any] | None) -> str:
    """A selector object as text, sorted by key, in which Kubernetes shows it; "" where it chooses all."""
    given = selector or {}
    parts = [(key, f"{key}={value}") for key, value in (given.get("matchLabels") or {}).items()]
    parts += [(one["key"], str(Requirement.of(one))) for one in given.get("matchExpressions") or ()]
    return ",".join(text for _, text in sorted(parts, key=lambda part: part[0]))


def parse(text: str) -> list[Requirement]:
    """The requirements in a selector's text; none in an empty one, which chooses all.

    Raises:
        ValueError: it is no selector; the words are Kubernetes'.
    """
    tokens = _Tokens(text)
    found: list[Requirement] = []
    while (first := tokens.next) or found:
        if first in _SYMBOLS and first != "!":
            wanted = "identifier after ','" if found else "!, identifier, or 'end of string'"
            raise ValueError(f"found '{first}', expected: {wanted}")
        try:
            found.append(_requirement(tokens))
        except ValueError as error:
            raise ValueError(f"unable to parse requirement: {error}") from None
        if not (end := tokens.take()):
            break
        if end != ",":
            raise ValueError(f"found '{end}', expected: ',' or 'end of string'")
    return found


class _Tokens:
    """A selector's text, token by token; "" is its end."""

    def __init__(self, text: str) -> None:
        self._found: Iterator[str] = (match[1] for match in _TOKEN.finditer(text))
        self.next = next(self._found)

    def take(self) -> str:
        token, self.next = self.next, next(self._found, "")
        return token

    def name(self) -> str:
        token = self.take()
        if token in _SYMBOLS:
            raise ValueError(f"found '{token}', expected: identifier")
        return token


def _requirement(tokens: _Tokens) -> Requirement:
    absent = tokens.next == "!"
    if absent:
        tokens.take()
    key = tokens.name()
    if said := qualified_name(key):
        raise ValueError(f'<nil>: Invalid value: "{key}": {"; ".join(said)}')
    if absent or tokens.next in ("", ","):
        return Requirement(key, "DoesNotExist" if absent else "Exists")
    operator = tokens.take()
    if operator not in _BINARY:
        raise ValueError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
    values = _values(tokens) if operator in ("in", "notin") else {_value(tokens)}
    _check(key, _BINARY[operator], sorted(values))
    return Requirement(key, _BINARY[operator], frozenset(values))


def _value(tokens: _Tokens) -> str:
    return "" if tokens.next in ("", ",") else tokens.name()


def _values(tokens: _Tokens) -> set[str]:
    """What stands in parentheses; nothing before or after a comma is an empty value."""
    if (first := tokens.take()) != "(":
        raise ValueError(f"found '{first}' expected: '('")
    values: set[str] = set()
    while True:
        if tokens.next in (",", ")"):
            values.add("")
        elif tokens.next in _SYMBOLS:
            wanted = "',', or identifier" if values else "',', ')' or identifier"
            raise ValueError(f"found '{tokens.next}', expected: {wanted}")
        else:
            values.add(tokens.take())
        if (after := tokens.take()) == ")":
            return values
        if after != ",":
            raise ValueError(f"found '{after}', expected: ',' or ')'")


def _check(key: str, operator: str, values: Iterable[str]) -> None:
    problems = []
    for index, value in enumerate(values):
        if operator in ("Gt", "Lt") and whole(value) is None:
            words = "for 'Gt', 'Lt' operators, the value must be an integer"
            problems.append(f'values[{index}]: Invalid value: "{value}": {words}')
        if said := label_value(value):
            problems.append(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(said)}')
    if problems:
        raise ValueError(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
