# SPDX-License-Identifier: Apache-2.0
"""Draws a graph of the mesh in layers, callers left of those they call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from grafana_figures.theme import LIGHT
from labkit.observe.layout import places
from labkit.observe.looks import BAD, COLOURS, DEGRADED, GOOD, TCP, dress

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["draw"]

_COLOURS = {"service": COLOURS[5], "unknown": "#999999"}
_ROW = 140
_WORDS = 0.58
"""How far along an edge its words stand."""

_LETTERS = 14
"""Of a node's name in a line: names of neighbours stand in a row."""


def _colour(edge: dict[str, Any]) -> str:
    if edge["protocol"] == "tcp":
        return TCP
    return BAD if edge["error_percent"] >= 10 else DEGRADED if edge["error_percent"] > 0 else GOOD


def _label(edge: dict[str, Any]) -> str:
    rate = f"{edge['rate']:.2f} B/s" if edge["protocol"] == "tcp" else f"{edge['rate']:.2f}/s"
    errors = f", {edge['error_percent']:.1f}% errors" if edge["error_percent"] else ""
    return f"{rate}{errors}" + (" · mTLS" if edge["mtls_percent"] else "")


def _told(edge: dict[str, Any]) -> str:
    time = "" if edge["response_ms"] != edge["response_ms"] else f"<br>{edge['response_ms']:.0f} ms (p95)"
    secure = f"<br>mutual TLS: {edge['mtls_percent']:.0f}%"
    share = f"<br>{edge['share_percent']:.1f}% of what {edge['source']} sends"
    return f"{edge['source']} → {edge['target']} ({edge['protocol']})<br>{_label(edge)}{share}{time}{secure}"


def _named(name: str) -> str:
    """A node's name in lines."""
    first, blank, rest = name.partition(" ")
    return (first.replace("-", "-<br>", 1) if len(first) > _LETTERS else first) + ("<br>" + rest if blank else "")


def draw(nodes: pd.DataFrame, edges: pd.DataFrame, title: str) -> go.Figure:
    """The figure of a graph.

    Args:
        nodes: As `MeshGraph.nodes`.
        edges: As `MeshGraph.edges`.
        title: What stands above it.
    """
    at = places(list(nodes.index), list(zip(edges["source"], edges["target"], strict=True)))
    lines: list[dict[str, Any]] = [{str(key): value for key, value in row.items()} for row in edges.to_dict("records")]
    figure = go.Figure()
    for edge in lines:
        (x0, y0), (x1, y1) = at[edge["source"]], at[edge["target"]]
        arrow = {"x": x1, "y": y1, "ax": x0, "ay": y0, "xref": "x", "yref": "y", "axref": "x", "ayref": "y"}
        style = {"arrowhead": 2, "arrowwidth": 1.8, "arrowcolor": _colour(edge), "standoff": 16, "startstandoff": 16}
        figure.add_annotation(text="", showarrow=True, **arrow, **style)
        # Not in the middle, where edges that cross would have their words on top of each other.
        middle = {"x": x0 + _WORDS * (x1 - x0), "y": y0 + _WORDS * (y1 - y0)}
        figure.add_annotation(
            text=_label(edge).replace(", ", "<br>").replace("% ", "%<br>").replace(" · ", "<br>"),
            showarrow=False,
            bgcolor="rgba(255,255,255,.85)",
            font_size=13,
            **middle,
        )
    middles = [(at[one["source"]], at[one["target"]]) for one in lines]
    figure.add_scatter(
        x=[a[0] + _WORDS * (b[0] - a[0]) for a, b in middles],
        y=[a[1] + _WORDS * (b[1] - a[1]) for a, b in middles],
        mode="markers",
        marker={"opacity": 0, "size": 18},
        hovertext=[_told(edge) for edge in lines],
        hoverinfo="text",
        name="edges",
    )
    names = list(nodes.index)
    figure.add_scatter(
        x=[at[name][0] for name in names],
        y=[at[name][1] for name in names],
        mode="markers+text",
        text=[_named(name) for name in names],
        textposition="bottom center",
        marker={
            "size": 24,
            "symbol": ["triangle-up" if kind == "service" else "square" for kind in nodes["kind"]],
            "color": [_COLOURS.get(kind, "#fff") for kind in nodes["kind"]],
            "line": {"width": 2, "color": LIGHT.text},
        },
        hovertext=[f"{name}<br>in {row.in_rate:.2f}/s, out {row.out_rate:.2f}/s" for name, row in nodes.iterrows()],
        hoverinfo="text",
        name="nodes",
    )
    tall = max((abs(y) for _, y in at.values()), default=0)
    wide = max((x for x, _ in at.values()), default=0)
    margin = {"l": 20, "r": 20, "t": 60, "b": 20}
    dress(figure, title, height=int(2 * tall * _ROW) + 240, showlegend=False, margin=margin)
    figure.update_xaxes(visible=False, range=[-0.6, wide + 0.6])
    figure.update_yaxes(visible=False, range=[-tall - 0.9, tall + 0.6])
    return figure
