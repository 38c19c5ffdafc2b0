# SPDX-License-Identifier: Apache-2.0
"""What every book of the course must be: whole, linked, and readable with no kernel and no network."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.course import lessons

__all__ = ["is_a_book"]


def is_a_book(out: Path, release: str) -> dict[str, str]:
    """Look at a book; returns the pages of its lessons, by their names."""
    contents = (out / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<td><a href="([\w-]+)\.html">', contents) == list(lessons(release))
    pages = {name: (out / f"{name}.html").read_text(encoding="utf-8") for name in lessons(release)}
    words = set(re.findall(r'<dt id="([^"]+)">', (out / "glossary.html").read_text(encoding="utf-8")))
    for text in pages.values():
        assert 'href="index.html"' in text
        assert not re.search(r'href="(\d\d-[a-z-]+\.ipynb|glossary\.md)', text)
        assert {*re.findall(r'href="glossary\.html#([^"]+)"', text)} <= words, "each word has its entry"
        assert not re.search(r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//', text), "nothing from elsewhere"
        assert ("Plotly.newPlot" in text) == ('src="plotly.js"' in text)
    assert any("Plotly.newPlot" in text for text in pages.values())
    written = {path.name for path in out.glob("*.html")}
    assert written == {"index.html", "cheat-sheet.html", "glossary.html", *(f"{name}.html" for name in pages)}
    linked = {one for path in out.glob("*.html") for one in re.findall(r'href="([\w-]+\.html)[#"]', path.read_text())}
    assert linked == written
    assert len((out / "plotly.js").read_text(encoding="utf-8")) > 1_000_000
    return pages
