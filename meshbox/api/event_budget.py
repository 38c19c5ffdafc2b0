# SPDX-License-Identifier: Apache-2.0
"""How much a reporter may say of one object: twenty-five events at once, then one in five minutes, as client-go's."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["EventBudget"]

_BURST = 25.0
_PER_SECOND = 1 / 300
_REMEMBERED = 1024


class EventBudget:
    """Keeps what fails again and again from filling the disk.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()

    def take(self, about: tuple[str, ...]) -> bool:
        """Whether there is one more event for `about` (who reports, and of what object), which is then taken."""
        now = self._clock()
        left, since = self._left.pop(about, (_BURST, now))
        left = min(_BURST, left + (now - since) * _PER_SECOND)
        allowed = left >= 1
        self._left[about] = (left - allowed, now)
        while len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return allowed
