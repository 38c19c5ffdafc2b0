# SPDX-License-Identifier: Apache-2.0
"""A drawn panel, and how it is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from grafana_figures import heat, lines, numbers, texts
from grafana_figures.cells import Column, columns, table
from grafana_figures.expressions import selector_of, written
from grafana_figures.model import Grid, Json, Spec
from grafana_figures.promql import Api, Window
from grafana_figures.reasons import causes
from grafana_figures.series import Asked, Series, ask, clock, named, reduced
from grafana_figures.theme import DARK, Theme, layout
from grafana_figures.variables import Choices
from labkit.ground.errors import ClusterError, SettingError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["Panel", "Pen", "as_json", "draw"]


_FEW = "its series are there, with too few samples in this time"
_MOST_MISSING = 3
"""How many missing metrics a panel names, and how many reasons it tells."""


@dataclass(frozen=True)
class Panel:
    """A panel as it was drawn.

    Args:
        id: Its number in the dashboard.
        title: With variables filled in.
        kind: "timeseries", "stat", "gauge", "bargauge", "table", "heatmap", "text", "row"; "" for an unknown type.
        type: As the dashboard's JSON says.
        figure: A plotly figure: {"data": […], "layout": {…}}.
        queries: The PromQL as it was sent.
        reason: Why it could not be drawn; "" if it was.
        note: Why it shows no data, where that is known: metrics that nothing here has.
        description: What it is about.
        grid: Where it is on the page.
        unit: Grafana's name of the unit.
        value: The number that it shows, or that its first series ended with; None if there is none.
        series: What a graph draws.
        columns: What a table shows, hidden ones as well.
        html: The text of a text panel.
        collapsed: Whether a row hides the panels below it.
    """

    id: int
    title: str
    kind: str
    type: str
    figure: Json = field(repr=False)
    queries: tuple[str, ...] = field(default=(), repr=False)
    reason: str = ""
    note: str = ""
    description: str = field(default="", repr=False)
    grid: Grid = field(default_factory=Grid, repr=False)
    unit: str = ""
    value: float | None = None
    series: tuple[Series, ...] = field(default=(), repr=False)
    columns: tuple[Column, ...] = field(default=(), repr=False)
    html: str = field(default="", repr=False)
    collapsed: bool = False

    @property
    def drawn(self) -> bool:
        """Whether it could be drawn."""
        return not self.reason

    @property
    def empty(self) -> bool:
        """Whether its queries return nothing."""
        return bool(self.queries) and not self.series and not any(column.values for column in self.columns)

    @property
    def values(self) -> dict[str, float | None]:
        """The last value of each series, by the name in the legend."""
        return {one.name: reduced(one.values, "lastNotNull") for one in self.series}

    @property
    def table(self) -> pd.DataFrame:
        """What it shows, as numbers.

        Returns:
            Of a table: its columns by the names shown, hidden ones left out. Of any other panel: index `time`
            (datetime64, UTC), a column (float64) a series.
        """
        import pandas as pd

        if self.kind == "table":
            shown = [column for column in self.columns if not column.field.hidden]
            return pd.DataFrame({column.name: list(column.values) for column in shown})
        parts = {
            one.name: pd.Series(one.values, index=[at for at, _ in one.points], dtype="float64") for one in self.series
        }
        frame = pd.DataFrame(parts)
        frame.index = pd.to_datetime(frame.index.astype("float64"), unit="s", utc=True).rename("time")
        return frame

    def plotly(self) -> go.Figure:
        """The figure as plotly's own object."""
        import plotly.graph_objects as go

        return go.Figure(self.figure)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """What a notebook shows: the figure, or the text."""
        if self.html:
            return {"text/html": self.html, "text/plain": texts.plain(self.html)}
        bundle: dict[str, Any] = self.plotly()._repr_mimebundle_()
        return {**(bundle or {}), "text/plain": repr(self)}


@dataclass(frozen=True)
class Pen:
    """What panels are drawn with.

    Args:
        api: Prometheus.
        window: The dashboard's time.
        choices: The variables.
        scrape: How often Prometheus takes samples, in seconds.
        sources: Name of each datasource → its type.
        theme: Colours.
        link: Address of a dashboard in the JSON → address here.
        most_points: Of a line.
    """

    api: Api
    window: Window
    choices: Choices
    scrape: float = 15.0
    sources: dict[str, str] = field(default_factory=dict)
    theme: Theme = DARK
    link: Callable[[str], str] = str
    most_points: int = 300


