# SPDX-License-Identifier: Apache-2.0
"""The rules that fields of built-in objects must fit, read from data/rules.txt and applied as they stand there.

What is warned of is told in the same words by data/warnings.txt, and what may not change by data/updates.txt: `kept`
and `sealed` are what was so before.

A type of the field tables is a heading; below it, a line is `field: rule ; rule`. `field@name` is told by another name,
`.` is the object itself, and `a.b` a field of a field. A rule is asked of a value that is there; with `?` before it
only of one that is not empty, with `=` of an absent one too, as zero. Behind `then` it is asked if the line has found
nothing wrong before. `each` before it means every item, `every` that their index is not told, `values` every value of a
map (`.values` with the key behind a point). A rule that begins with a capital is a type, whose rules hold there; `once`
is what no item before has. The object also has to have its defaults, and the form of Go's types (`typed`).

Before the colon may stand what must hold: `when a` and `unless a` (whether a field is set), `when ?a` (is not empty),
`when a|b` (one of them), `when a=X|Y`, `when a<b` (or `>`; absent is zero). Fields that begin with `@` are of the
context: `@pod.a`, `@job.a`, `@old.a`, `@whole.a`, `@kind`, `@version`, and as in `_FACTS`. `$a` in a rule's words
is the text of a field.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from msgspec import Struct

from meshbox.api.builtin.vocabulary import VOCABULARY
from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.problems import Cause
from meshbox.api.table_files import TOKEN, Facts, Read, Steps, Test, at_steps, condition, reader, steps_of, table

__all__ = ["Call", "Context", "call", "check", "job_of"]

_FIELD = re.compile(r"\$(@?[a-z][A-Za-z.]*)")
_NEEDED = ("required", "given")
"""Rules that are asked of values that are not there, and after which a line ends."""


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
    old: dict[str, Any] = {}
    """The one before, of which rules of updates ask."""
    pod: dict[str, Any] = {}
    """The spec of the pod or template that is checked; empty outside of one."""
    template: bool = False
    """Whether that is a template."""
    kind: str = ""
    """Of a container: the field of the pod that it is in, or "sidecar"."""
    volumes: dict[str, str] = {}
    """The names of its volumes that are sound, and of which kind they are: what `volumeMounts` may name."""


def job_of(context: Context) -> dict[str, Any]:
    """The spec of the Job that is checked, or of a CronJob's Jobs."""
    spec = as_dict(context.whole.get("spec"))
    return as_dict(as_dict(spec["jobTemplate"]).get("spec")) if spec.get("jobTemplate") else spec


_FACTS: Facts = {
    "@beta": lambda context, _: "beta" in context.version or None,
    "@job": lambda context, _: job_of(context),
    "@established": lambda context, _: _established(context.old) or None,
    "@kind": lambda context, _: context.kind,
    "@many": lambda _, items: len(items) > 1 or None,
    "@new": lambda context, _: context.new or None,
    "@old": lambda context, _: context.old,
    "@pod": lambda context, _: context.pod,
    "@template": lambda context, _: context.template or None,
    "@version": lambda context, _: context.version,
    "@whole": lambda context, _: context.whole,
}


def _established(definition: dict[str, Any]) -> bool:
    conditions = as_list(at_steps(definition, ("status", "conditions")))
    return any(one.get("type") == "Established" and one.get("status") == "True" for one in conditions)


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
    """What it is about: "" for the value itself, else "each", "every", "values" or ".values"."""
    mode: str
    """Of which values: "" of those there are, "?" or "="."""
    name: str
    arguments: tuple[str, ...]
    then: bool
    """Whether only if nothing was wrong before."""


_Ask = Callable[[Any, dict[str, Any], str, list[Cause], Context, Sequence[Any], int], None]
"""A rule that is asked: of a value, with the object that it is of, and the items among which it is at a place."""


_Group = tuple[tuple[_Ask, str, bool, bool], ...]
"""Rules, each with its `mode`, whether it is asked only if nothing was wrong before, and whether it must be met."""


class _Line(Struct, frozen=True):
    field: Steps
    read: Read
    present: str
    """The field of the object without which no rule asks anything; "" where one asks for what is not there."""
    shown: str
    dotted: str
    """The same behind the path of the object."""
    tests: tuple[Test, ...]
    rules: tuple[_Rule, ...]
    groups: tuple[tuple[str, _Group], ...]
    """By what they are about: those that follow each other, which are asked together of each item."""
    once: bool
    """Whether one asks about the items before."""
    plain: _Group
    """The rules of a line where all are of the value itself, and none asks about other items; else none."""


def _asking(rule: _Rule, steps: Steps) -> _Ask:
    name, given = rule.name, rule.arguments
    if name == "call":
        return lambda value, _, path, causes, context, __, ___: _CALLS[given[0]](value, path, causes, context)
    if name[0].isupper():
        return lambda value, _, path, causes, context, items, at: check(name, value, path, causes, context, items, at)
    known = VOCABULARY[name]
    if name == "once":
        return lambda value, _, path, causes, __, items, at: causes.extend(known((value, items[:at]), path, given))
    if name in ("kept", "sealed"):
        return lambda value, _, path, causes, context, __, ___: causes.extend(
            known((value, at_steps(context.old, steps)), path, given)
        )
    if any(map(_FIELD.search, given)):
        return lambda value, obj, path, causes, context, _, __: causes.extend(
            known(value, path, tuple(_spoken(one, obj, context) for one in given))
        )
    return lambda value, _, path, causes, __, ___, ____: causes.extend(known(value, path, given))


