# SPDX-License-Identifier: Apache-2.0
"""The readiness widget and the displays, as a learner sees them: JupyterLab in Chromium, on a sandbox."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_notebook

from labkit.course.folder import notebooks
from tests.conftest import SandboxUnderTest, wait_until
from tests.ui.jupyter import CHOOSE, jupyterlab

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.browser

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - name: web
          image: docker.io/kennethreitz/httpbin
          ports: [{{containerPort: 80}}]
          readinessProbe: {{httpGet: {{path: /status/{status}, port: 80}}, periodSeconds: 1}}
"""


@dataclass
class Lab:
    """JupyterLab with a page on it."""

    url: str
    folder: Path
    sandbox: SandboxUnderTest
    page: Any
    faults: list[str] = field(default_factory=list)

    def play(self, name: str, *cells: str) -> None:
        """Open a new notebook of these cells and run them all."""
        spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        parts = [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(cells)]
        nbformat.write(new_notebook(cells=parts, metadata=spec), self.folder / f"{name}.ipynb")
        self.page.goto(f"{self.url}/lab/tree/{name}.ipynb?reset")
        self.page.wait_for_selector(".jp-Cell", timeout=240_000)
        # What is run before the page has its kernel is dropped without a word.
        wait_until(lambda: self._connected(f"{name}.ipynb"), 60, "the kernel to be idle, and the page to be connected")
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
        self.page.click(".lm-MenuBar-item:has-text('Run')")
        self.page.click(".lm-Menu-item:has-text('Run All Cells')")

    def _connected(self, path: str) -> bool:
        with urllib.request.urlopen(f"{self.url}/api/sessions", timeout=60) as answer:
            kernels = [session["kernel"] for session in json.load(answer) if session["path"] == path]
        return any(kernel["execution_state"] == "idle" and kernel["connections"] > 0 for kernel in kernels)

    def see(self, selector: str, text: str, seconds: float = 240.0) -> None:
        """Wait until an element that `selector` finds has this text."""
        from playwright.sync_api import TimeoutError as NotSeen

        try:
            self.page.wait_for_selector(f"{selector}:has-text('{text}')", timeout=seconds * 1000)
        except NotSeen:
            self.page.screenshot(path=self.folder / "not-seen.png")
            pytest.fail(f"{text!r} was not seen within {seconds:g} s; the page: {self.folder / 'not-seen.png'}")


@pytest.fixture(scope="module")
def lab(
    tmp_path_factory: pytest.TempPathFactory, start_shared_sandbox: Callable[..., SandboxUnderTest]
) -> Iterator[Lab]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    sandbox = start_shared_sandbox("1.30.3")
    folder = tmp_path_factory.mktemp("lab")
    home = tmp_path_factory.mktemp("home")
    with jupyterlab(sandbox, folder, home) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(240_000)
        made = Lab(url, folder, sandbox, page)
        page.on("pageerror", lambda error: made.faults.append(f"error: {error}"))
        page.route(re.compile(r"^https?://(?!127\.)"), lambda route: _refuse(made, route))
        yield made
        browser.close()


def _refuse(lab: Lab, route: Any) -> None:
    # JupyterLab's own look for news is not ours; anything else that leaves the machine is.
    if "jupyter" not in route.request.url:
        lab.faults.append(f"outside: {route.request.url}")
    route.abort()


def test_readiness_is_live_and_leaves_a_table(lab: Lab) -> None:
    lab.sandbox.kubectl("create", "namespace", "live")
    lab.sandbox.kubectl("apply", "-n", "live", "-f", "-", stdin=WEB.format(status=503))
    lab.play(
        "live", CHOOSE + "from labkit import ui", 'seen = ui.ready("live", timeout=240)', 'print("ready:", seen.ready)'
    )
    lab.see(".labkit-readiness", "Readiness probe failed")
    lab.see(".labkit-readiness", "0 of 1 ready")
    lab.sandbox.kubectl("apply", "-n", "live", "-f", "-", stdin=WEB.format(status=200))
    lab.see(".jp-OutputArea-output", "ready: True")
    lab.see(".jp-RenderedHTMLCommon", "live: 1 of 1 workloads ready")
    # The table takes the widget's place.
    lab.page.wait_for_selector(".labkit-readiness", state="detached")
    assert lab.faults == []


def test_watching_goes_on(lab: Lab) -> None:
    lab.sandbox.kubectl("create", "namespace", "watched")
    lab.sandbox.kubectl("apply", "-n", "watched", "-f", "-", stdin=WEB.format(status=200))
    lab.play("watched", CHOOSE + "from labkit import ui", 'ui.watch("watched")')
    lab.see(".labkit-readiness", "1 of 1 ready")
    lab.sandbox.kubectl("scale", "deployment/web", "--replicas=2", "-n", "watched")
    lab.see(".labkit-readiness", "2/2")
    lab.sandbox.kubectl("delete", "deployment", "web", "-n", "watched")
    lab.see(".labkit-readiness", "0 of 0 ready")
    assert lab.faults == []


