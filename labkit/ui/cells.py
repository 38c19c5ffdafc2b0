# SPDX-License-Identifier: Apache-2.0
"""A question to Prometheus, typed as on its own pages: `%%promql`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit import display
from labkit.ui.embedding import address_of

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["promql"]

_POINTS = 120
"""Of a line that is drawn; no two are closer than a second."""


def promql(line: str, cell: str) -> pd.DataFrame | go.Figure | None:
    """`%%promql [WINDOW]`: ask the lesson's Prometheus what is in the cell, and say why where nothing comes back.

    Args:
        line: What follows `%%promql`: how far back to draw, as "5m"; "" asks for this moment alone.
        cell: PromQL; lines that begin with # are comments.

    Returns:
        What `Prometheus.query` returns, or with a window its lines; None for no answer.

    Raises:
        SettingError: The window is none.
        ClusterError: Prometheus cannot be reached, or the PromQL is wrong.
        NoTargetError: No cluster is in use.
    """
    from labkit.observe.prometheus import Prometheus, chart, duration

    asked = "\n".join(row for row in cell.splitlines() if row.strip() and not row.lstrip().startswith("#"))
    if not asked:
        display.show(display.message("There are only comments in this cell: nothing was asked.", "note"))
        return None
    window = line.strip()
    step = f"{max(1, round(duration(window) / _POINTS))}s" if window else ""
    prometheus = Prometheus(address_of("prometheus", show=False))
    answer = prometheus.range(asked, window, step) if window else prometheus.query(asked)
    for warning in answer.attrs["warnings"]:
        display.show(display.message(f"Prometheus: {warning}.", "warning"))
    if answer.empty:
        display.show(display.message(f"Nothing comes back.\n{prometheus.explain(asked)}", "note"))
        return None
    return chart(answer) if window else answer
