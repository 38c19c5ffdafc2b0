# SPDX-License-Identifier: Apache-2.0
"""How long to wait before trying again, as the kubelet reckons it."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["BackOff"]


class BackOff:
    """Waits that double: none before the first repetition, then `base`, up to `limit`.

    Args:
        base: The first wait in seconds.
        limit: The longest wait; after twice this time without a repetition, the next one is a first one.
        clock: Seconds, for tests.
    """

    def __init__(self, base: float, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._base = base
        self._limit = limit
        self._clock = clock
        self._next = 0.0
        self._last: float | None = None

    def wait(self) -> float:
        """Seconds to wait from now before the next repetition, which is taken as happening then."""
        moment = self._clock()
        if self._last is not None and moment - self._last > 2 * self._limit:
            self._next = 0.0
        wait = self._next
        self._next = min(max(self._base, 2 * self._next), self._limit)
        self._last = moment + wait
        return wait
