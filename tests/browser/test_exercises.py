# SPDX-License-Identifier: Apache-2.0
"""An exercise and a question by their buttons, in JupyterLab as a learner has it."""

from __future__ import annotations

import re

import pytest

from labkit import istio
from labkit.course.exercise import only
from tests.browser.conftest import Window
from tests.conftest import wait_until
from tests.shops import Shop
from tests.ui.test_ui_lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.spoils]

BEGIN = """from labkit import course
lesson = course.begin("08-routing", "{release}", "sandbox", needs=["istio", "bookinfo"])"""
QUESTION = 'prediction = lesson.predict("What will happen?", ["Nothing", "A `404`"])'
RIGHT = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews, namespace: bookinfo}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v3}}]
  - route: [{destination: {host: reviews, subset: v1}}]
"""


def test_buttons_judge_help_and_lead_back(shop: Shop, window: Window, lab: Lab) -> None:
    first, second = only("08-routing", "jason-sees-red").hints
    begin = BEGIN.format(release=shop.sandbox.release)
    lab.play("exercises", begin, QUESTION, 'exercise = lesson.exercise("jason-sees-red")', "%%yaml\n# nothing yet")
    lab.see(".jp-OutputArea-output", "only comments in this cell")
    # A cell that is out of sight is not in the page.
    cell = lab.page.locator(".jp-CodeCell").nth(2)
    cell.scroll_into_view_if_needed()
    button = {name: cell.get_by_role("button", name=name, exact=True) for name in ("Check", "Hint", "Reset")}
    answer = cell.locator(".jp-OutputArea-child").last

    button["Check"].click()
    answer.get_by_text("Not yet").wait_for()
    assert answer.get_by_text("of 30").count() == 3, "what was seen for each of three claims"
    button["Hint"].click()
    answer.get_by_text("Hint 1 of 2").wait_for()
    assert plain(first) in answer.inner_text()
    # By keyboard, which JupyterLab has other uses for.
    button["Hint"].focus()
    lab.page.keyboard.press("Enter")
    answer.get_by_text("Hint 2 of 2").wait_for()
    assert plain(second) in answer.inner_text()
    window.picture(lab.page, "exercise")

    shop.sandbox.kubectl("apply", "-f", "-", stdin=RIGHT)

    def followed() -> bool:
        trace = istio.trace_route("productpage → reviews", headers={"end-user": "jason"})
        return [branch.subset for branch in trace.branches] == ["v3"]

    # Who checks looks for five seconds, which is enough where the machine is not busy with other tests.
    wait_until(followed, what="productpage's proxy to hear of the rule")
    button["Check"].click()
    answer.get_by_text("Solved.").wait_for()
    assert cell.locator(".jp-OutputArea-child").filter(has_text="Solved.").count() == 1, "in place of what was there"
    button["Reset"].click()
    answer.get_by_text("you are at its start").wait_for()
    assert "Removed: VirtualService reviews" in answer.inner_text()
    there = shop.sandbox.kubectl("get", "virtualservices", "-n", "bookinfo", "-o", "name").stdout.split()
    assert there == ["virtualservice.networking.istio.io/bookinfo"]

    question = lab.page.locator(".jp-CodeCell").nth(1)
    question.get_by_role("button", name="B", exact=True).click()
    question.get_by_text("You say B").wait_for()

    # What a page says that is none of the calls there are is not asked of the kernel.
    before = cell.locator(".jp-OutputArea-child").count()
    for wrong in ({"labkitOf": 'x"); print("'}, {"labkitCall": "eval"}, {"labkitChoice": "1 + 1"}):
        assert button["Check"].evaluate(FORGED, wrong) == "idle"
    assert cell.locator(".jp-OutputArea-child").count() == before
    assert "you are at its start" in answer.inner_text()

    restart(lab)
    button["Check"].click()
    answer.get_by_text("This kernel has not run the cell above").wait_for()
    assert "Run All Above Selected Cell" in answer.inner_text()
    lab.page.keyboard.press("Control+s")
    saved = lab.folder / "exercises.ipynb"
    wait_until(lambda: "has not run the cell above" in saved.read_text(), 30, "the answer to be saved")


FORGED = """(button, data) => {
  const forged = button.cloneNode(true);
  Object.assign(forged.dataset, data);
  button.after(forged);
  forged.click();
  const state = forged.getAttribute("aria-disabled") === "true" ? "asked" : "idle";
  forged.remove();
  return state;
}"""
"""Clicks a button that says something else; the extension marks buttons at once when it asks."""


def plain(hint: str) -> str:
    """A hint's first words as the page shows them."""
    return re.sub(r"[`*]", "", hint)[:40]


def restart(lab: Lab) -> None:
    """Start the notebook's kernel anew as a learner does, by the menu: only then does the page know of it."""
    lab.page.click(".lm-MenuBar-item:has-text('Kernel')")
    lab.page.click(".lm-Menu-item:has-text('Restart Kernel…')")
    # Idle it was before as well, and says so until it is told.
    with lab.page.expect_response(lambda answer: answer.url.partition("?")[0].endswith("/restart")) as restarted:
        lab.page.click(".jp-Dialog button.jp-mod-accept")
    assert restarted.value.ok
    lab.page.wait_for_selector(".jp-Dialog", state="detached")
    lab.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