def draw(spec: Spec, pen: Pen) -> Panel:
    """The panel, drawn; one that cannot be says why, in its figure and in `reason`."""
    title = pen.choices.expand(spec.title, form="text")
    reason = _unknown(spec, pen)
    asked: list[Asked] = []
    time = clock(spec, pen.window, pen.scrape, pen.most_points)
    if not reason and spec.targets:
        try:
            asked = ask(spec, pen.api, time, pen.choices)
        except ClusterError as error:
            reason = error.message
    given: dict[str, Any] = {"queries": tuple(one.expression for one in asked)}
    if reason:
        given |= {"figure": _excuse(title, reason, pen.theme), "reason": reason}
    elif spec.kind == "table":
        found = columns(spec, asked)
        given |= {"columns": tuple(found), "figure": table(title, found, pen.theme, pen.link)}
    elif spec.kind == "text":
        content = pen.choices.expand(str(spec.options.get("content") or ""), form="text")
        html = texts.markdown(content) if spec.options.get("mode") == "markdown" else texts.clean(content)
        given |= {"html": html, "figure": texts.figure(title, html, pen.theme)}
    elif spec.kind == "row":
        frame = layout(title, pen.theme, height=40)
        given |= {"figure": {"data": [], "layout": frame}, "collapsed": bool(spec.options.get("collapsed"))}
    else:
        series = named(asked, spec, time, pen.choices)
        figure = _figure(spec, title, series, pen, time.window)
        given |= {"series": tuple(series), "figure": figure, "value": numbers.value_of(spec, series)}
    panel = Panel(
        id=spec.id,
        title=title,
        kind=spec.kind,
        type=spec.type,
        description=pen.choices.expand(spec.description, form="text"),
        grid=spec.grid,
        unit=spec.field.unit,
        **given,
    )
    return _noted(panel, pen) if panel.empty and not reason else panel


def _noted(panel: Panel, pen: Pen) -> Panel:
    """An empty panel, with what is missing below its "No data", if that can be told."""
    try:
        note = _missing(panel, pen)
    except (ClusterError, SettingError):
        return panel
    if not note:
        return panel
    words: Json = {"text": "<br>".join(textwrap.wrap(note, 44)), "x": 0.5, "y": 0.5, "yshift": -18, "yanchor": "top"}
    words |= {"xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 13, "color": pen.theme.faint}}
    frame = {**panel.figure["layout"], "annotations": [*panel.figure["layout"].get("annotations", ()), words]}
    return replace(panel, note=note, figure={**panel.figure, "layout": frame})


def _missing(panel: Panel, pen: Pen) -> str:
    """Which metrics, or which series of them, a panel asks for and Prometheus does not have."""

    def empty(expression: str) -> bool:
        return not pen.api.query(expression, pen.window.end)

    found = [cause for query in panel.queries for cause in causes(query, empty)]
    asked = [one if isinstance(one, str) else selector_of(one) for one in dict.fromkeys(found)]
    known = pen.api.names()
    missing = list(dict.fromkeys(one[0] for one in asked if not isinstance(one, str) and one[0] not in {"", *known}))
    reasons = []
    if missing:
        shown = [*missing[:_MOST_MISSING], *(["…"] if len(missing) > _MOST_MISSING else [])]
        reasons.append("there is no metric " + ", ".join(shown))
    for one in asked:
        if isinstance(one, str):
            reasons.append(one)
        elif one[0] not in missing and one[1] and empty(f"count({written(*one)})"):
            name, matchers = one
            reasons.append(f"no series{f' of {name}' if name else ''} has {written('', matchers)[1:-1]}")
    return "; ".join(dict.fromkeys(reasons[:_MOST_MISSING])) or (_FEW if asked else "")


def _figure(spec: Spec, title: str, series: Sequence[Series], pen: Pen, window: Window) -> Json:
    if spec.kind == "heatmap":
        return heat.heatmap(spec, title, series, window, pen.theme)
    if spec.kind == "timeseries":
        return lines.graph(spec, title, series, window, pen.theme)
    drawing = {"gauge": numbers.gauge, "bargauge": numbers.bars}.get(spec.kind, numbers.stat)
    return drawing(spec, title, series, pen.theme)


def _unknown(spec: Spec, pen: Pen) -> str:
    """Why the panel cannot be drawn at all."""
    if not spec.kind:
        return f"panels of type {spec.type or '(none)'} are not drawn here; its JSON has {len(spec.targets)} queries"
    source = pen.choices.expand(spec.source)
    kind = pen.sources.get(source, "")
    if kind and kind not in ("prometheus", "datasource"):
        return f"it asks {source}, a datasource of type {kind}; only Prometheus is asked here"
    return ""


def _excuse(title: str, reason: str, theme: Theme) -> Json:
    figure: Json = {"data": [], "layout": layout(title, theme)}
    words = "<br>".join(texts.plain(reason).splitlines() or [""])
    return lines.nothing(figure, theme, words)


def as_json(panel: Panel) -> Json:
    """What a page needs of a panel."""
    return {
        "id": panel.id,
        "title": panel.title,
        "kind": panel.kind,
        "type": panel.type,
        "grid": vars(panel.grid),
        "description": panel.description,
        "reason": panel.reason,
        "note": panel.note,
        "queries": list(panel.queries),
        "html": panel.html,
        "collapsed": panel.collapsed,
        "figure": panel.figure if not panel.html and panel.kind != "row" else None,
    }
