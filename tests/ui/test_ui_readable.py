# SPDX-License-Identifier: Apache-2.0
"""What labkit shows, with JupyterLab's own two themes: axe-core finds nothing, and figures take the theme."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe

from grafana_figures.theme import DARK, LIGHT, series_color
from labkit import course, display
from labkit.cluster.readiness import Readiness, Workload
from labkit.observe.prometheus import chart
from labkit.ui.readiness import _progress

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.browser
THEMES = Path(sys.prefix) / "share" / "jupyter" / "lab" / "themes" / "@jupyterlab"
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Outputs</title><style>{theme}
body {{ background: var(--jp-layout-color0); color: var(--jp-content-font-color1) }}</style>
<script>{plotly}</script></head>
<body data-jp-theme-light="{light}">
<main class="jp-OutputArea-output"><h1>Lesson</h1>{outputs}<div id="figure"></div></main>
<script>Plotly.newPlot("figure", {figure})</script>{style}</body></html>"""


def outputs() -> str:
    """One of each kind."""
    checks = course.Checklist(
        [course.Check("Nodes are ready", False, "none", "Wait."), course.Check("It answers", True)]
    )
    yaml = "kind: Gateway # why\nspec: {port: 80, name: 'x', on: true}\n" * 20
    workload = Workload("Deployment", "web", 0, 1, "0/1", 0, "Progressing", "image")
    shown = [
        *(display.message("said", kind, next_step="do") for kind in display.SYMBOLS),
        checks.rich(),
        display.command("kubectl get pods", "NAME " * 60 + "\n" + "pod\n" * 40, failed=True),
        display.command("kubectl get gateway -o yaml", yaml),
        display.code(yaml, title="a.yaml"),
        _progress(Readiness("bookinfo", (workload,)), 0.0),
    ]
    return "".join(one.html for one in shown)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, theme: str, folder: Path) -> Any:
    moments = pd.date_range("2026-01-01", periods=3, freq="s", tz="UTC", name="time")
    figure = chart(pd.DataFrame({"pod": "web", "value": [1.0, 2.0, 3.0]}, index=moments), "Requests")
    page = folder / "page.html"
    page.write_text(
        PAGE.format(
            theme=(THEMES / f"theme-{theme}-extension" / "index.css").read_text(),
            plotly=resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8"),
            light=json.dumps(theme == "light"),
            outputs=outputs(),
            figure=figure.to_json(),
            style=display.style().html,
        ),
        encoding="utf-8",
    )
    shown = browser.new_page(viewport={"width": 1000, "height": 1600})
    shown.set_default_timeout(240_000)
    shown.goto(page.as_uri())
    shown.wait_for_selector(".js-plotly-plot[aria-label]")
    return shown


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, theme: str, tmp_path: Path) -> None:
    page = opened(browser, theme, tmp_path)
    found = Axe().run(page, options=AXE).response
    assert [(one["id"], [node["failureSummary"] for node in one["nodes"]]) for one in found["violations"]] == []
    assert {one["id"] for one in found["passes"]} >= {"color-contrast", "role-img-alt", "scrollable-region-focusable"}
    page.close()


COLOURS = """() => {
  const of = (selector, what) => getComputedStyle(document.querySelector(selector))[what];
  const sizes = [...document.querySelectorAll(".js-plotly-plot text")].filter((one) => one.textContent.trim())
    .map((one) => parseFloat(getComputedStyle(one).fontSize));
  return {background: of(".main-svg", "backgroundColor"), title: of(".gtitle", "fill"), line: of(".js-line", "stroke"),
    grid: of(".ygrid", "stroke"), smallest: Math.min(...sizes)};
}"""


def test_figures_take_the_theme_also_while_they_are_there(browser: Any, tmp_path: Path) -> None:
    page = opened(browser, "dark", tmp_path)
    dark = page.evaluate(COLOURS)
    assert (dark["background"], dark["title"]) == ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)")
    assert dark["line"] == "rgb(0, 114, 178)"
    assert dark["smallest"] >= 12
    page.add_style_tag(content=(THEMES / "theme-light-extension" / "index.css").read_text())
    light = page.evaluate(COLOURS)
    assert light["title"] in ("rgb(0, 0, 0)", "rgba(0, 0, 0, 1)")
    assert light["grid"] != dark["grid"]
    assert (light["background"], light["line"]) == (dark["background"], dark["line"])
    assert page.get_attribute(".js-plotly-plot", "aria-label") == "Figure: Requests"
    page.close()


def test_the_colours_that_are_replaced_are_those_of_our_frame() -> None:
    css = display.style().html
    for colour in (LIGHT.text, LIGHT.faint, LIGHT.grid, LIGHT.header, LIGHT.panel):
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        assert f"rgb({red}, {green}, {blue})" in css, colour
    # A line across a figure (`add_hline`) without a colour of its own has that of plotly's words.
    assert '.shapelayer path[style*="stroke: rgb(42, 63, 95)"]' in css


@pytest.mark.parametrize("ground", [LIGHT.panel, DARK.panel])
def test_lines_stand_out_and_words_can_be_read(ground: str) -> None:
    """Contrasts as WCAG 2 counts them: for words 4.5; a line is told from others by its name and its dashes too."""
    assert min(contrast(series_color(index), ground) for index in range(24)) >= 2.2
    for theme in (LIGHT, DARK):
        assert contrast(theme.text, theme.panel) >= 7
        assert contrast(theme.faint, theme.panel) >= 4.5


def contrast(one: str, other: str) -> float:
    def light(css: str) -> float:
        parts = [int(css[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)
