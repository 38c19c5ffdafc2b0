# SPDX-License-Identifier: Apache-2.0
"""Graphs over time as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_figures.model import Field, Json, Spec
from grafana_figures.promql import Window
from grafana_figures.series import Series, reduced
from grafana_figures.theme import Theme, color, layout, series_color, series_dash, translucent
from grafana_figures.units import ticks, written

__all__ = ["areas", "graph", "hover_name", "nothing", "times"]

_CALCS = {"last": "last", "lastNotNull": "last", "max": "max", "min": "min", "mean": "mean", "sum": "total"}


def times(moments: Sequence[float]) -> list[str]:
    """Moments as plotly reads dates, in UTC."""
    import time

    return [
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + (f".{round(at % 1 * 1000):03d}" if at % 1 else "")
        for at in moments
    ]


def graph(spec: Spec, title: str, series: Sequence[Series], window: Window, theme: Theme) -> Json:
    """A figure with a line, or bars, for each series; values are drawn as they are, with axes in their unit."""
    traces = [_trace(one, index, theme) for index, one in enumerate(series)]
    calcs = [name for name in spec.options.get("calcs", ()) if name in _CALCS]
    for trace, one in zip(traces, series, strict=True):
        trace["meta"] = {
            _CALCS[name]: written(reduced(one.values, _reducer(name)), one.field.unit, one.field.decimals)
            for name in calcs
        }
    traces += [trace for one in traces for trace in areas(one)]
    frame = layout(title, theme)
    legend = spec.options.get("legend", "bottom")
    frame |= {
        "xaxis": _time_axis(window, theme),
        "showlegend": bool(legend) and len(traces) > 0,
        "legend": _legend(legend, theme),
        "hovermode": "x unified" if len(traces) > 1 else "x",
        "bargap": 0.15,
        "shapes": _steps(spec.field, theme),
    }
    if any(one.field.stack and one.field.style == "bars" for one in series):
        frame["barmode"] = "relative"
    left = [one for one in series if one.field.axis != "right"]
    right = [one for one in series if one.field.axis == "right"]
    frame["yaxis"] = _value_axis(spec.field, left, theme)
    if right:
        frame["yaxis2"] = _value_axis(right[0].field, right, theme) | {"overlaying": "y", "side": "right"}
        frame["yaxis2"]["showgrid"] = False
    figure: Json = {"data": traces, "layout": frame}
    return figure if traces else nothing(figure, theme, spec.field.no_value)


def nothing(figure: Json, theme: Theme, text: str = "") -> Json:
    """`figure` with a word that there is nothing to draw."""
    note = {"text": text or "No data", "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
    for axis in ("xaxis", "yaxis"):
        figure["layout"][axis] = {"visible": False}
    figure["layout"]["annotations"] = [*figure["layout"].get("annotations", ()), note]
    note["font"] = {"size": 16, "color": theme.faint}
    return figure


def _reducer(name: str) -> str:
    return "lastNotNull" if name == "last" else name


def _time_axis(window: Window, theme: Theme) -> Json:
    first, last = times([window.start, window.end])
    return {
        "type": "date",
        "range": [first, last],
        "gridcolor": theme.grid,
        "linecolor": theme.grid,
        "tickfont": {"size": 13, "color": theme.faint},
        "nticks": 6,
        "tickangle": 0,
        "tickformat": "%H:%M:%S" if window.length <= 180 else "%H:%M" if window.length <= 86400 else "%d %b %H:%M",
        "zeroline": False,
        "hoverformat": "%H:%M:%S",
        "automargin": True,
    }


def _legend(place: str, theme: Theme) -> Json:
    found: Json = {"font": {"size": 13, "color": theme.text}, "bgcolor": "rgba(0,0,0,0)", "itemwidth": 30}
    if place == "right":
        return found | {"x": 1.02, "y": 1, "xanchor": "left"}
    return found | {"orientation": "h", "x": 0, "y": -0.14, "yanchor": "top"}


def _trace(one: Series, index: int, theme: Theme) -> Json:
    shown = one.field
    css = color(shown.color) if shown.color else series_color(index)
    sign = -1 if shown.negative else 1
    if shown.nulls == "zero":
        values: list[Any] = [sign * value if value is not None else 0 for value in one.values]
    else:
        values = [sign * value if value is not None else None for value in one.values]
    trace: Json = {
        "name": one.name,
        "x": times([at for at, _ in one.points]),
        "y": values,
        "text": [written(value, shown.unit, shown.decimals) for value in one.values],
        "hovertemplate": "%{text}" + (f"<extra>{hover_name(one.name)}</extra>"),
        "showlegend": shown.in_legend,
    }
    if shown.axis == "right":
        trace["yaxis"] = "y2"
    if shown.style == "bars":
        return trace | {"type": "bar", "marker": {"color": translucent(css, max(0.2, shown.fill / 100))}}
    alone = sum(value is not None for value in values) == 1
    mode = "markers" if shown.style == "points" else "lines+markers" if shown.points or alone else "lines"
    trace |= {
        "type": "scatter",
        "mode": mode,
        "connectgaps": shown.nulls == "connected",
        "line": {
            "color": css,
            "width": max(2.0, shown.width),
            "shape": "hv" if shown.stepped else "linear",
            "dash": "dash" if shown.dashed else "solid" if shown.color else series_dash(index),
        },
        "marker": {"size": 4, "color": css},
    }
    if shown.stack:
        trace |= {"stackgroup": shown.stack, "stackgaps": "infer zero"}
        # Not null, which plotly would leave undrawn inside a stack.
        trace["y"] = [value if value is not None else 0 for value in values]
    if shown.fill or shown.stack:
        trace["fillcolor"] = translucent(css, min(1.0, shown.fill / 100) or 0.0)
        if not shown.stack:
            trace["fill"] = "tozeroy"
    return trace


def areas(trace: Json) -> list[Json]:
    """What fills the areas below a line that has gaps, which plotly's own filling would close; none if it has none."""
    values = trace["y"]
    there = [at for at, value in enumerate(values) if value is not None]
    if trace.get("fill") != "tozeroy" or trace.get("connectgaps") or not there:
        return []
    if len(there) == there[-1] - there[0] + 1:
        return []
    del trace["fill"]
    x: list[Any] = []
    y: list[Any] = []
    for at in there:
        if at == 0 or values[at - 1] is None:
            x.append(trace["x"][at])
            y.append(0)
        x.append(trace["x"][at])
        y.append(values[at])
        if at + 1 == len(values) or values[at + 1] is None:
            x += [trace["x"][at], None]
            y += [0, None]
    kept: Json = {name: trace[name] for name in ("name", "fillcolor", "xaxis", "yaxis") if name in trace}
    drawn = {"type": "scatter", "mode": "none", "fill": "toself", "hoverinfo": "skip", "showlegend": False}
    return [{**kept, **drawn, "x": x, "y": y}]


