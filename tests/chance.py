# SPDX-License-Identifier: Apache-2.0
"""What random counts may be: bounds with a known rate of false alarms."""

from __future__ import annotations

import math

ALARM = 1e-9
"""How often a bound may be missed by chance alone."""


def likely(count: int, total: int, share: float, alarm: float = ALARM) -> bool:
    """Whether `count` of `total` independent draws is what a `share` gives; wrongly False at most with chance `alarm`.

    Both tails of the binomial distribution are summed as they are: none of them holds more than half of `alarm`.
    """

    def tail(first: int, last: int) -> float:
        return math.fsum(
            math.exp(
                math.lgamma(total + 1)
                - math.lgamma(k + 1)
                - math.lgamma(total - k + 1)
                + k * math.log(share)
                + (total - k) * math.log1p(-share)
            )
            for k in range(first, last + 1)
        )

    return min(tail(0, count), tail(count, total)) > alarm / 2
