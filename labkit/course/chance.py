# SPDX-License-Identifier: Apache-2.0
"""What chance does to counts and times: bounds that a share is held to, and intervals that say how sure one can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from labkit.ground.errors import SettingError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALARM", "difference", "expected", "interval"]

ALARM = 1e-9
"""How often a bound on a count may be missed by chance alone."""

_RESAMPLES = 2000


def expected(total: int, share: float, *, alarm: float = ALARM) -> tuple[int, int]:
    """Between which counts chance leaves `total` independent choices, each of which is taken with probability `share`.

    Args:
        total: How many choices there are, at least 1.
        share: From 0 to 1.
        alarm: How often a fair choice may be outside all the same; each side has half of it.

    Returns:
        The least and the largest count, both inside.

    Raises:
        SettingError: A number is out of its range.
    """
    _require(total >= 1 and 0 <= share <= 1 and 0 < alarm < 1, f"expected({total}, {share}, alarm={alarm})")
    low, below = 0, _probability(0, total, share)
    while below <= alarm / 2 and low < total:
        low += 1
        below += _probability(low, total, share)
    high, above = total, _probability(total, total, share)
    while above <= alarm / 2 and high > 0:
        high -= 1
        above += _probability(high, total, share)
    return low, high


def interval(count: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Which shares fit what was counted: with each of them a count as far off as this one is not too rare.

    It is Clopper's and Pearson's interval: exact, also where nothing or everything was counted.

    Args:
        count: How often it was so, from 0 to `total`.
        total: Of how many, at least 1.
        confidence: In how many of all such counts the true share is inside, above 0 and below 1.

    Returns:
        The least and the largest share, from 0 to 1.

    Raises:
        SettingError: A number is out of its range.
    """
    _require(total >= 1 and 0 <= count <= total and 0 < confidence < 1, f"interval({count}, {total})")
    rare = (1 - confidence) / 2

    def as_many(share: float) -> float:
        return math.fsum(_probability(k, total, share) for k in range(count, total + 1)) - rare

    def as_few(share: float) -> float:
        return rare - math.fsum(_probability(k, total, share) for k in range(count + 1))

    low = 0.0 if count == 0 else _root(as_many)
    high = 1.0 if count == total else _root(as_few)
    return low, high


def difference(
    before: pd.Series | Iterable[float], after: pd.Series | Iterable[float], *, confidence: float = 0.95
) -> tuple[float, float]:
    """By how much the median of `after` is above that of `before`: the differences that fit what was measured.

    What was measured is drawn from again and again, as often as it was measured (the bootstrap); the middle of the
    differences that come out is the interval. The draws are the same in each call.

    Args:
        before: Measurements, at least two.
        after: Others, in the same unit.
        confidence: The share of the differences that is inside, above 0 and below 1.

    Returns:
        The least and the largest difference, in that unit. Where 0 is inside, the two may well be equal.

    Raises:
        SettingError: There are too few measurements, or `confidence` is out of its range.
    """
    import numpy as np

    first, second = (np.asarray(list(one), dtype=float) for one in (before, after))
    _require(min(len(first), len(second)) >= 2 and 0 < confidence < 1, "difference() of fewer than two measurements")
    draw = np.random.default_rng(0)

    def medians(measured: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        chosen = draw.integers(0, len(measured), (_RESAMPLES, len(measured)))
        return np.asarray(np.median(measured[chosen], axis=1))

    rare = (1 - confidence) / 2
    low, high = np.quantile(medians(second) - medians(first), [rare, 1 - rare])
    return float(low), float(high)


def _require(fine: bool, called: str) -> None:
    if not fine:
        raise SettingError(
            f"{called} is out of range",
            next_step="Counts from 0 to their total, at least one; shares from 0 to 1; two measurements at least.",
        )


def _probability(count: int, total: int, share: float) -> float:
    """Of exactly this count."""
    if share in (0.0, 1.0):
        return 1.0 if count == total * share else 0.0
    ways = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
    return math.exp(ways + count * math.log(share) + (total - count) * math.log1p(-share))


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises from 0 to 1 is 0."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
