# SPDX-License-Identifier: Apache-2.0
"""A notebook in JupyterLab as eyes see it: pictures of all of it, and what is amiss in what is there."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LOOK = Path(__file__).with_name("looking.js").read_text(encoding="utf-8").partition("\n")[2]

__all__ = ["LOOKS", "Look", "amiss", "looked_at", "pictured"]

WIDTH, HEIGHT = 1400, 1600
"""Of the window, in CSS pixels, where nothing is enlarged."""


class Look:
    """A way to look at JupyterLab.

    Args:
        name: Of its pictures.
        theme: JupyterLab's, "Light" or "Dark".
        zoom: Of the browser, 1.5 for 150 %: fewer and larger CSS pixels on the same screen.
    """

    def __init__(self, name: str, theme: str, zoom: float = 1.0) -> None:
        self.name, self.theme, self.zoom = name, theme, zoom

    @property
    def width(self) -> int:
        """Of the window, in CSS pixels."""
        return round(WIDTH / self.zoom)

    @property
    def height(self) -> int:
        """Of the window, in CSS pixels."""
        return round(HEIGHT / self.zoom)


LOOKS = (Look("light", "Light"), Look("dark", "Dark"), Look("zoomed", "Light", zoom=1.5))


@contextmanager
def looked_at(page: Any, look: Look) -> Iterator[Any]:
    """The page in that theme and size, and as it was afterwards; what takes pictures of it.

    Playwright's own pictures would be of the size that it knows of.
    """
    _theme(page, look.theme)
    session = page.context.new_cdp_session(page)
    session.send(
        "Emulation.setDeviceMetricsOverride",
        {"width": look.width, "height": look.height, "deviceScaleFactor": look.zoom, "mobile": False},
    )
    page.wait_for_function(f"innerWidth === {look.width}")
    yield session
    session.send("Emulation.clearDeviceMetricsOverride")
    session.detach()


def _theme(page: Any, theme: str) -> None:
    """By the menu, as a learner does."""
    light = str(theme == "Light").lower()
    if page.locator(f"body[data-jp-theme-light='{light}']").count():
        return
    page.click(".lm-MenuBar-item:has-text('Settings')")
    page.hover(".lm-Menu-item:has-text('Theme')")
    page.locator(".lm-Menu-item", has_text=f"JupyterLab {theme}").first.click()
    page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")


_SCROLLED = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"


def pictured(page: Any, camera: Any, folder: Path, name: str) -> int:
    """Pictures of all of the notebook, a window's height each: NAME-01.png, … Returns how many."""
    for old in folder.glob(f"{name}-[0-9][0-9].png"):
        old.unlink()
    scroll = page.locator(_SCROLLED)
    whole, seen = scroll.evaluate("one => [one.scrollHeight, one.clientHeight]")
    places = range(0, max(whole - 40, 1), max(seen - 40, 1))
    for number, top in enumerate(places, 1):
        scroll.evaluate(
            "(one, top) => new Promise((done) => { one.scrollTop = top; requestAnimationFrame(done); })", top
        )
        taken = camera.send("Page.captureScreenshot", {"format": "png"})
        (folder / f"{name}-{number:02d}.png").write_bytes(base64.b64decode(taken["data"]))
    return len(places)


def amiss(page: Any, look: Look) -> list[str]:
    """What a look finds in the notebook that is shown, a sentence each, with the cell that it is in."""
    found: list[str] = page.evaluate(_LOOK, look.zoom > 1)
    return found
