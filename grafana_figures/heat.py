# SPDX-License-Identifier: Apache-2.0
"""Heatmaps as plotly figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from grafana_figures.lines import nothing, times
from grafana_figures.model import Json, Spec, number
from grafana_figures.promql import Window
from grafana_figures.series import Series
from grafana_figures.theme import Theme, layout
from grafana_figures.units import written

__all__ = ["heatmap"]

_SCALE = [[0, "rgba(94,79,162,0.0)"], [0.02, "#3b528b"], [0.3, "#21918c"], [0.65, "#b5de2b"], [1, "#f2652b"]]


def heatmap(spec: Spec, title: str, series: Sequence[Series], window: Window, theme: Theme) -> Json:
    """A row for each bucket of a Prometheus histogram, coloured by how many values fell into it alone."""
    frame = layout(title, theme)
    frame["xaxis"] = {"type": "date", "range": times([window.start, window.end]), "gridcolor": theme.grid}
    frame["xaxis"] |= {"tickfont": {"size": 13, "color": theme.faint}, "nticks": 7, "automargin": True}
    frame["yaxis"] = {"tickfont": {"size": 13, "color": theme.faint}, "gridcolor": theme.grid, "automargin": True}
    figure: Json = {"data": [], "layout": frame}
    rows = _rows(series)
    if not rows or not any(value for _, values in rows for value in values):
        return nothing(figure, theme)
    unit = spec.field.unit
    names = [_bound(upper, unit, spec.field.decimals) for upper, _ in rows]
    figure["data"] = [
        {
            "type": "heatmap",
            "x": times([at for at, _ in series[0].points]),
            "y": names,
            "z": [values for _, values in rows],
            "colorscale": _SCALE,
            "zmin": 0,
            "hovertemplate": "≤ %{y}: %{z:.3g}/s<extra>%{x|%H:%M:%S}</extra>",
            "colorbar": {"thickness": 10, "tickfont": {"size": 13, "color": theme.faint}, "outlinewidth": 0},
        }
    ]
    return figure


def _bound(upper: float, unit: str, decimals: int | None) -> str:
    return "more" if math.isinf(upper) else written(upper, unit, decimals or None)


def _rows(series: Sequence[Series]) -> list[tuple[float, list[Any]]]:
    """Upper bound and values of each bucket: Prometheus' are cumulative, so the one below is taken off."""
    buckets = []
    for one in series:
        upper = number(one.labels.get("le")) if "le" in one.labels else None
        if upper is not None:
            buckets.append((upper, one))
    buckets.sort(key=lambda bucket: bucket[0])
    found = []
    below: Sequence[float | None] = ()
    for upper, one in buckets:
        values = one.values
        pairs = zip(values, below or [0.0] * len(values), strict=True)
        own = [None if value is None else max(0.0, value - (lower or 0.0)) for value, lower in pairs]
        found.append((upper, own))
        below = values
    return found
