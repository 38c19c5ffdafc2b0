# SPDX-License-Identifier: Apache-2.0
"""Counts that may be percentages, and ports that may be names."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.ground.int_or_string import named_port, percent, percent_problem, scaled, target_port


@given(st.integers(0, 1000), st.integers(0, 10_000))
def test_percentages_are_rounded_to_the_side_that_is_asked_for(share: int, total: int) -> None:
    exact = Fraction(share * total, 100)
    more, less = scaled(f"{share}%", total, up=True), scaled(f"{share}%", total, up=False)
    assert less <= exact <= more
    assert more - less == (exact.denominator != 1)


@pytest.mark.parametrize(
    ("value", "total", "up", "down"),
    [
        *(("25%", 10, 3, 2), ("25%", 4, 1, 1), ("25%", 1, 1, 0), ("0%", 9, 0, 0), ("100%", 3, 3, 3), ("150%", 3, 5, 4)),
        *((3, 10, 3, 3), (0, 10, 0, 0), (None, 10, 0, 0), ("025%", 10, 3, 2)),
    ],
)
def test_counts(value: int | str | None, total: int, up: int, down: int) -> None:
    assert (scaled(value, total, up=True), scaled(value, total, up=False)) == (up, down)


@pytest.mark.parametrize("text", ["", "25", "%", "-1%", "+1%", "1.5%", "25 %", "25%\n", "٣%", "a%"])
def test_what_is_no_percentage(text: str) -> None:
    words = (
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used"
    )
    assert percent_problem(text).startswith(words)
    with pytest.raises(ValueError, match="a valid percent string"):
        scaled(text, 10, up=True)


def test_a_percentage_of_many_digits_is_the_largest_number() -> None:
    assert percent("9" * 5000 + "%") == 2**63 - 1


CONTAINERS = [
    {"name": "plain"},
    {"ports": [{"containerPort": 80}, {"name": "web", "containerPort": 8080}]},
    {
        "ports": [
            {"name": "web", "containerPort": 1, "protocol": "UDP"},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ]
    },
]
SIDECARS = [
    {"ports": [{"name": "once", "containerPort": 5}]},
    {
        "restartPolicy": "Always",
        "ports": [{"name": "admin", "containerPort": 15000}, {"name": "web", "containerPort": 9}],
    },
]
SPEC = {"containers": CONTAINERS, "initContainers": SIDECARS}


def test_a_ports_name_is_looked_for_in_the_order_of_containers() -> None:
    assert named_port(CONTAINERS, "web") == 8080
    assert named_port(CONTAINERS, "web", "UDP") == 1
    assert named_port(CONTAINERS, "dns", "TCP") is None
    assert named_port(CONTAINERS, "80") is None
    assert named_port([{"ports": None}], "web") is None


@pytest.mark.parametrize(
    ("port", "number"),
    [
        ({"port": 80}, 80),
        ({"port": 80, "targetPort": 0}, 80),
        ({"port": 80, "targetPort": 8080}, 8080),
        ({"port": 80, "targetPort": "web"}, 8080),
        ({"port": 80, "targetPort": "web", "protocol": "UDP"}, 1),
        ({"port": 80, "targetPort": "dns"}, None),
        ({"port": 80, "targetPort": "admin"}, 15000),
        ({"port": 80, "targetPort": "once"}, None),
    ],
)
def test_where_a_pod_listens_for_a_service(port: dict[str, object], number: int | None) -> None:
    assert target_port(port, SPEC) == number
