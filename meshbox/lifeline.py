# SPDX-License-Identifier: Apache-2.0
"""A sandbox that ends with the process that asked for it, however that ends.

A pid alone may be another process's by the time it is looked at: a process is meant by its pid and the moment it
started, and the kernel's handle of it (a pidfd) stays its own when the pid is used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from labkit.ground.errors import SettingError
from meshbox import failures

__all__ = ["Asker"]

_LOOK_AGAIN = 0.5
"""Seconds between looks on kernels that give no handle of a process."""


class Asker(Struct, frozen=True):
    """The process that a sandbox ends with.

    Args:
        pid: Its id.
        began: When it started, in the kernel's ticks since the machine's start.
    """

    pid: int
    began: int

    @classmethod
    def of(cls, pid: int) -> Asker:
        """The process that has the id `pid` now.

        Raises:
            SettingError: there is none.
        """
        began = _began(pid)
        if began is None:
            raise SettingError(
                f"there is no process {pid} that the sandbox could end with",
                next_step="give --with-pid the id of a process that runs, such as $$ in a shell",
            )
        return cls(pid, began)

    @classmethod
    def parse(cls, text: str) -> Asker:
        """The opposite of `str`."""
        pid, _, began = text.partition(":")
        return cls(int(pid), int(began))

    def __str__(self) -> str:
        return f"{self.pid}:{self.began}"

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return _began(self.pid) == self.began

    @contextlib.contextmanager
    def watched(self, ended: Callable[[], None]) -> Iterator[None]:
        """Have the running event loop call `ended` once when the process has ended; at once if it already has."""
        loop = asyncio.get_running_loop()
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            handle = -1
        except (AttributeError, OSError):
            # A kernel, or a container's filter of system calls, without pidfds.
            looking = loop.create_task(self._look(ended))
            try:
                yield
            finally:
                looking.cancel()
            return
        # The handle is of whoever has the pid now: only if that is who asked, its end is the one meant.
        if handle < 0 or not self.alive:
            loop.call_soon(ended)
        else:
            loop.add_reader(handle, self._over, handle, ended)
        try:
            yield
        finally:
            if handle >= 0:
                loop.remove_reader(handle)
                os.close(handle)

    def _over(self, handle: int, ended: Callable[[], None]) -> None:
        asyncio.get_running_loop().remove_reader(handle)
        ended()

    async def _look(self, ended: Callable[[], None]) -> None:
        alive = True
        while alive:
            with failures.spared(failures.in_log(f"cannot tell whether process {self.pid} has ended")):
                alive = self.alive
            await asyncio.sleep(_LOOK_AGAIN if alive else 0)
        ended()


def _began(pid: int) -> int | None:
    """When `pid` started, in ticks since the machine's start; None if it has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in ("Z", "X") else int(words[19])
