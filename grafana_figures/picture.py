# SPDX-License-Identifier: Apache-2.0
"""Figures as PNG: drawn by the machine's own Chromium, which kaleido, an optional package, drives.

Nothing is fetched for it: plotly.js is that of the plotly package, and formulas in MathJax, which would come from
elsewhere, are left as they are written.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from labkit.ground.errors import LabError, MissingToolError, SettingError

__all__ = ["png"]

_LEAST, _MOST = 50, 5000
_SCALES = 0.1, 5.0


def png(figure: Any, *, width: int = 1000, height: int | None = None, scale: float = 2.0) -> bytes:
    """A figure as a PNG.

    Args:
        figure: plotly's own object, or the dictionary of one: {"data": […], "layout": {…}}.
        width: In pixels of a page, 50 to 5000.
        height: Likewise; None for the figure's own.
        scale: Pixels of the picture for one of a page, 0.1 to 5.

    Raises:
        SettingError: width, height or scale cannot be used.
        MissingToolError: kaleido is not installed, or there is no Chromium.
        LabError: Chromium could not draw it.
    """
    content = figure if isinstance(figure, dict) else figure.to_plotly_json()
    high = height if height is not None else (content.get("layout") or {}).get("height") or 450
    for name, given in (("width", width), ("height", high)):
        if not _LEAST <= given <= _MOST:
            raise SettingError(f"{name}={given} is no size of a picture", next_step=f"take {_LEAST} to {_MOST} pixels")
    if not _SCALES[0] <= scale <= _SCALES[1]:
        raise SettingError(f"scale={scale:g} cannot be drawn", next_step=f"take {_SCALES[0]:g} to {_SCALES[1]:g}")
    if find_spec("kaleido") is None:
        raise MissingToolError(
            "a figure is made a PNG by kaleido, which is not installed",
            next_step="pip install 'mesh-workshop[png]'; it needs a Chromium or Chrome on this machine as well",
        )
    import kaleido
    from kaleido import errors

    options = {"format": "png", "width": int(width), "height": int(high), "scale": float(scale)}
    kept = {"page_generator": kaleido.PageGenerator(mathjax=False)}
    try:
        drawn: bytes = kaleido.calc_fig_sync(content, opts=options, kopts=kept)
    except errors.ChromeNotFoundError:
        raise MissingToolError(
            "kaleido finds no Chromium and no Chrome on this machine",
            next_step="install one (Debian: apt install chromium), or say where it is: BROWSER_PATH=/path/to/chromium",
        ) from None
    except (errors.KaleidoError, errors.BrowserFailedError, errors.BrowserClosedError, ValueError, OSError) as error:
        raise LabError(
            f"Chromium could not draw the figure: {error or type(error).__name__}",
            next_step="does it start? chromium --headless --version",
        ) from None
    return drawn
