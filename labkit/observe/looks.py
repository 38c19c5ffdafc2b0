# SPDX-License-Identifier: Apache-2.0
"""How figures look: in colours that the colour-blind tell apart, and readable from the back of a room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from grafana_figures.theme import COLOURS, LIGHT, layout
from labkit.ground.errors import SettingError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from grafana_figures import Panel

__all__ = ["BAD", "COLOURS", "DEGRADED", "GOOD", "TCP", "dress", "save_png"]

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


def save_png(
    figure: go.Figure | Panel, file: str | Path, *, width: int = 1000, height: int | None = None, scale: float = 2.0
) -> Path:
    """Write a figure, or a panel of a dashboard, to a file as a PNG.

    Args:
        figure: What is drawn.
        file: Where to; one that is there is replaced.
        width: In pixels of a page, 50 to 5000.
        height: Likewise; None for the figure's own.
        scale: Pixels of the picture for one of a page, 0.1 to 5.

    Returns:
        The file.

    Raises:
        SettingError: A size cannot be used, or nothing can be written there.
        MissingToolError: kaleido (`pip install 'mesh-workshop[png]'`) or a Chromium is not there.
    """
    from grafana_figures import Panel
    from grafana_figures.picture import png

    content = png(figure.figure if isinstance(figure, Panel) else figure, width=width, height=height, scale=scale)
    target = Path(file)
    try:
        target.write_bytes(content)
    except OSError as error:
        raise SettingError(f"{target} cannot be written: {error.strerror}", next_step="name another file") from None
    return target
