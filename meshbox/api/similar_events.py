# SPDX-License-Identifier: Apache-2.0
"""Events that differ in their words only: after ten of them one says it for all, as client-go's recorder does."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["COMBINED", "SimilarEvents"]

COMBINED = "(combined from similar events): "

_DIFFERENT = 10
"""How many messages of one reason there are before they are told as one."""

_SILENCE = 600.0
"""Seconds without any, after which they are counted from none again."""

_REMEMBERED = 1024


class SimilarEvents:
    """Counts the messages of each reason: a pod that is refused under a new name each time is one story, not hundreds.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._groups: OrderedDict[tuple[str, ...], tuple[float, set[str]]] = OrderedDict()

    def combined(self, group: tuple[str, ...], message: str) -> bool:
        """Whether `message` is to be told as one with those before it.

        Args:
            group: What is alike in them: the object, the type, the reason, who reports.
            message: The words.
        """
        now = self._clock()
        seen, messages = self._groups.pop(group, (now, set()))
        if now - seen > _SILENCE:
            messages = set()
        messages.add(message)
        self._groups[group] = now, messages
        while len(self._groups) > _REMEMBERED:
            self._groups.popitem(last=False)
        if len(messages) < _DIFFERENT:
            return False
        messages.pop()
        return True
