# SPDX-License-Identifier: Apache-2.0
"""How figures look: colours that everybody tells apart, values with their unit under the pointer, and pictures."""

from __future__ import annotations

import itertools
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grafana_figures import Panel, picture
from grafana_figures.theme import COLOURS, series_color, series_dash
from labkit.ground.errors import MissingToolError, SettingError
from labkit.observe.looks import save_png
from labkit.observe.prometheus import chart

SEEN_BY = {
    "everybody else": np.eye(3),
    # Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
    "protanopes": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopes": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopes": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
JUST_NOTICEABLE = 2.3
"""A difference in CIELAB (Mahy and others, 1994)."""


def lab(css: str, matrix: np.ndarray) -> np.ndarray:
    given = np.array([int(css[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
    seen = np.clip(matrix @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    )
    white = to_xyz.sum(axis=1)
    x, y, z = (np.cbrt(one) if one > 0.008856 else 7.787 * one + 16 / 116 for one in to_xyz @ seen / white)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("who", SEEN_BY)
def test_more_than_twenty_colours_are_told_apart(who: str) -> None:
    assert len(COLOURS) == len(set(COLOURS)) == 24
    seen = [lab(one, SEEN_BY[who]) for one in COLOURS]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 5 * JUST_NOTICEABLE


def test_lines_are_told_apart_by_more_than_colour() -> None:
    assert len({(series_color(index), series_dash(index)) for index in range(24)}) == 24
    for first in range(0, 24, 6):
        assert len({series_dash(index) for index in range(first, first + 6)}) == 1
    assert [series_dash(index) for index in (0, 6, 12, 18)] == ["solid", "dash", "dot", "dashdot"]


def many(count: int, unit: str) -> pd.DataFrame:
    moments = pd.to_datetime([1_700_000_000, 1_700_000_005], unit="s", utc=True)
    parts = [pd.DataFrame({"pod": f"web-{one:02}", "value": [1.0, 2.0]}, index=moments) for one in range(count)]
    table = pd.concat(parts)
    table.attrs = {"promql": "rate(a_total[1m])", "unit": unit, "warnings": []}
    return table


def test_each_of_many_lines_has_a_look_of_its_own_and_its_unit_under_the_pointer() -> None:
    figure = chart(many(24, "requests/s"))
    assert len({(line.line.color, line.line.dash) for line in figure.data}) == 24
    assert {line.marker.color == line.line.color for line in figure.data} == {True}
    assert figure.data[3].hovertemplate == "%{y:,.5~r} requests/s<extra>web-03</extra>"
    assert figure.layout.hovermode == "x unified"
    assert chart(many(1, "")).data[0].hovertemplate == "%{y:,.5~r}<extra>web-00</extra>"
    assert chart(many(1, "s"), unit="seconds").data[0].hovertemplate.startswith("%{y:,.5~r} seconds<")


def test_a_name_under_the_pointer_is_no_template_and_no_markup() -> None:
    table = many(1, "").assign(pod="%{x}<b>")
    assert chart(table).data[0].hovertemplate == "%{y:,.5~r}<extra>% {x}&lt;b></extra>"


FIGURE = {"data": [{"type": "bar", "x": ["a", "b"], "y": [1, 2]}], "layout": {"height": 300}}


@pytest.mark.parametrize(
    ("given", "words"),
    [({"width": 10}, "width=10 is no size"), ({"height": 9000}, "height=9000 is no size"), ({"scale": 9.0}, "scale=9")],
)
def test_sizes_that_cannot_be_drawn_are_told(given: dict[str, float], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        picture.png(FIGURE, **given)  # type: ignore[arg-type]


def test_without_kaleido_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(picture, "find_spec", lambda _: None)
    with pytest.raises(MissingToolError, match=r"mesh-workshop\[png\]"):
        save_png(chart(many(1, "s")), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("kaleido") is None, reason="kaleido is not installed: pip install -e .[png]")
def test_without_a_chromium_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(MissingToolError, match="finds no Chromium"):
        picture.png(FIGURE)


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])  # type: ignore[return-value]


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(find_spec("kaleido") is None, reason="kaleido is not installed: pip install -e .[png]")
@pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="Chromium is not installed")
def test_a_figure_and_a_panel_become_pictures(tmp_path: Path) -> None:
    written = save_png(chart(many(3, "s")), tmp_path / "a.png", width=400, scale=1)
    assert size(written.read_bytes()) == (400, 380)
    panel = Panel(1, "One", "stat", "stat", FIGURE)
    assert size(save_png(panel, tmp_path / "b.png", width=300, height=200).read_bytes()) == (600, 400)
    with pytest.raises(SettingError, match="cannot be written"):
        save_png(panel, tmp_path / "no folder" / "c.png", width=60, height=60, scale=1)
