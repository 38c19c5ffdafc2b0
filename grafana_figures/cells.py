# SPDX-License-Identifier: Apache-2.0
"""Tables as plotly figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any
from urllib.parse import quote

from grafana_figures.lines import nothing, times
from grafana_figures.model import Field, Json, Spec
from grafana_figures.series import Asked
from grafana_figures.theme import Theme, color, layout, translucent
from grafana_figures.units import written

__all__ = ["Column", "columns", "table"]

Link = Callable[[str], str]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        key: Its name in the data: a label, "Time", "Value" or "Value #A".
        name: What is shown above it.
        values: Text, numbers, or None.
        field: How they are shown.
    """

    key: str
    name: str
    values: tuple[Any, ...]
    field: Field


def columns(spec: Spec, asked: Sequence[Asked]) -> list[Column]:
    """The table: a row for each set of labels, a column for each label, and one for each query's values.

    Several queries are merged: rows are one where the labels that both have are the same.
    """
    several = len([target for target in spec.targets if not target.hidden]) > 1
    labels: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    for one in asked:
        value = f"Value #{one.target.ref}" if several else "Value"
        for sample in one.samples:
            own = {name: text for name, text in sample.labels.items() if text or name != "__name__"}
            labels.update(dict.fromkeys(sorted(own)))
            at, number = sample.points[-1]
            for row in _same(rows, own, value) or [{"Time": at}]:
                if len(row) == 1:
                    rows.append(row)
                row |= own
                row[value] = number
    values = [f"Value #{one.target.ref}" if several else "Value" for one in asked]
    keys = ["Time", *sorted(labels), *values]
    found = [Column(key, key, tuple(row.get(key) for row in rows), spec.field) for key in keys]
    organised = _organised(found, spec.options.get("transformations") or ())
    return _sorted([_named(spec, column) for column in organised], spec.options)


def _named(spec: Spec, column: Column) -> Column:
    """The column with the field that overrides give to its name, which a transformation may have changed."""
    key = column.key
    ref = key.partition("#")[2] if key.startswith("Value") else ""
    kind = "number" if key.startswith("Value") else "time" if key == "Time" else "string"
    shown = spec.field_of(column.name, ref, kind=kind)
    shown = replace(shown, unit="") if kind == "string" else shown
    return replace(column, name=shown.name or column.name, field=shown)


def _same(rows: list[dict[str, Any]], own: Mapping[str, str], value: str) -> list[dict[str, Any]]:
    """The rows that a series with the labels `own` adds its value to."""
    fitting = [row for row in rows if value not in row]
    return [row for row in fitting if all(row.get(name, text) == text for name, text in own.items())]


def _organised(found: list[Column], transformations: Sequence[Json]) -> list[Column]:
    """Grafana's "organize" transformation: columns left out, renamed, in another order."""
    for one in transformations:
        if one.get("id") != "organize" or one.get("disabled"):
            continue
        options = one.get("options") or {}
        out, names = options.get("excludeByName") or {}, options.get("renameByName") or {}
        order = options.get("indexByName") or {}
        found = [replace(c, name=names.get(c.key) or c.name) for c in found if not out.get(c.key)]
        found.sort(key=lambda column: order.get(column.key, len(order)))
    return found


def _sorted(found: list[Column], options: Mapping[str, Any]) -> list[Column]:
    by: Column | None = None
    down = bool(options.get("desc"))
    number = options.get("column")
    if isinstance(number, int) and 0 <= number < len(found):
        by = found[number]
    for name, descending in options.get("sort") or ():
        by, down = next((column for column in found if name in (column.name, column.key)), None), descending
        break
    if by is None:
        by, down = (
            next((column for column in found if column.values and isinstance(column.values[0], str)), None),
            False,
        )
    if by is None:
        return found
    values = by.values
    there = [row for row, value in enumerate(values) if value is not None]
    rows = sorted(there, key=lambda row: (isinstance(values[row], str), values[row]), reverse=down)
    # What has no value comes last, whichever way the rest is sorted.
    rows += [row for row in range(len(values)) if values[row] is None]
    return [replace(column, values=tuple(column.values[row] for row in rows)) for column in found]


def table(title: str, found: Sequence[Column], theme: Theme, link: Link) -> Json:
    """A figure with the columns that are not hidden.

    Args:
        title: Above it.
        found: The columns.
        theme: Colours.
        link: Address of a dashboard in the JSON → address here, "" for none.
    """
    seen = [column for column in found if not column.field.hidden]
    rows = len(found[0].values) if found else 0
    frame = layout(title, theme, height=min(900, 96 + 28 * max(1, rows)))
    frame["margin"] = {"t": 44, "r": 10, "b": 8, "l": 10}
    figure: Json = {"data": [], "layout": frame}
    if not rows or not seen:
        return nothing(figure, theme)
    texts, fills, colors = [], [], []
    for column in seen:
        texts.append([_cell(column, row, found, link) for row in range(rows)])
        css = [column.field.color_of(v) if isinstance(v, (int, float)) else "" for v in column.values]
        back = [color(c) if c and column.field.cell == "background" else "" for c in css]
        fills.append([translucent(c, 0.55) if c else theme.panel for c in back])
        colors.append([color(c) if c and column.field.cell == "text" else theme.text for c in css])
    text_columns = [not column.key.startswith("Value") for column in seen]
    align = ["left" if text else "right" for text in text_columns]
    figure["data"] = [
        {
            "type": "table",
            "columnwidth": [_width(column.name, cells) for column, cells in zip(seen, texts, strict=True)],
            "header": {
                "values": [f"<b>{escape(column.name)}</b>" for column in seen],
                "align": align,
                "fill": {"color": theme.header},
                "line": {"color": theme.grid, "width": 1},
                "font": {"color": theme.text, "size": 14},
                "height": 28,
            },
            "cells": {
                "values": texts,
                "align": align,
                "fill": {"color": fills},
                "line": {"color": theme.grid, "width": 1},
                "font": {"color": colors, "size": 14},
                "height": 28,
            },
        }
    ]
    return figure


def _width(name: str, cells: Sequence[str]) -> int:
    longest = max(len(re.sub(r"<[^>]*>", "", text)) for text in (name, *cells))
    return min(40, max(9, longest + 2))


def _cell(column: Column, row: int, found: Sequence[Column], link: Link) -> str:
    value = column.values[row]
    text, _ = column.field.mapped(value)
    if not text:
        if column.key == "Time" and value is not None:
            text = times([value])[0].replace("T", " ")
        elif isinstance(value, (int, float)):
            text = written(value, column.field.unit, column.field.decimals)
        else:
            text = column.field.no_value if value is None else str(value)
    where = link(_filled(column.field.link, value, row, found)) if column.field.link else ""
    # Labels can hold anything, and plotly reads some tags.
    text = escape(text)
    return f'<a href="{escape(where)}">{text}</a>' if where else text


def _filled(pattern: str, value: Any, row: int, found: Sequence[Column]) -> str:
    """A link with the cells of its row filled in: "$__cell_2", "$__cell", "${__data.fields.name}"."""
    for number in range(len(found) - 1, -1, -1):
        own = quote(str(found[number].values[row] or ""), safe="")
        pattern = pattern.replace(f"$__cell_{number}", own)
        for name in (found[number].key, f'"{found[number].key}"'):
            pattern = pattern.replace(f"${{__data.fields.{name}}}", own)
    own = quote(str(value or ""), safe="")
    return pattern.replace("${__value.text}", own).replace("${__value.raw}", own).replace("$__cell", own)
