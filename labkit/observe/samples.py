# SPDX-License-Identifier: Apache-2.0
"""Prometheus' samples as tables."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from labkit.ground.prometheus import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["table_of"]

_OWN = ("time", "value")
"""What each table has beside its labels."""


def table_of(found: Result, expression: str) -> pd.DataFrame:
    """The samples as a table.

    Args:
        found: The answer.
        expression: What was asked.

    Returns:
        Indexed by time (datetime64[ns, UTC]): a column of texts for each label, and `value` (float64). Its `attrs` have
        "promql", "unit" and "warnings".
    """
    import pandas as pd

    from grafana_figures.quantities import unit_of

    names = {name for labels, _ in found for name in labels}
    columns = {name: _column(name, names) for name in names}
    rows = [
        # In whole milliseconds, as Prometheus has them: a float of seconds would not hold them all.
        {"time": round(at * 1000), **{columns[name]: text for name, text in labels.items()}, "value": value}
        for labels, points in found
        for at, value in points
    ]
    table = pd.DataFrame(rows, columns=None if rows else ["time", "value"])
    table["time"] = pd.to_datetime(table["time"].astype("int64"), unit="ms", utc=True).astype("datetime64[ns, UTC]")
    table["value"] = table["value"].astype("float64")
    shown = [column for column in table.columns if column not in ("time", "value")]
    table[shown] = table[shown].fillna("")
    table = table.set_index("time")[[*shown, "value"]]
    warnings = list(found.warnings) + [
        f"the label {name} is the column {column}" for name, column in columns.items() if name != column
    ]
    table.attrs = {"promql": expression, "unit": unit_of(expression), "warnings": warnings}
    return table


def _column(label: str, labels: Collection[str]) -> str:
    """A column's name for a label: its own, but for the two that the table has; longer as Prometheus does it."""
    if label not in _OWN:
        return label
    column = f"exported_{label}"
    while column in labels:
        column = f"exported_{column}"
    return column
