# SPDX-License-Identifier: Apache-2.0
"""Gives memory back to the machine after many objects have gone, and after large requests.

The collector of circles is set to run seldom, and the C library keeps what was freed for the next time: after a storm
of objects a sandbox would stay as big as it ever was. What is read of a body of 3 MB takes ten times that for a moment,
and is kept likewise, also where the request is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
from collections.abc import Callable

from meshbox import failures

__all__ = ["Tidy"]

log = logging.getLogger(__name__)

_EVERY = 2.0
"""Seconds between looks; also how long nothing may have been written before it is the moment for it."""

_GONE = 50
"""How many objects fewer than there were make it worth the time: some 20 ms, and more with more objects."""

_GROWN = 16 << 20
"""How many bytes more than there were make it worth the time as well; an eighth of what there is where that is more."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _resident() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


_tell = failures.in_log("memory could not be given back")


class Tidy:
    """Watches how many objects there are, and how much memory this process has.

    Args:
        count: How many there are now.
        version: A number that grows with each write.
        every: Seconds between looks.
        resident: Bytes of memory that this process has now.
        forget: Lets go of what is only remembered of objects that have gone.
        tell: Told what kept a look from being taken; the next is.
    """

    def __init__(
        self,
        count: Callable[[], int],
        version: Callable[[], int],
        every: float = _EVERY,
        resident: Callable[[], int] = _resident,
        forget: Callable[[], None] = lambda: None,
        tell: failures.Tell = _tell,
    ) -> None:
        self._tell = tell
        self._count, self._version, self._every, self._resident = count, version, every, resident
        self._forget = forget
        self._most = 0
        self._least = resident()
        self._seen = -1
        self._task: asyncio.Task[None] | None = None
        self.times = 0
        """How often it was done."""

    async def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            with failures.spared(self._tell):
                self.look()

    def look(self) -> None:
        """Tidy up if many objects have gone, or much memory was taken, and nothing is being written."""
        count, version, resident = self._count(), self._version(), self._resident()
        quiet, self._seen = version == self._seen, version
        self._most = max(self._most, count)
        self._least = min(self._least, resident)
        grown = resident - self._least >= max(_GROWN, self._least // 8)
        gone = self._most - count >= _GONE
        if not quiet or not (grown or gone):
            return
        if gone:
            self._forget()
        self._most = count
        self.times += 1
        gc.collect()
        # Other C libraries than GNU's have no such function, and keep less.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        self._least = self._resident()
        log.debug("memory of what is gone was given back")
