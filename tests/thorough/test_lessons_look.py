# SPDX-License-Identifier: Apache-2.0
"""Each lesson, run in JupyterLab and looked at: in the light and the dark theme, and at 150 %.

The pictures are in `build/looks/RELEASE`, or below `$LABKIT_PICTURES`: LESSON-LOOK-NUMBER.png.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from labkit.course import lessons
from labkit.lab import copies
from tests.conftest import REPOSITORY, SandboxUnderTest, wait_until
from tests.shops import home_with_console
from tests.thorough.looking import HEIGHT, LOOKS, WIDTH, amiss, looked_at, pictured
from tests.thorough.person import begun_at
from tests.ui.jupyter import jupyterlab

CHROMIUM = shutil.which("chromium")
LONGEST = 900
"""Seconds that a lesson may take to be played."""

AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
PANDAS = "empty-table-header"
"""A rule that what pandas writes above an index breaks."""

SETTINGS = {
    # Cells that are out of sight are in the page too.
    "notebook-extension/tracker": {"windowingMode": "none"},
    # On a slow machine two savings meet, and JupyterLab asks which of them counts.
    "docmanager-extension/plugin": {"autosave": False},
}

_ENDED = """() => {
  const panel = document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden)");
  const prompts = [...panel.querySelectorAll(".jp-CodeCell .jp-InputPrompt")]
    .filter((one) => !one.closest("[class*=laceholder]"))
    .map((one) => one.textContent.trim());
  const failed = panel.querySelector("[data-mime-type='application/vnd.jupyter.error']");
  if (prompts.some((text) => text.includes("*"))) return false;
  return failed || prompts.every((text) => /\\[\\d+\\]/.test(text));
}"""
# Of JupyterLab's page with all that is ours in it, not of Prometheus' and Kiali's own consoles in their frames.
_ERRORS = """if (window === top) {
  window.wrong = [];
  addEventListener("error", (event) => wrong.push(String(event.message)));
  addEventListener("unhandledrejection", (event) => wrong.push(String(event.reason)));
}"""
_STILL = """() => {
  // A window of another width is laid out a moment later.
  const panel = document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden)").getBoundingClientRect();
  if (panel.right > innerWidth + 1) return false;
  // A figure that takes the width it is given is drawn anew in a moment; until then it is as wide as it was.
  const drawn = (one) => {
    const svg = one.querySelector(".main-svg");
    const place = one._fullLayout?.autosize ? one.closest(".jp-OutputArea-output") : one;
    return svg && svg.getBoundingClientRect().width <= place.getBoundingClientRect().width + 1;
  };
  // JupyterLab's output is the figure itself.
  return [...document.querySelectorAll(".jp-NotebookPanel:not(.lm-mod-hidden) .js-plotly-plot")].every(drawn)
    && [...document.images].every((one) => one.complete);
}"""


@pytest.fixture
def learner(release: str, start_sandbox: Callable[..., SandboxUnderTest], tmp_path_factory: Any) -> Iterator[Any]:
    """JupyterLab on a learner's copy, and a page of Chromium on it that reaches this machine alone."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: labkit setup --tests says how to get it")
    from playwright.sync_api import sync_playwright

    sandbox = start_sandbox(release, name="default", home=home_with_console(tmp_path_factory))
    folder, home = tmp_path_factory.mktemp("course") / "workshop", tmp_path_factory.mktemp("home")
    copies.prepare(folder, fresh=False)
    for plugin, settings in SETTINGS.items():
        path = home / ".jupyter" / "lab" / "user-settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    with jupyterlab(sandbox, folder, home) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(240_000)
        # What a lesson showed is left behind, unsaved.
        page.on("dialog", lambda dialog: dialog.accept())
        yield url, page, sandbox.env
        browser.close()


@pytest.mark.browser
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_each_lesson_is_good_to_look_at(release: str, learner: tuple[str, Any, dict[str, str]]) -> None:
    url, page, env = learner
    pictures = Path(os.environ.get("LABKIT_PICTURES") or REPOSITORY / "build" / "looks") / release
    pictures.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    page.add_init_script(_ERRORS)
    page.route(re.compile(r"^(https?|wss?)://(?!127\.|localhost)"), lambda route: refuse(route, faults))
    wanted = os.environ.get("LABKIT_LESSONS", "").split() or list(lessons(release))
    begun_at(wanted[0], release, env)
    for name in wanted:
        play(url, page, name)
        for look in LOOKS:
            with looked_at(page, look) as camera:
                page.wait_for_function(_STILL, timeout=600_000)
                faults += [f"{name}, {look.name}: {one}" for one in amiss(page, look)]
                # The narrowest has most that scrolls; and colours were looked at already.
                faults += [f"{name}, {look.name}: {one}" for one in violations(page)] if look.zoom > 1 else []
                assert pictured(page, camera, pictures, f"{name}-{look.name}") >= 1
        faults += [f"{name}: {one}" for one in page.evaluate("wrong")]
        (pictures / "faults.txt").write_text("\n".join(faults))
        leave(url, page)
    assert faults == []


def violations(page: Any) -> list[str]:
    """What axe-core finds in what was shown; the rest of the page is JupyterLab's."""
    found = Axe().run(page, context=".jp-OutputArea-output", options=AXE).response
    faults = [(one["id"], node["html"][:200]) for one in found["violations"] for node in one["nodes"]]
    return [f"{rule}: {markup}" for rule, markup in faults if rule != PANDAS and not scrolled(rule, markup)]


def scrolled(rule: str, markup: str) -> bool:
    """Whether it is JupyterLab's own place for an output that scrolls; Chromium takes the keyboard there by itself."""
    return rule == "scrollable-region-focusable" and markup.startswith('<div class="lm-Widget jp-Rendered')


def refuse(route: Any, faults: list[str]) -> None:
    # JupyterLab's own look for news is not ours; anything else that leaves the machine is.
    if "jupyter" not in route.request.url:
        faults.append(f"asked of the outside: {route.request.url}")
    route.abort()


def play(url: str, page: Any, name: str) -> None:
    """Open a lesson and run all of it, as its reader does."""
    page.goto(f"{url}/lab/tree/{name}.ipynb?reset")
    page.wait_for_selector(".jp-Cell")
    wait_until(lambda: connected(url, f"{name}.ipynb"), what="the kernel to be idle, and the page to be connected")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
    page.click(".lm-MenuBar-item:has-text('Run')")
    page.click(".lm-Menu-item:has-text('Run All Cells')")
    page.wait_for_function(_ENDED, timeout=LONGEST * 1000)


def sessions(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/sessions", timeout=60) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def connected(url: str, path: str) -> bool:
    kernels = [session["kernel"] for session in sessions(url) if session["path"] == path]
    return any(kernel["execution_state"] == "idle" and kernel["connections"] > 0 for kernel in kernels)


def leave(url: str, page: Any) -> None:
    """Shut the kernels down; each takes memory."""
    for session in sessions(url):
        page.evaluate(
            "(place) => fetch(place, {method: 'DELETE', headers: {'X-XSRFToken': "
            "document.cookie.match('_xsrf=([^;]*)')[1]}})",
            f"{url}/api/sessions/{session['id']}",
        )
