"""Gives memory back to the machine after many objects have gone.

The collector of circles is set to run seldom, and the C library keeps what was freed for the next time: after a storm
of objects a sandbox would stay as big as it ever was.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
from collections.abc import Callable

__all__ = ["Tidy"]

log = logging.getLogger(__name__)

_EVERY = 2.0
"""Seconds between looks; also how long nothing may have been written before it is the moment for it."""

_GONE = 50
"""How many objects fewer than there were make it worth the time: some 20 ms, and more with more objects."""


class Tidy:
    """Watches how many objects there are.

    Args:
        count: How many there are now.
        version: A number that grows with each write.
        every: Seconds between looks.
    """

    def __init__(self, count: Callable[[], int], version: Callable[[], int], every: float = _EVERY) -> None:
        self._count, self._version, self._every = count, version, every
        self._most = 0
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
            self.look()

    def look(self) -> None:
        """Tidy up if many objects have gone and nothing is being written."""
        count, version = self._count(), self._version()
        quiet, self._seen = version == self._seen, version
        self._most = max(self._most, count)
        if not quiet or self._most - count < _GONE:
            return
        self._most = count
        self.times += 1
        gc.collect()
        # Other C libraries than GNU's have no such function, and keep less.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        log.debug("memory of what is gone was given back")
