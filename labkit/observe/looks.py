# SPDX-License-Identifier: Apache-2.0
"""How figures look: in colours that the colour-blind tell apart, and readable from the back of a room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grafana_figures.theme import LIGHT, layout, series_color

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["BAD", "COLOURS", "DEGRADED", "GOOD", "TCP", "dress"]

COLOURS = tuple(series_color(index) for index in range(6))
GOOD, DEGRADED, BAD, TCP = COLOURS[2], COLOURS[1], COLOURS[3], COLOURS[0]


def dress(figure: go.Figure, title: str, *, height: int, **more: Any) -> go.Figure:
    """Give a figure its frame, whose colours `display.style` has follow JupyterLab's theme.

    Args:
        figure: The figure.
        title: Above it.
        height: In pixels.
        more: Further settings of its layout.
    """
    figure.update_layout(**layout(title, LIGHT, height=height), colorway=COLOURS)
    figure.update_layout(**more)
    axis = {"gridcolor": LIGHT.grid, "zerolinecolor": LIGHT.grid, "linecolor": LIGHT.grid, "automargin": True}
    figure.update_xaxes(**axis)
    return figure.update_yaxes(**axis)
