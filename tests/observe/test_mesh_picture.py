# SPDX-License-Identifier: Apache-2.0
"""The map as a picture: everything is in it, apart from each other, in words too, and in no colour alone."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from labkit.observe.flows import Call
from labkit.observe.mesh_picture import Box, Row, draw, label

BOXES = [
    Box("productpage", (Row("productpage-v1"),), ("DestinationRule productpage",)),
    Box(
        "reviews", (Row("reviews-v1"), Row("reviews-v2", ("AuthorizationPolicy only-me",))), ("VirtualService reviews",)
    ),
    Box("ratings", (Row("ratings-v1"),)),
    Box("istio-ingressgateway", (Row("istio-ingressgateway", ("VirtualService bookinfo → productpage",)),), here=False),
]
CALLS = [
    Call("istio-ingressgateway", "istio-system", "productpage", "productpage-v1", "http", 4.0, {}, 4.0, 4.0),
    Call("productpage-v1", "bookinfo", "reviews", "reviews-v1", "http", 2.0, {}, 2.0, 2.0),
    Call("productpage-v1", "bookinfo", "reviews", "reviews-v2", "http", 2.0, {"503": 1.0}, 2.0, 2.0),
    Call("reviews-v2", "bookinfo", "ratings", "ratings-v1", "tcp", 1500.0, {}, 0.0, 1500.0),
]


def svg(boxes: list[Box], calls: list[Call], *, moving: bool = False, known: set[tuple[str, str]] | None = None):
    shown = draw(boxes, calls, known if known is not None else set(), "It is so & `so`.", moving=moving)
    root = ET.fromstring(shown.html)
    picture = root.find("{http://www.w3.org/2000/svg}svg")
    assert picture is not None
    return picture, shown


def places(picture: ET.Element) -> dict[str, tuple[float, float, float, float]]:
    """Each box by its name: left, top, right, bottom."""
    found = {}
    for group in picture.iter("{http://www.w3.org/2000/svg}g"):
        rect = group.find("{http://www.w3.org/2000/svg}rect[@rx]")
        if rect is not None:
            x, y, wide, tall = (float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
            name = next(t for t in group if t.get("class") == "name").text
            found[str(name)] = x, y, x + wide, y + tall
    return found


def words(picture: ET.Element) -> list[str]:
    return ["".join(one.itertext()) for one in picture.iter("{http://www.w3.org/2000/svg}text")]


def test_callers_are_left_of_whom_they_call_and_no_box_is_on_another():
    at = places(svg(BOXES, CALLS)[0])
    order = ["istio-ingressgateway", "productpage", "reviews", "ratings"]
    assert all(at[one][2] < at[other][0] for one, other in itertools.pairwise(order))
    assert len(at) == 4


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_services_that_nobody_calls_are_there_too(count: int):
    boxes = [Box(f"s{number}", (Row(f"s{number}-v1"),)) for number in range(count)]
    picture, shown = svg(boxes, [])
    at = list(places(picture).values())
    assert len(at) == count
    for (x0, y0, x1, y1), (u0, v0, u1, v1) in itertools.combinations(at, 2):
        assert x1 < u0 or u1 < x0 or y1 < v0 or v1 < y0
    wide, tall = map(float, picture.get("viewBox", "").split()[2:])
    assert all(right <= wide and bottom <= tall for _, _, right, bottom in at)
    assert "It is so & `so`." in shown.text


def test_an_empty_mesh_is_a_sentence():
    picture, shown = svg([], [])
    assert places(picture) == {}
    assert shown.text == "It is so & `so`."
    assert ">It is so &amp; <code>so</code>.<" in shown.html


def test_rates_errors_security_and_rules_are_in_it():
    said = words(svg(BOXES, CALLS)[0])
    # Both ways to reviews are one edge; each version has its share.
    for expected in (
        *("4.0/s · mTLS", "✘ 25 % 503", "1.5 kB/s · plain text", "2.0/s · 50 %", "2.0/s · ✘ 50 % 503"),
        *("VirtualService reviews", "AuthorizationPolicy only-me", "VirtualService bookinfo → productpage"),
    ):
        assert expected in said, expected
    assert said.count("4.0/s · mTLS") == 2


def test_words_at_lines_that_are_close_are_not_on_each_other():
    wrong = {"500": 1.0}
    calls = [Call(f"reviews-v{n}", "bookinfo", "ratings", "ratings-v1", "http", 2.0, wrong, 2.0, 2.0) for n in (1, 2)]
    said = [one for one in svg(BOXES, calls)[0].iter("{http://www.w3.org/2000/svg}text") if one.get("class") == "said"]
    at = [(float(one.get("x", "")), float(one.get("y", ""))) for one in said]
    assert len(at) == 4
    for (x, y), (u, v) in itertools.combinations(at, 2):
        assert abs(y - v) >= 13 or abs(x - u) > 60, at


def test_it_says_the_same_without_being_seen():
    picture, shown = svg(BOXES, CALLS)
    assert picture.get("role") == "img"
    for line in (
        "reviews [VirtualService reviews]: reviews-v1, reviews-v2 [AuthorizationPolicy only-me]",
        "productpage-v1 → reviews (reviews-v2): 2.0/s · mTLS · ✘ 50 % 503",
        "reviews-v2 → ratings (ratings-v1): 1.5 kB/s · plain text",
    ):
        assert line in picture.get("aria-label", "")
        assert line in shown.text.splitlines()


def test_errors_are_told_by_more_than_colour():
    lines = {
        title.text: group.find("{http://www.w3.org/2000/svg}path")
        for group in svg(BOXES, CALLS)[0].iter("{http://www.w3.org/2000/svg}g")
        if (title := group.find("{http://www.w3.org/2000/svg}title")) is not None
    }
    broken = {str(told).split(":")[0]: line.get("stroke-dasharray") is not None for told, line in lines.items()}  # type: ignore[union-attr]
    assert broken == {
        "istio-ingressgateway → productpage": False,
        "productpage-v1 → reviews": True,
        "reviews-v2 → ratings": False,
    }


def test_colours_are_the_themes_or_those_that_the_colour_blind_tell_apart():
    _, shown = svg(BOXES, CALLS)
    data = set(re.findall(r'(?:stroke|fill)="(#\w+)"', shown.html))
    assert data <= {"#0072b2", "#e69f00", "#009e73", "#d55e00"}
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|src=|@import|<script", shown.html)
    frame = re.findall(r"#[0-9a-f]{3,6}", re.sub(r"var\([^)]*\)", "", shown.html))
    assert set(frame) <= data


def test_what_moves_comes_to_rest_and_not_for_those_who_do_not_want_it():
    _, shown = svg(BOXES, CALLS, moving=True)
    moves = [
        (float(a), int(b)) for a, b in re.findall(r"duration:([\d.]+)s;animation-iteration-count:(\d+)", shown.html)
    ]
    assert len(moves) == 3
    assert all(seconds * rounds == pytest.approx(6, abs=0.01) for seconds, rounds in moves)
    assert "prefers-reduced-motion" in shown.html
    assert "iteration-count" not in svg(BOXES, CALLS)[1].html


def test_where_traffic_ends_boxes_stay_where_they_are():
    known: set[tuple[str, str]] = set()
    before = places(svg(BOXES, CALLS, known=known)[0])
    assert places(svg(BOXES, [], known=known)[0]) == before


def test_names_are_escaped_and_long_ones_cut_with_the_whole_at_hand():
    picture, _ = svg([Box("a<b>&'\"", (Row("w" * 70),), ("VirtualService " + "x" * 60,))], [])
    assert "a<b>&'\"" in words(picture)
    assert any(text.startswith("VirtualService " + "x" * 60) for text in words(picture))


def test_what_was_never_reached_and_who_is_outside_have_words():
    call = Call("unknown", "unknown", "reviews", "unknown", "http", 0.01, {"0": 0.01})
    picture, _ = svg([Box("reviews", (Row("unknown"),)), Box("unknown", (Row("unknown"),), here=False)], [call])
    assert {"outside the mesh", "nobody was reached", "✘ 100 % no answer"} <= set(words(picture))
    assert label(call) == "0.01/s · ✘ 100 % no answer"
