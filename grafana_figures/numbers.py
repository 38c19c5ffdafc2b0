# SPDX-License-Identifier: Apache-2.0
"""Single numbers and gauges as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_figures.lines import areas, nothing, times
from grafana_figures.model import Field, Json, Spec
from grafana_figures.series import Series, reduced
from grafana_figures.theme import Theme, color, layout, translucent
from grafana_figures.units import written

__all__ = ["bars", "gauge", "stat", "value_of"]

_CALM = "#5794f2"


def value_of(spec: Spec, series: Sequence[Series]) -> float | None:
    """The number that the panel shows: of its first series, reduced as the panel says."""
    if not series:
        return None
    if spec.options.get("reduce") == "name":
        return None
    return reduced(series[0].values, str(spec.options.get("reduce", "lastNotNull")))


def _text(spec: Spec, shown: Field, value: float | None, name: str = "") -> tuple[str, str]:
    """What is written for `value`, and its colour."""
    text, css = shown.mapped(value)
    if not text:
        if spec.options.get("reduce") == "name" or spec.options.get("text") == "name":
            text = name
        elif value is None:
            text = shown.no_value or "No data"
        else:
            before, after = spec.options.get("before", ""), spec.options.get("after", "")
            text = f"{before}{written(value, shown.unit, shown.decimals)}{after}"
    return text, color(css or shown.color or shown.color_of(value))


def stat(spec: Spec, title: str, series: Sequence[Series], theme: Theme) -> Json:
    """A number for each series, the time behind it as a sparkline."""
    shown = list(series) or [Series("", {}, "", (), spec.field)]
    frame = layout(title, theme, height=150)
    frame |= {"margin": {"t": 40, "r": 8, "b": 8, "l": 8}, "showlegend": False, "hovermode": "x", "annotations": []}
    mode = str(spec.options.get("color", "value"))
    traces: list[Json] = []
    for index, one in enumerate(shown):
        value = reduced(one.values, str(spec.options.get("reduce", "lastNotNull")))
        text, css = _text(spec, one.field, value, one.name)
        css = css or _CALM
        left, right = index / len(shown), (index + 1) / len(shown)
        if mode == "background" and value is not None:
            frame["paper_bgcolor"] = frame["plot_bgcolor"] = css
        written_in = css if mode == "value" and value is not None else theme.text if value is not None else theme.faint
        label = f"<br><span style='font-size:14px'>{one.name}</span>" if len(shown) > 1 else ""
        note: Json = {"text": f"<b>{text}</b>{label}", "x": (left + right) / 2, "y": 0.55, "showarrow": False}
        note |= {"xref": "paper", "yref": "paper", "font": {"size": 34 if len(shown) < 3 else 20, "color": written_in}}
        frame["annotations"].append(note)
        suffix = "" if not index else str(index + 1)
        frame[f"xaxis{suffix}"] = {"visible": False, "domain": [left, right], "fixedrange": True, "type": "date"}
        there = [point for point in one.values if point is not None]
        top = max(there, default=1.0) or 1.0
        # Twice as high as the line: the number stands above it.
        span = [min([*there, 0.0]), top * 2.2 if top > 0 else 1.0]
        frame[f"yaxis{suffix}"] = {"visible": False, "fixedrange": True, "range": span, "anchor": f"x{suffix}"}
        if spec.options.get("sparkline") and there:
            line = _spark(one, css, suffix)
            traces += [line, *areas(line)]
    return {"data": traces, "layout": frame}


def _spark(one: Series, css: str, suffix: str) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": one.name,
        "x": times([at for at, _ in one.points]),
        "y": one.values,
        "text": [written(value, one.field.unit, one.field.decimals) for value in one.values],
        "hovertemplate": "%{text}<extra></extra>",
        "connectgaps": one.field.nulls == "connected",
        "line": {"color": css, "width": 1.5},
        "fill": "tozeroy",
        "fillcolor": translucent(css, 0.16),
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
    }


def gauge(spec: Spec, title: str, series: Sequence[Series], theme: Theme) -> Json:
    """A dial for each series."""
    frame = layout(title, theme, height=220)
    frame |= {"annotations": [], "margin": {"t": 48, "r": 24, "b": 16, "l": 24}}
    figure: Json = {"data": [], "layout": frame}
    for index, one in enumerate(series):
        value = reduced(one.values, str(spec.options.get("reduce", "lastNotNull")))
        text, css = _text(spec, one.field, value, one.name)
        low, high = _bounds(one.field)
        steps = _bands(one.field, low, high)
        domain = {"x": [index / len(series), (index + 1) / len(series)], "y": [0, 1]}
        dial: Json = {
            "axis": {"range": [low, high], "visible": False},
            "bar": {"color": css or _CALM, "thickness": 0.6},
        }
        dial |= {"bgcolor": theme.header, "borderwidth": 0, "steps": steps}
        trace: Json = {"type": "indicator", "mode": "gauge", "value": value, "domain": domain, "gauge": dial}
        figure["data"].append(trace)
        label = f"<br><span style='font-size:14px'>{one.name}</span>" if len(series) > 1 else ""
        note: Json = {"text": f"<b>{text}</b>{label}", "x": (index + 0.5) / len(series), "y": 0, "showarrow": False}
        note |= {
            "xref": "paper",
            "yref": "paper",
            "yanchor": "bottom",
            "font": {"size": 26, "color": css or theme.text},
        }
        frame["annotations"].append(note)
    return figure if series else nothing(figure, theme, spec.field.no_value)


def _bounds(shown: Field) -> tuple[float, float]:
    low = shown.minimum or 0.0
    return low, shown.maximum if shown.maximum is not None else 1.0 if shown.unit == "percentunit" else 100.0


def _bands(shown: Field, low: float, high: float) -> list[Json]:
    starts: list[Any] = [low if step.value is None else step.value for step in shown.steps]
    if shown.percent:
        starts = [low + (high - low) * start / 100 for start in starts]
    ends = [*starts[1:], high]
    return [
        {"range": [start, end], "color": translucent(color(step.color), 0.25)}
        for step, start, end in zip(shown.steps, starts, ends, strict=True)
    ]


def bars(spec: Spec, title: str, series: Sequence[Series], theme: Theme) -> Json:
    """A bar for each series."""
    frame = layout(title, theme)
    figure: Json = {"data": [], "layout": frame}
    values = [reduced(one.values, str(spec.options.get("reduce", "lastNotNull"))) for one in series]
    texts = [_text(spec, one.field, value, one.name) for one, value in zip(series, values, strict=True)]
    frame["xaxis"] = {"gridcolor": theme.grid, "range": list(_bounds(spec.field)) if spec.field.maximum else None}
    frame["yaxis"] = {"automargin": True, "autorange": "reversed"}
    trace: Json = {"type": "bar", "orientation": "h", "x": values, "y": [one.name for one in series]}
    trace |= {"text": [text for text, _ in texts], "marker": {"color": [css or _CALM for _, css in texts]}}
    figure["data"] = [trace | {"hovertemplate": "%{y}: %{text}<extra></extra>"}] if series else []
    return figure if series else nothing(figure, theme, spec.field.no_value)