def hover_name(name: str) -> str:
    """A name inside a hover template, where % { would begin a variable."""
    return name.replace("%{", "% {").replace("<", "&lt;")


def _steps(shown: Field, theme: Theme) -> list[Json]:
    if shown.shown_steps == "off":
        return []
    found = []
    for step in shown.steps:
        if step.value is not None:
            line = {"color": color(step.color or theme.faint), "width": 1, "dash": "dash"}
            ends = {"x0": 0, "x1": 1, "xref": "paper", "y0": step.value, "y1": step.value}
            found.append({"type": "line", **ends, "line": line})
    return found


def _value_axis(shown: Field, series: Sequence[Series], theme: Theme) -> Json:
    """An axis whose marks are round in its unit, although the values are the raw ones."""
    axis: Json = {
        "gridcolor": theme.grid,
        "zerolinecolor": theme.grid,
        "tickfont": {"size": 13, "color": theme.faint},
        "ticks": "outside",
        "ticklen": 5,
        "tickcolor": "rgba(0,0,0,0)",
        "title": {"text": shown.label, "font": {"size": 13, "color": theme.faint}},
        "automargin": True,
    }
    if shown.log:
        return axis | {"type": "log", "exponentformat": "SI"}
    low, high = _extent(shown, series)
    places, texts = ticks(low, high, shown.unit)
    return axis | {"range": [low, high], "tickvals": places, "ticktext": texts, "fixedrange": True}


def _extent(shown: Field, series: Sequence[Series]) -> tuple[float, float]:
    sign = [-1 if one.field.negative else 1 for one in series]
    values = [s * value for s, one in zip(sign, series, strict=True) for value in one.values if value is not None]
    stacks: dict[tuple[str, float], float] = {}
    for one in series:
        for at, value in one.points if one.field.stack else ():
            stacks[one.field.stack, at] = stacks.get((one.field.stack, at), 0.0) + (value or 0.0)
    values += stacks.values()
    low = shown.minimum if shown.minimum is not None else min([*values, 0.0] if shown.fill else values or [0.0])
    high = shown.maximum if shown.maximum is not None else max(values or [1.0])
    if high <= low:
        # A flat line stands in the middle, or on the ground where it is 0.
        low, high = (low, low + 1.0) if not low else sorted((low - abs(low) / 2, low + abs(low) / 2))
    room = (high - low) * 0.08
    return (
        low if shown.minimum is not None or low == 0 else low - room,
        high if shown.maximum is not None else high + room,
    )
