# SPDX-License-Identifier: Apache-2.0
"""Bounds and intervals of the course, beside numbers from tables and the suite's own bounds."""

from __future__ import annotations

import pytest

from labkit.course import chance
from labkit.ground.errors import SettingError
from tests.chance import likely


@pytest.mark.parametrize(("total", "share"), [(1, 0.5), (10, 0.5), (200, 0.1), (400, 0.2), (60, 1 / 3), (300, 0.9)])
def test_counts_inside_the_bounds_are_those_that_the_suite_calls_likely(total: int, share: float) -> None:
    low, high = chance.expected(total, share)
    assert [k for k in range(total + 1) if likely(k, total, share)] == list(range(low, high + 1))


def test_where_there_is_no_chance_the_bounds_meet() -> None:
    assert chance.expected(50, 0.0) == (0, 0)
    assert chance.expected(50, 1.0) == (50, 50)


def test_an_everyday_bound_is_narrower() -> None:
    """Of 100 fair coins 40 to 60 show heads in more than 95 of 100 rounds."""
    assert chance.expected(100, 0.5, alarm=0.05) == (40, 60)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Clopper and Pearson's own, from tables of the binomial distribution.
        (0, 20, 0.0, 0.16843),
        (20, 20, 0.83157, 1.0),
        (10, 20, 0.27196, 0.72804),
        (5, 10, 0.18709, 0.81291),
        (1, 10, 0.00253, 0.44502),
        (0, 300, 0.0, 0.01222),
    ],
)
def test_an_interval(count: int, total: int, low: float, high: float) -> None:
    assert chance.interval(count, total) == pytest.approx((low, high), abs=1e-5)


def test_more_confidence_is_wider() -> None:
    narrow, wide = chance.interval(3, 50), chance.interval(3, 50, confidence=0.999)
    assert wide[0] < narrow[0] < 3 / 50 < narrow[1] < wide[1]


def test_a_difference_of_medians() -> None:
    before = [float(n % 7) for n in range(100)]
    low, high = chance.difference(before, [one + 20 for one in before])
    assert 18 <= low <= 20 <= high <= 22
    same = chance.difference(before, list(reversed(before)))
    assert same[0] <= 0 <= same[1]
    assert chance.difference(before, before) == chance.difference(before, before)


@pytest.mark.parametrize(
    "call",
    [
        lambda: chance.expected(0, 0.5),
        lambda: chance.expected(10, 1.5),
        lambda: chance.interval(3, 2),
        lambda: chance.interval(1, 2, confidence=1.0),
        lambda: chance.difference([1.0], [1.0, 2.0]),
    ],
)
def test_what_makes_no_sense_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(SettingError, match="out of range"):
        call()
