# SPDX-License-Identifier: Apache-2.0
"""Events that differ in their words only: after ten of them one says it for all, as client-go's recorder does."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["COMBINED", "SimilarEvents"]

COMBINED = "(combined from similar events): "

_DIFFERENT = 10
"""How many messages of one reason there are before they are told as one."""

_SILENCE = 600.0
"""Seconds without any, after which they are counted from none again."""

_REMEMBERED = 1024


@dataclass
class _Group:
    seen: float
    messages: set[str] = field(default_factory=set)


class SimilarEvents:
    """Counts the messages of each reason: a pod that is refused under a new name each time is one story, not hundreds.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._groups: OrderedDict[tuple[str, ...], _Group] = OrderedDict()

    def combined(self, group: tuple[str, ...], message: str) -> bool:
        """Whether `message` is to be told as one with those before it.

        Args:
            group: What is alike in them: the object, the type, the reason, who reports.
            message: The words.
        """
        now = self._clock()
        known = self._groups.get(group)
        if known is None or now - known.seen > _SILENCE:
            known = self._groups[group] = _Group(now)
        known.seen = now
        known.messages.add(message)
        self._groups.move_to_end(group)
        while len(self._groups) > _REMEMBERED:
            self._groups.popitem(last=False)
        if len(known.messages) < _DIFFERENT:
            return False
        known.messages.pop()
        return True
