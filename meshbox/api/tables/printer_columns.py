# SPDX-License-Identifier: Apache-2.0
"""Which columns the table of each built-in resource has, and what fills them: read from data/tables.txt.

A resource is a heading; below it, `shows` and `legacy` (for Kubernetes 1.14, where that is another) list columns: a
column is written ``Name``, ``Name:type`` where the type is not "string", and ``+Name`` where only ``-o wide`` shows it.
The other lines say what a column shows: a form of `_FORMS`, fields (of which the first that is there is taken), and
what stands where there is nothing. `cells` names a function that returns more cells, by column name. Name, Age and
"Created At" need not be among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import Struct

from labkit.ground.labels import written
from meshbox.api.table_files import at_steps, steps_of, table
from meshbox.api.tables.formats import label_text
from meshbox.contracts import Obj

__all__ = ["At", "Cells", "Table", "built_in", "cells", "column", "columns"]

Cells = dict[str, Any]


class At(Struct, frozen=True):
    """When, and in which Kubernetes' time, a table is printed.

    Args:
        now: The moment that ages are counted to.
        legacy: Whether Kubernetes 1.14 prints it instead of a current one.
    """

    now: datetime
    legacy: bool = False


class Table(Struct, frozen=True):
    """How one resource is printed."""

    current: list[Obj]
    legacy: list[Obj]
    cells: Callable[[Obj, At], Cells]

    def columns(self, at: At) -> list[Obj]:
        """The column definitions of the time that `at` says."""
        return self.legacy if at.legacy else self.current


_COLUMN = re.compile(r"(?P<wide>\+?)(?P<name>[^:]+)(?::(?P<type>\w+))?")


def column(name: str, type: str = "string", *, priority: int = 0, description: str = "", format: str = "") -> Obj:
    """One TableColumnDefinition; the column that names the object has the format "name"."""
    return {
        "name": name,
        "type": type,
        "format": format or ("name" if name == "Name" else ""),
        "description": description,
        "priority": priority,
    }


def columns(text: str) -> list[Obj]:
    """The column definitions that `text` lists."""
    matches = [_COLUMN.fullmatch(part.strip()) for part in text.split(",")]
    return [column(m["name"], m["type"] or "string", priority=1 if m["wide"] else 0) for m in matches if m is not None]


_FUNCTIONS: dict[str, Callable[[Obj, At], Cells]] = {}


def cells(name: str) -> Callable[[Callable[[Obj, At], Cells]], Callable[[Obj, At], Cells]]:
    """Make a function what `cells: NAME` means."""

    def declare(function: Callable[[Obj, At], Cells]) -> Callable[[Obj, At], Cells]:
        _FUNCTIONS[name] = function
        return function

    return declare


_FORMS: dict[str, Callable[[list[Any], str], Any]] = {
    "count": lambda values, _: len(values[0]) if isinstance(values[0], list) else 0,
    "given": lambda values, empty: empty if values[0] is None else str(values[0]),
    "join": lambda values, empty: ",".join(values[0] if isinstance(values[0], list) else ()) or empty,
    "labels": lambda values, _: label_text(values[0]),
    "number": lambda values, _: int(values[0] or 0),
    "ratio": lambda values, _: f"{int(values[0] or 0)}/{int(values[1] or 0)}",
    "selector": lambda values, empty: written(values[0]) or empty,
    "size": lambda values, _: len(values[0] or {}),
    "text": lambda values, empty: next(filter(None, values), empty),
    "truth": lambda values, _: bool(values[0]),
}
"""How the values of fields are shown, and what instead where there are none."""


def _filled(shown: dict[str, str]) -> Callable[[Obj, At], Cells]:
    function = shown.pop("cells", "")
    plan = []
    for name, text in shown.items():
        form, fields, *empty = text.split(maxsplit=2)
        plan.append((name, _FORMS[form], [steps_of(one) for one in fields.split("|")], "".join(empty)))

    def run(obj: Obj, at: At) -> Cells:
        own = {name: form([at_steps(obj, one) for one in fields], empty) for name, form, fields, empty in plan}
        return {**_FUNCTIONS[function](obj, at), **own} if function else own

    return run


def _table(lines: list[str]) -> Table:
    shown = dict(line.split(": ", 1) for line in lines)
    current = columns(shown.pop("shows"))
    legacy = shown.pop("legacy", "")
    return Table(current, columns(legacy) if legacy else current, _filled(shown))


_tables = {resource: _table(lines) for resource, lines in table("tables.txt").items()}


def built_in(resource: str) -> Table | None:
    """The table of a built-in resource; None where it has none of its own."""
    return _tables.get(resource)
