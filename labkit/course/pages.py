# SPDX-License-Identifier: Apache-2.0
"""Executed notebooks as HTML that needs no kernel and no network: pictures inside, figures that can be moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["Pages", "plotly_script", "style"]

_PLOTLY = "application/vnd.plotly.v1+json"


class Pages:
    """Notebooks as parts of pages.

    Attributes:
        figures: Whether one of them so far had a figure, so that its page needs `plotly_script`.
    """

    def __init__(self) -> None:
        from nbconvert import HTMLExporter

        exporter: Any = HTMLExporter(  # type: ignore[no-untyped-call]
            template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True
        )
        # No widget views: without a kernel they are blank, and their HTML stands beside them.
        exporter.display_data_priority = ["text/html", "image/svg+xml", "image/png", "text/markdown", "text/plain"]
        self._exporter = exporter
        self.figures = False

    def body(self, path: Path) -> str:
        """The notebook at `path` as HTML; pictures are looked for beside it."""
        import nbformat

        notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        notebook.metadata.pop("widgets", None)
        # papermill's own banner says less than what is said of the run.
        notebook.cells = [c for c in notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", [])]
        self._draw(notebook)
        made: tuple[str, Any] = self._exporter.from_notebook_node(notebook, {"metadata": {"path": str(path.parent)}})
        return made[0]

    def _draw(self, notebook: Any) -> None:
        """Give each figure of Plotly's its HTML; the script comes once for all."""
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                figure = output.get("data", {}).get(_PLOTLY)
                if figure is not None:
                    import plotly.io

                    self.figures = True
                    given = {"data": figure["data"], "layout": figure["layout"]}
                    output.data["text/html"] = plotly.io.to_html(given, include_plotlyjs=False, full_html=False)


def style() -> str:
    """What such pages look like, code included: CSS."""
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

    return f"{Path(__file__).with_name('report.css').read_text()}\n{HtmlFormatter().get_style_defs('.highlight')}"


def plotly_script() -> str:
    """Plotly's own JavaScript, 4 MB of it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