SHOWN = (
    """
import pandas as pd, plotly.express as px
from labkit import course, display, ui
from labkit.observe import kiali_figure, prometheus
display.figures_without_internet()
display.show(display.style() + display.message("a note", "note"));
""",
    """
for kind in ("good", "warning", "bad"):
    display.show(display.message("said", kind, next_step="do"))
check = course.Check("Nodes are ready", False, "none", "Wait.")
display.show(course.Checklist([check, course.Check("It answers", True, "v1")]).rich())
display.show(display.command("kubectl get pods", "NAME " * 40 + "\\n" + "pod\\n" * 30, failed=True))
display.show(display.code("kind: Gateway # why\\nspec: {port: 80, name: 'x', on: true}\\n" * 20, title="a.yaml"));
""",
    """
moments = pd.date_range("2026-01-01", periods=3, freq="s", tz="UTC", name="time")
prometheus.chart(pd.DataFrame({"pod": "web", "value": [1.0, 2.0, 3.0]}, index=moments), "Requests")
""",
)
FRAME = "() => getComputedStyle(document.querySelector('.js-plotly-plot .gtitle')).fill"
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def test_what_is_shown_can_be_read_by_all_in_both_themes(lab: Lab) -> None:
    lab.play("shown", *SHOWN)
    lab.page.wait_for_selector(".js-plotly-plot .gtitle")
    for theme, colour in (("Dark", "rgb(255, 255, 255)"), ("Light", "rgb(0, 0, 0)")):
        lab.page.click(".lm-MenuBar-item:has-text('Settings')")
        lab.page.hover(".lm-Menu-item:has-text('Theme')")
        lab.page.locator(".lm-Menu-item", has_text=re.compile(f"^JupyterLab {theme}$")).click()
        lab.page.wait_for_selector(f"body[data-jp-theme-light='{str(theme == 'Light').lower()}']", state="attached")
        wait_until(lambda of=colour: lab.page.evaluate(FRAME) == of, 30, "the figure to take the theme")
        # What the kernel has sent; the rest of the page is JupyterLab's.
        found = Axe().run(lab.page, context=".jp-OutputArea-output", options=AXE).response
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
        # Of contrast axe cannot judge beneath JupyterLab's own layers; tests/ui/test_ui_readable.py holds it.
        assert {one["id"] for one in found["passes"]} >= {"scrollable-region-focusable", "role-img-alt"}
    assert lab.page.get_attribute(".js-plotly-plot", "aria-label") == "Figure: Requests"
    assert lab.faults == []


def test_what_was_seen_last_is_there_when_a_notebook_is_opened_again(lab: Lab) -> None:
    lab.sandbox.kubectl("create", "namespace", "kept")
    lab.sandbox.kubectl("apply", "-n", "kept", "-f", "-", stdin=WEB.format(status=503))
    lab.play("kept", CHOOSE + "from labkit import ui", 'ui.watch("kept");')
    lab.see(".labkit-readiness", "0 of 1 ready")
    lab.page.keyboard.press("Control+s")
    wait_until(lambda: "labkit-readiness" in (lab.folder / "kept.ipynb").read_text(), 30, "the notebook to be saved")
    with urllib.request.urlopen(f"{lab.url}/api/sessions", timeout=60) as answer:
        (session,) = [one["id"] for one in json.load(answer) if one["path"] == "kept.ipynb"]
    lab.page.evaluate(
        f"fetch('{lab.url}/api/sessions/{session}', {{method: 'DELETE', headers: {{'X-XSRFToken': "
        "document.cookie.match('_xsrf=([^;]*)')[1]}})"
    )
    lab.page.goto(f"{lab.url}/lab/tree/kept.ipynb?reset")
    lab.see(".labkit-readiness", "0 of 1 ready")
    assert "Loading widget" not in lab.page.inner_text(".jp-NotebookPanel")


def test_a_word_leads_to_its_entry_in_the_glossary(lab: Lab) -> None:
    """A page that needs no kernel, beside the lesson."""
    for name in ("08-routing.ipynb", "glossary.md"):
        shutil.copy(notebooks() / name, lab.folder / name)
    lab.page.goto(f"{lab.url}/lab/tree/08-routing.ipynb?reset")
    lab.page.click(".jp-RenderedMarkdown a:has-text('subset')")
    lab.page.wait_for_selector(".jp-MarkdownViewer [data-jupyter-id='subset']")
    seen = "() => document.querySelector(\".jp-MarkdownViewer [data-jupyter-id='subset']\").getBoundingClientRect().top"
    place = "() => document.querySelector('.jp-MarkdownViewer').getBoundingClientRect()"
    wait_until(
        lambda: lab.page.evaluate(f"({place})().top <= ({seen})() + 1 && ({seen})() < ({place})().bottom"),
        60,
        "the entry to be scrolled to",
    )
    with urllib.request.urlopen(f"{lab.url}/api/sessions", timeout=60) as answer:
        assert "glossary.md" not in [one["path"] for one in json.load(answer)]
    assert lab.faults == []


def test_an_error_is_a_message_and_no_traceback(lab: Lab) -> None:
    lab.play("error", CHOOSE + "from labkit.cluster import kubectl, apply", 'kubectl("get gatewayz")')
    lab.see(".jp-OutputArea-output", "ClusterError: error: the server")
    shown = lab.page.inner_text(".jp-NotebookPanel")
    assert "→ `kubectl api-resources` lists the kinds there are" in shown
    assert "Traceback" not in shown
    assert "kubectl.py" not in shown
    assert lab.faults == []
