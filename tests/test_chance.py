# SPDX-License-Identifier: Apache-2.0
"""The bounds of random counts themselves."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from .chance import ALARM, likely


@pytest.mark.parametrize(("total", "share"), [(20, Fraction(1, 4)), (40, Fraction(1, 2)), (120, Fraction(3, 4))])
def test_what_is_taken_for_unlikely_is_as_rare_as_said(total: int, share: Fraction) -> None:
    def chance(count: int) -> Fraction:
        return math.comb(total, count) * share**count * (1 - share) ** (total - count)

    refused = [count for count in range(total + 1) if not likely(count, total, float(share))]
    assert sum(map(chance, refused)) <= ALARM
    # Not more is let through than that needs: another count at either end would be refused too often.
    taken = [count for count in range(total + 1) if likely(count, total, float(share))]
    assert sum(chance(k) for k in range(taken[0] + 1)) > ALARM / 2
    assert sum(chance(k) for k in range(taken[-1], total + 1)) > ALARM / 2


def test_1600_draws_tell_shares_that_differ_by_a_fourteenth() -> None:
    assert likely(1200, 1600, 0.75)
    assert not likely(round(0.68 * 1600), 1600, 0.75)
    assert not likely(round(0.82 * 1600), 1600, 0.75)
