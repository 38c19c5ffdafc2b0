# SPDX-License-Identifier: Apache-2.0
"""Where the nodes of a graph of calls are: in layers, callers left of those they call."""

from __future__ import annotations

__all__ = ["layers", "places"]


def layers(names: list[str], edges: list[tuple[str, str]]) -> dict[str, int]:
    """The column of each node: one more than its furthest caller; circles are cut where they come back."""
    callers: dict[str, set[str]] = {name: set() for name in names}
    for source, target in edges:
        if source != target:
            callers[target].add(source)
    columns: dict[str, int] = {}

    def column(name: str, path: tuple[str, ...]) -> int:
        if name not in columns:
            above = [column(one, (*path, name)) for one in callers[name] if one not in path and one != name]
            found = 1 + max(above, default=-1)
            if path:
                # Inside a circle the column depends on where one came in: only the outermost call is final.
                return found
            columns[name] = found
        return columns[name]

    for name in names:
        column(name, ())
    return columns


def places(names: list[str], edges: list[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Where each node is: its column from 0, and its row, which the middle of the column has as 0, upwards."""
    columns = layers(names, edges)
    rows: dict[str, float] = {}
    for number in sorted(set(columns.values())):
        members = [name for name in names if columns[name] == number]

        def wish(name: str) -> float:
            # Near its callers, so that few edges cross.
            above = [rows[source] for source, target in edges if target == name and source in rows]
            return sum(above) / len(above) if above else 0.0

        for index, name in enumerate(sorted(members, key=lambda one: (wish(one), one))):
            rows[name] = index - (len(members) - 1) / 2
    return {name: (float(columns[name]), -rows[name]) for name in names}