def _line(text: str) -> _Line:
    tokens = TOKEN.findall(text)
    end = next(index for index, token in enumerate(tokens) if token.endswith(":") and token[0] not in "\"'")
    field, *words = [*tokens[:end], tokens[end][:-1]]
    tests = tuple(condition(*pair, _FACTS) for pair in zip(words[::2], words[1::2], strict=True))
    rules: list[_Rule] = []
    rest, then = tokens[end + 1 :], False
    while rest:
        items = rest.pop(0) if rest[0] in ("each", "every", "values", ".values") else ""
        word = rest.pop(0)
        size = next((index for index, token in enumerate(rest) if token in (";", "then")), len(rest))
        arguments = tuple(token[1:-1] if token[0] in "\"'" else token for token in rest[:size])
        name = word.lstrip("?=")
        rules.append(_Rule(items, word[: len(word) - len(name)], name, arguments, then))
        then = rest[size : size + 1] == ["then"]
        del rest[: size + 1]
    name, _, shown = field.rpartition("@") if "@" in field[1:] else (field, "", "")
    steps = steps_of(name)
    groups = tuple(
        (items, tuple((_asking(rule, steps), rule.mode, rule.then, rule.name in _NEEDED) for rule in group))
        for items, group in itertools.groupby(rules, lambda rule: rule.items)
    )
    absent = any(rule.mode == "=" or rule.name in _NEEDED for rule in rules)
    present = "" if absent or not steps or steps[0][0] == "@" else steps[0]
    shown, once = (shown or name).strip("."), any(rule.name == "once" for rule in rules)
    plain = groups[0][1] if not once and len(groups) == 1 and not groups[0][0] else ()
    dotted = shown and f".{shown}"
    return _Line(steps, reader(name, _FACTS), present, shown, dotted, tests, tuple(rules), groups, once, plain)


def _texts() -> dict[str, list[str]]:
    return table("rules.txt")


@cache
def _lines(type_name: str) -> tuple[_Line, ...]:
    tables = _texts(), table("updates.txt"), table("warnings.txt")
    return tuple(_line(text) for texts in tables for text in texts.get(type_name, ()))


def check(
    type_name: str, obj: Any, path: str, causes: list[Cause], context: Context, items: Sequence[Any] = (), at: int = 0
) -> None:
    """Add to `causes` what the rules of a type say of `obj`, which is at `path`, and at `at` among `items`."""
    obj = as_dict(obj)
    for line in _lines(type_name):
        if line.present and line.present not in obj:
            continue
        for test in line.tests:
            if not test(obj, context, items):
                break
        else:
            value = line.read(obj, context, items)
            if value is None and line.present:
                continue
            where = path + line.dotted if path else line.shown
            if len(line.plain) == 1 and not line.plain[0][3]:
                [(ask, mode, _, _)] = line.plain
                if value or mode == "=" or (value is not None and not mode):
                    ask(value, obj, where, causes, context, (), 0)
            elif line.plain:
                _apply(line.plain, value, obj, where, causes, context, (), 0)
            else:
                _ask(line, value, obj, where, causes, context, items[:at])


def _ask(
    line: _Line, value: Any, obj: Any, path: str, causes: list[Cause], context: Context, before: Sequence[Any]
) -> None:
    start = len(causes)
    for kind, rules in line.groups:
        if rules[0][2] and len(causes) > start:
            return
        if not kind:
            alike = [at_steps(one, line.field) for one in before] if line.once else ()
            if not _apply(rules, value, obj, path, causes, context, alike, len(alike)):
                return
        elif kind.endswith("values"):
            for key, one in as_dict(value).items():
                where = f"{path}[{key}]" if kind[0] != "." else f"{path}.{key}"
                _apply(rules, one, obj, where, causes, context, (), 0)
        else:
            sound = True
            for index, one in enumerate(as_list(value)):
                where = f"{path}[{index}]" if kind == "each" else path
                sound = _apply(rules, one, obj, where, causes, context, value, index) and sound
            if not sound:
                return


def _apply(
    rules: _Group,
    value: Any,
    obj: Any,
    path: str,
    causes: list[Cause],
    context: Context,
    items: Sequence[Any],
    at: int,
) -> bool:
    """Whether the line goes on: it does not after a value that is required and missing."""
    start = len(causes)
    for ask, mode, then, needed in rules:
        if then and len(causes) > start:
            return True
        if needed:
            before = len(causes)
            ask(value, obj, path, causes, context, items, at)
            if len(causes) > before:
                return False
        elif value or mode == "=" or (value is not None and not mode):
            ask(value, obj, path, causes, context, items, at)
    return True


def _spoken(words: str, obj: Any, context: Context) -> str:
    return _FIELD.sub(lambda match: str(reader(match[1], _FACTS)(obj, context, ()) or ""), words)
