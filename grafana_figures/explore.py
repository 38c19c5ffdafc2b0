# SPDX-License-Identifier: Apache-2.0
"""Grafana's Explore: a PromQL expression of a reader's own, as a graph and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_figures import Grafana
from grafana_figures.dashboard import Dashboard
from grafana_figures.model import Json
from grafana_figures.panel import Panel
from grafana_figures.quantities import unit_of
from grafana_figures.variables import Choices
from labkit.ground import reading

__all__ = ["asked", "explore"]

_UNITS = {
    "ms": "ms",
    "s": "s",
    "bytes": "bytes",
    "bytes/s": "binBps",
    "requests/s": "reqps",
    "events/s": "cps",
    "%": "percent",
}
"""Grafana's names of units; another one is written after the number."""


def explore(grafana: Grafana, expression: str, start: float, end: float) -> tuple[Panel, Panel]:
    """An expression between two moments, in seconds since 1970, as a graph; and its last values as a table.

    Args:
        grafana: What draws.
        expression: PromQL; Grafana's `$__rate_interval`, `$__interval` and `$__range` may be in it.
        start: The first moment.
        end: The last one, which is the table's.
    """
    unit = unit_of(_readable(expression))
    config: Json = {"defaults": {"unit": _UNITS.get(unit, f"suffix:{unit}" if unit else "short")}}
    graph: Json = {"id": 1, "type": "timeseries", "title": "Graph", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 10}}
    graph |= {"targets": [{"expr": expression, "refId": "A"}], "fieldConfig": config}
    graph["options"] = {"legend": {"showLegend": True, "placement": "bottom"}}
    table: Json = {"id": 2, "type": "table", "title": "Table", "gridPos": {"x": 0, "y": 10, "w": 24, "h": 12}}
    table["targets"] = [{"expr": expression, "refId": "A", "instant": True, "range": False, "format": "table"}]
    dashboard = Dashboard({"title": "Explore", "panels": [graph, table]})
    drawn = dashboard.draw(grafana.pen(dashboard, Choices(), start, end))
    return drawn[0], drawn[1]


def _readable(expression: str) -> str:
    """The expression without Grafana's variables, which are no PromQL."""
    for name in ("$__rate_interval", "$__interval", "$__range"):
        expression = expression.replace(name, "1m")
    return expression


def asked(query: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What an address asks for: `expr`, `from` and `to`, as far as it says; in any of the forms that Grafana has had.

    Args:
        query: Its parameters: `expr`, `from` and `to` by themselves; `left` (Grafana 6 to 9) or `panes` (since 10).
    """
    found = {name: query[name][-1] for name in ("expr", "from", "to") if query.get(name)}
    for name in ("left", "panes"):
        for text in query.get(name, ()):
            try:
                given = reading.json_value(text)
            except reading.ReadingError:
                continue
            panes = list(given.values()) if name == "panes" and isinstance(given, dict) else [given]
            found = _of_pane(panes[0] if panes else None) | found
    return found


def _of_pane(pane: object) -> dict[str, str]:
    if isinstance(pane, list):
        # Grafana 6: from, to, datasource, then queries.
        given = dict(zip(("from", "to"), map(str, pane), strict=False))
        return given | _expression(pane[2:])
    if not isinstance(pane, dict):
        return {}
    times = pane.get("range")
    times = times if isinstance(times, dict) else {}
    given = {name: str(times[name]) for name in ("from", "to") if times.get(name)}
    queries = pane.get("queries")
    return given | _expression(queries if isinstance(queries, list) else [])


def _expression(queries: Sequence[object]) -> dict[str, str]:
    for one in queries:
        if isinstance(one, dict) and one.get("expr"):
            return {"expr": str(one["expr"])}
    return {}
