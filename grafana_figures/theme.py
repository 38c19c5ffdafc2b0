# SPDX-License-Identifier: Apache-2.0
"""Colours and the frame that all figures share."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_figures.model import Json

__all__ = ["COLOURS", "DARK", "LIGHT", "Theme", "color", "layout", "series_color", "series_dash", "translucent"]

_NAMED = {
    "green": "#73bf69",
    "dark-green": "#37872d",
    "semi-dark-green": "#56a64b",
    "light-green": "#96d98d",
    "red": "#f2495c",
    "dark-red": "#c4162a",
    "semi-dark-red": "#e02f44",
    "light-red": "#ff7383",
    "yellow": "#f2cc0c",
    "dark-yellow": "#e0b400",
    "semi-dark-yellow": "#f2cc0c",
    "orange": "#ff9830",
    "dark-orange": "#fa6400",
    "semi-dark-orange": "#ff780a",
    "blue": "#5794f2",
    "dark-blue": "#1f60c4",
    "semi-dark-blue": "#3274d9",
    "light-blue": "#8ab8ff",
    "purple": "#b877d9",
    "dark-purple": "#8f3bb8",
    "text": "#ccccdc",
    "transparent": "rgba(0,0,0,0)",
}
# Okabe and Ito's palette (2008), which those who are colour-blind tell apart; without its black and its yellow, which
# one of the two themes would swallow. Then, farthest from all before it first, what was found by search to stay apart
# from them under each of the three kinds of colour-blindness, and to stand out from both themes.
COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"),
    *("#8400f0", "#784824", "#a8b460", "#485460", "#9078fc", "#8400c0"),
    *("#a80090", "#904800", "#f000c0", "#f00048", "#c01878", "#849cfc"),
    *("#609054", "#9054fc", "#cc9c3c", "#c09c9c", "#6cc084", "#007848"),
)
_EASY = 6
"""Colours that are told apart at a glance; after so many a line is drawn in another way as well."""
_DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Theme:
    """Colours of a figure's frame."""

    panel: str
    text: str
    faint: str
    grid: str
    header: str


DARK = Theme(panel="#181b1f", text="#ccccdc", faint="#9a9ba6", grid="#2b2e35", header="#22252b")
LIGHT = Theme(panel="#ffffff", text="#24292e", faint="#5a5d66", grid="#e6e7eb", header="#f4f5f5")


def color(name: str) -> str:
    """A CSS colour for Grafana's name of one."""
    return _NAMED.get(name, name)


def series_color(index: int) -> str:
    """The colour of the series with this number, readable on dark and on light."""
    return COLOURS[index % len(COLOURS)]


def series_dash(index: int) -> str:
    """How its line is drawn: another way after every six, whose colours alone are easy to tell apart."""
    return _DASHES[index // _EASY % len(_DASHES)]


def translucent(css: str, opacity: float) -> str:
    """`css`, a #rrggbb or rgb(…) colour, with an opacity of 0 to 1."""
    if css.startswith("#") and len(css) == 7:
        red, green, blue = (int(css[at : at + 2], 16) for at in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity:g})"
    if css.startswith(("rgb(", "rgba(")):
        parts = css[css.index("(") + 1 : -1].split(",")
        return f"rgba({','.join(parts[:3])},{opacity:g})"
    return css


def layout(title: str, theme: Theme, *, height: int = 320) -> Json:
    """The frame of a figure.

    Args:
        title: Above it.
        theme: Its colours.
        height: In pixels.
    """
    return {
        "title": {"text": title, "x": 0.012, "xanchor": "left", "font": {"size": 16, "color": theme.text}},
        "paper_bgcolor": theme.panel,
        "plot_bgcolor": theme.panel,
        "font": {"color": theme.text, "size": 14, "family": "Inter, Helvetica, Arial, 'Liberation Sans', sans-serif"},
        "margin": {"t": 44, "r": 16, "b": 36, "l": 16},
        "height": height,
        "hoverlabel": {"bgcolor": theme.header, "bordercolor": theme.grid, "font": {"color": theme.text}},
    }
