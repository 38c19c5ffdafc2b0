# SPDX-License-Identifier: Apache-2.0
"""Which columns the table of each built-in resource has, and what fills them.

A table is declared where its cells are computed::

    @table("configmaps", shows="Name, Data, Age")
    def config_map(obj, at): ...

A column is written ``Name``, ``Name:type`` where the type is not "string", and ``+Name`` where only ``-o wide`` shows
it. The function returns cells by column name; Name, Age and "Created At" need not be among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import Struct

from meshbox.contracts import Obj

__all__ = ["At", "Cells", "Table", "built_in", "column", "columns", "table"]

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


_tables: dict[str, Table] = {}
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


def table(
    *resources: str, shows: str, legacy: str = ""
) -> Callable[[Callable[[Obj, At], Cells]], Callable[[Obj, At], Cells]]:
    """Declare the table of `resources` (the same under several groups); `legacy`: the columns in Kubernetes 1.14."""
    current = columns(shows)
    old = columns(legacy) if legacy else current

    def declare(cells: Callable[[Obj, At], Cells]) -> Callable[[Obj, At], Cells]:
        for resource in resources:
            _tables[resource] = Table(current, old, cells)
        return cells

    return declare


def built_in(resource: str) -> Table | None:
    """The table of a built-in resource; None where it has none of its own."""
    return _tables.get(resource)
