# SPDX-License-Identifier: Apache-2.0
"""What a panel's JSON says, in one form for Grafana's old kinds of panels (graph, singlestat) and today's."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["Field", "Grid", "Json", "Override", "Spec", "Step", "Target"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A colour from a value on; None is minus infinity."""

    value: float | None
    color: str


@dataclass(frozen=True)
class Field:
    """How the values of a series or of a table's column are shown.

    Args:
        unit: Grafana's name of the unit.
        decimals: None for as many as needed.
        minimum: The axis', or None.
        maximum: The axis', or None.
        steps: The colours from values on, rising.
        percent: Whether `steps` are percent of minimum to maximum.
        shown_steps: How a graph shows `steps`: "off", "line", "area" or both.
        mappings: Grafana's value mappings, in today's form.
        color: A fixed colour, or "".
        no_value: Shown where there is no value.
        name: Shown in place of the series' or column's name.
        axis: "left", "right" or "hidden".
        label: The axis' label.
        log: Base of a logarithmic axis, or 0.
        hidden: Whether it is left out.
        in_legend: Whether it is in the legend.
        style: "line", "bars" or "points".
        points: Whether a line has points.
        fill: Opacity of the area below a line, 0 to 100.
        width: Of the line, in pixels.
        stack: Name of the stack, or "".
        nulls: What missing values are: "gap", "zero" or "connected".
        stepped: Whether a line goes in steps.
        dashed: Whether a line is dashed.
        negative: Whether values are drawn below zero.
        cell: What `steps` colour in a table: "", "background" or "text".
        link: Where a cell leads to.
    """

    unit: str = ""
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    steps: tuple[Step, ...] = ()
    percent: bool = False
    shown_steps: str = "off"
    mappings: tuple[Json, ...] = ()
    color: str = ""
    no_value: str = ""
    name: str = ""
    axis: str = "left"
    label: str = ""
    log: int = 0
    hidden: bool = False
    in_legend: bool = True
    style: str = "line"
    points: bool = False
    fill: float = 0
    width: float = 1
    stack: str = ""
    nulls: str = "gap"
    stepped: bool = False
    dashed: bool = False
    negative: bool = False
    cell: str = ""
    link: str = ""

    def color_of(self, value: float | None) -> str:
        """The colour that `steps` give to `value`; "" if none does."""
        if value is None:
            return ""
        if self.percent:
            low, high = self.minimum or 0.0, 100.0 if self.maximum is None else self.maximum
            value = (value - low) / ((high - low) or 1.0) * 100
        found = ""
        for step in self.steps:
            if step.value is None or value >= step.value:
                found = step.color
        return found

    def mapped(self, value: float | str | None) -> tuple[str, str]:
        """The text and the colour that the value mappings give to `value`; two empty strings if none does."""
        for mapping in self.mappings:
            options = mapping.get("options") or {}
            result = _matching(mapping.get("type", ""), options, value)
            if result is not None:
                return str(result.get("text") or ""), str(result.get("color") or "")
        return "", ""


def _matching(kind: str, options: Mapping[str, Any], value: float | str | None) -> Json | None:
    if kind == "value":
        keys = {str(value)} | ({f"{value:g}"} if isinstance(value, (int, float)) else set())
        return next((options[key] for key in keys if isinstance(options.get(key), dict)), None)
    result: Json | None = options.get("result")
    if kind == "special":
        names = {"null": value is None, "null+nan": value is None, "nan": value is None, "empty": value == ""}
        return result if names.get(str(options.get("match"))) else None
    if kind == "range" and isinstance(value, (int, float)):
        low, high = number(options.get("from")), number(options.get("to"))
        return result if (low is None or value >= low) and (high is None or value <= high) else None
    if kind == "regex" and isinstance(value, str):
        return result if re.search(slashed(str(options.get("pattern", ""))), value) else None
    return None


@dataclass(frozen=True)
class Override:
    """Changes to the fields of some series or columns.

    Args:
        matcher: "byName", "byRegexp", "byFrameRefID", "byType" or "byValue".
        options: What it matches.
        changes: Names of attributes of `Field` → values.
    """

    matcher: str
    options: Any
    changes: Mapping[str, Any]

    def matches(self, name: str, ref: str, values: Iterator[float | None] | None = None, kind: str = "number") -> bool:
        """Whether this is about the series or column `name` of the query `ref`."""
        if self.matcher == "byName":
            return bool(name == self.options)
        if self.matcher == "byRegexp":
            return re.search(slashed(str(self.options)), name) is not None
        if self.matcher == "byFrameRefID":
            return bool(ref == self.options)
        if self.matcher == "byType":
            return bool(kind == self.options)
        if self.matcher == "byNames":
            names = (self.options or {}).get("names") or []
            return (name not in names) if (self.options or {}).get("mode") == "exclude" else name in names
        if self.matcher == "byValue" and (self.options or {}).get("reducer") == "allIsNull":
            return values is not None and all(value is None for value in values)
        return False


@dataclass(frozen=True)
class Target:
    """A query of a panel.

    Args:
        ref: Its letter or name.
        expression: PromQL, with variables.
        legend: The names of its series, e.g. "{{pod}}".
        format: "time_series", "table" or "heatmap".
        instant: Whether only the last moment is asked for.
        hidden: Whether its series are left out.
        interval: The least distance of points, e.g. "5s", or "".
        factor: What the distance of points is multiplied with.
    """

    ref: str
    expression: str
    legend: str = ""
    format: str = "time_series"
    instant: bool = False
    hidden: bool = False
    interval: str = ""
    factor: int = 1


@dataclass(frozen=True)
class Grid:
    """Where a panel is, on 24 columns and in rows of 38 pixels."""

    x: int = 0
    y: int = 0
    w: int = 12
    h: int = 8


@dataclass(frozen=True)
class Spec:
    """A panel.

    Args:
        id: Its number in the dashboard.
        title: With variables.
        kind: "timeseries", "stat", "gauge", "bargauge", "table", "heatmap", "text", "row", or "" if that is unknown.
        type: As its JSON says.
        description: What it is about.
        grid: Where it is.
        targets: Its queries.
        field: How values are shown.
        overrides: Exceptions to that, in order.
        source: The name of its datasource, or "".
        options: What only this kind of panel has, see `grafana_figures.parse`.
        panels: Those of a row that is collapsed.
    """

    id: int
    title: str
    kind: str
    type: str
    description: str = ""
    grid: Grid = Grid()
    targets: tuple[Target, ...] = ()
    field: Field = Field()
    overrides: tuple[Override, ...] = ()
    source: str = ""
    options: Json = dataclasses.field(default_factory=dict)
    panels: tuple[Spec, ...] = ()

    def field_of(self, name: str, ref: str, values: list[float | None] | None = None, kind: str = "number") -> Field:
        """How the series or column `name` of the query `ref` is shown."""
        found = self.field
        for override in self.overrides:
            if override.matches(name, ref, iter(values) if values is not None else None, kind):
                found = replace(found, **{key: value for key, value in override.changes.items() if key in _FIELDS})
        return found


_FIELDS = frozenset(one.name for one in fields(Field))


def number(value: Any) -> float | None:
    """A number that may have been written as text; None if it is none, or empty."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def slashed(text: str) -> str:
    """The Python pattern of a JavaScript one, with or without slashes around it."""
    inside = text[1 : text.rindex("/")] if text.startswith("/") and text.rindex("/") > 0 else text
    flags = "(?i)" if inside != text and "i" in text[text.rindex("/") :] else ""
    return flags + re.sub(r"\(\?<(?![=!])", "(?P<", inside)
