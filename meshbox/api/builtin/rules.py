# SPDX-License-Identifier: Apache-2.0
"""The rules that fields of built-in objects must fit, read from data/rules.txt and applied as they stand there.

A type of the field tables is a heading; below it, a line is `field: rule ; rule`. Before the colon may stand what must
hold: `when other`, `unless other` (whether another field is set), `when other=A|B`. `field@name` is told by another
name, `.` is the object itself, and `a.b` a field of a field. A rule is asked of a value that is there; with `?` before
it only of one that is not empty, with `=` of an absent one too, as zero. `each` before it means every item, `every`
that their index is not told. A rule that begins with a capital is a type, whose rules hold there. The object also has
to have its defaults, and the form of Go's types (`typed`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from msgspec import Struct

from meshbox.api.builtin.vocabulary import VOCABULARY, Check
from meshbox.api.problems import Cause

__all__ = ["Call", "Context", "call", "check"]

_TOKEN = re.compile(r"\"[^\"]*\"|'[^']*'|\S+")


class Context(Struct, frozen=True):
    """What all rules of one object may ask.

    Args:
        whole: The object.
        version: The version in which a client wrote it.
        new: Whether there was none before.
    """

    whole: dict[str, Any]
    version: str = ""
    new: bool = True
    pod: dict[str, Any] = {}
    """The spec of the pod or template that is checked; empty outside of one."""
    template: bool = False
    """Whether that is a template."""


Call = Callable[[Any, str, list[Cause], Context], None]
"""Adds what is wrong with a value: called with it, its path, where to add causes, and the context."""

_CALLS: dict[str, Call] = {}


def call(name: str) -> Callable[[Call], Call]:
    """Make a function what `call NAME` means: a rule that no table can tell."""

    def register(function: Call) -> Call:
        _CALLS[name] = function
        return function

    return register


class _Rule(Struct, frozen=True):
    items: str
    """How many values it is about: "" for the value itself, else "each" or "every"."""
    mode: str
    """Of which values: "" of those there are, "?" or "="."""
    name: str
    arguments: tuple[str, ...]


class _Line(Struct, frozen=True):
    field: tuple[str, ...]
    shown: str
    conditions: tuple[tuple[bool, tuple[str, ...], frozenset[str]], ...]
    rules: tuple[_Rule, ...]


def _rule(tokens: list[str]) -> _Rule:
    items = tokens.pop(0) if tokens[0] in ("each", "every") else ""
    name = tokens[0].lstrip("?=")
    arguments = tuple(token[1:-1] if token[0] in "\"'" else token for token in tokens[1:])
    return _Rule(items, tokens[0][: len(tokens[0]) - len(name)], name, arguments)


def _line(text: str) -> _Line:
    tokens = _TOKEN.findall(text)
    end = next(index for index, token in enumerate(tokens) if token.endswith(":") and token[0] not in "\"'")
    field, *words = [*tokens[:end], tokens[end][:-1]]
    conditions = []
    for word, asked in zip(words[::2], words[1::2], strict=True):
        name, _, values = asked.partition("=")
        conditions.append(
            (word == "when", tuple(name.split(".")), frozenset(values.split("|")) if values else frozenset())
        )
    rules: list[list[str]] = [[]]
    for word in tokens[end + 1 :]:
        if word == ";":
            rules.append([])
        else:
            rules[-1].append(word)
    name, _, shown = field.partition("@")
    steps = () if name == "." else tuple(name.split("."))
    return _Line(steps, shown or ".".join(steps), tuple(conditions), tuple(_rule(one) for one in rules))


@cache
def _texts() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    listed: list[str] = []
    for line in resources.files("meshbox.api").joinpath("data/rules.txt").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] == " ":
            listed.append(line)
        else:
            listed = found.setdefault(line.strip(), [])
    return found


@cache
def _lines(type_name: str) -> tuple[_Line, ...]:
    return tuple(_line(text) for text in _texts().get(type_name, ()))


def _at(obj: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def _holds(line: _Line, obj: Any, context: Context) -> bool:
    for wanted, steps, values in line.conditions:
        if steps == ("@beta",):
            holds = "beta" in context.version
        else:
            value = _at(obj, steps)
            holds = str("" if value is None else value) in values if values else value is not None
        if holds is not wanted:
            return False
    return True


def check(type_name: str, obj: Any, path: str, causes: list[Cause], context: Context) -> None:
    """Add to `causes` what the rules of a type say of `obj`, which is at `path`."""
    for line in _lines(type_name):
        if _holds(line, obj, context):
            value = _at(obj, line.field)
            where = f"{path}.{line.shown}".strip(".")
            for rule in line.rules:
                before = len(causes)
                _apply(rule, value, where, causes, context)
                if rule.name == "required" and len(causes) > before:
                    break


def _apply(rule: _Rule, value: Any, path: str, causes: list[Cause], context: Context) -> None:
    if rule.items:
        for index, one in enumerate(value if isinstance(value, list) else ()):
            where = f"{path}[{index}]" if rule.items == "each" else path
            _one(rule, one, where, causes, context)
    else:
        _one(rule, value, path, causes, context)


def _one(rule: _Rule, value: Any, path: str, causes: list[Cause], context: Context) -> None:
    name = rule.name
    if name == "required":
        causes += VOCABULARY[name](value, path, rule.arguments)
        return
    if (rule.mode == "" and value is None) or (rule.mode == "?" and not value):
        return
    if name == "call":
        _CALLS[rule.arguments[0]](value, path, causes, context)
    elif name[0].isupper():
        check(name, {} if value is None else value, path, causes, context)
    else:
        known: Check = VOCABULARY[name]
        causes += known(value, path, rule.arguments)
