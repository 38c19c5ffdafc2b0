# SPDX-License-Identifier: Apache-2.0
"""How the tables of data/*.txt are written: headings with lines below them, fields of objects, and when a line holds.

A field is `a.b`, or `.` for the object itself. `when a` and `unless a` ask whether a field is set, `when ?a` whether it
is not empty, `when a|b` of one of them, `when a=X|Y` of its text, `when a<b` (or `>`) of its size, for which what is
absent is zero. Names with `@` are of the context: which there are, is each table's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["TOKEN", "Facts", "Read", "Steps", "Test", "at_steps", "condition", "lines", "reader", "steps_of", "table"]

TOKEN = re.compile(r"\"[^\"]*\"|'[^']*'|\S+")
"""A word of a line."""
_CONDITION = re.compile(r"(\??)([^=<>]+)([=<>]?)(.*)")

Steps = tuple[str, ...]
Facts = Mapping[str, Callable[[Any, Sequence[Any]], Any]]
"""Names with `@` → what they are in a context, and among the items of a list."""
Read = Callable[[dict[str, Any], Any, Sequence[Any]], Any]
"""From an object, its context and the items that it is among, to what is at a field."""
Test = Callable[[dict[str, Any], Any, Sequence[Any]], bool]
"""The same, to whether a condition holds."""


def lines(name: str) -> Iterator[str]:
    """The lines of a table that say something."""
    text = resources.files("meshbox.api").joinpath(f"data/{name}").read_text(encoding="utf-8")
    return (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


@cache
def table(name: str) -> dict[str, list[str]]:
    """The lines of a table by their headings; several words in a heading have the same lines, in order."""
    found: dict[str, list[str]] = {}
    headings: list[str] = []
    for line in lines(name):
        if line[0] == " ":
            for heading in headings:
                found[heading].append(line.strip())
        else:
            headings = line.split()
            for heading in headings:
                found.setdefault(heading, [])
    return found


def steps_of(name: str) -> Steps:
    """The names on the way to a field; a point that belongs to one has a backslash before it."""
    return () if name == "." else tuple(step.replace("\\.", ".") for step in re.split(r"(?<!\\)\.", name))


def at_steps(obj: Any, steps: Sequence[str]) -> Any:
    """What is there; None where it is absent."""
    for step in steps:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def reader(name: str, facts: Facts) -> Read:
    """What reads a field of an object, or of its context."""
    steps = steps_of(name)
    if name[0] == "@":
        fact, rest = facts[steps[0]], steps[1:]
        return lambda _, context, items: at_steps(fact(context, items), rest)
    if len(steps) == 1:
        return lambda obj, _, __: obj.get(steps[0])
    return lambda obj, _, __: at_steps(obj, steps)


def condition(word: str, asked: str, facts: Facts) -> Test:
    """What `when …` or `unless …` asks."""
    match = _CONDITION.fullmatch(asked)
    assert match is not None
    filled, names, sign, words = match.groups()
    values, bound = frozenset(words.split("|")), reader(words, facts) if sign in ("<", ">") else None

    def test(read: Read) -> Test:
        if bound is not None:
            low, high = (read, bound) if sign == "<" else (bound, read)
            return lambda obj, context, items: (low(obj, context, items) or 0) < (high(obj, context, items) or 0)
        if sign:
            return lambda obj, context, items: _text(read(obj, context, items)) in values
        if filled:
            return lambda obj, context, items: bool(read(obj, context, items))
        return lambda obj, context, items: read(obj, context, items) is not None

    first, *others = [test(reader(name, facts)) for name in names.split("|")]
    if not others:
        return first if word == "when" else lambda obj, context, items: not first(obj, context, items)
    wanted, every = word == "when", (first, *others)
    return lambda obj, context, items: any(one(obj, context, items) for one in every) is wanted


def _text(value: Any) -> str:
    return "" if value is None else str(value)
