# SPDX-License-Identifier: Apache-2.0
"""Slides in a browser: they come up as files with no network, fit their page, and have what to say beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.classroom import editions

pytestmark = pytest.mark.browser

TOO_LARGE = """() => Reveal.getSlides().flatMap((slide) => {
  const { h, v } = Reveal.getIndices(slide);
  Reveal.slide(h, v);
  const fits = slide.scrollHeight <= 720 && slide.scrollWidth <= 1280;
  return fits ? [] : [`${h}/${v ?? 0}: ${slide.scrollWidth} x ${slide.scrollHeight}`];
})"""
LOADED = "() => [...document.images].every((one) => (one.loading = 'eager', one.complete))"
PICTURES = "() => [...document.images].map((one) => one.naturalWidth > 0)"


@pytest.mark.parametrize("spoken", ["en", "zh"])
def test_slides_come_up_from_files_alone(browser: Any, tmp_path: Path, spoken: str) -> None:
    index, *decks = editions.export("slides", "1.30.3", tmp_path / "slides", tmp_path, spoken)
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 720})
    context.set_default_timeout(240_000)
    try:
        page = context.new_page()
        wrong: list[str] = []
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(index.as_uri())
        assert page.locator("ol a").count() == len(decks)
        for deck in decks:
            page.goto(deck.as_uri())
            page.wait_for_function("window.Reveal && Reveal.isReady()")
            assert page.evaluate("Reveal.getTotalSlides()") >= 4
            assert page.evaluate(TOO_LARGE) == [], deck.name
            assert page.locator("html").get_attribute("lang") == spoken
        page.goto(next(deck for deck in decks if deck.stem == "08-routing").as_uri())
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        # A picture of a later slide is loaded once it is told to be.
        page.wait_for_function(LOADED)
        assert page.evaluate(PICTURES) == [True]
        with context.expect_page() as opened:
            page.keyboard.press("s")
        said = {"en": "The order of the rules surprises people", "zh": "规则的顺序比规则本身更让人意外"}
        opened.value.get_by_text(said[spoken]).first.wait_for()
        assert wrong == []
    finally:
        context.close()
