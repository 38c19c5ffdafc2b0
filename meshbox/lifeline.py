# SPDX-License-Identifier: Apache-2.0
"""A sandbox that ends with the process that asked for it, however that ends.

The kernel's handle of a process (a pidfd) stays its own when the pid is used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator

from meshbox import failures
from meshbox.asker import Asker

__all__ = ["watched"]

_LOOK_AGAIN = 0.5
"""Seconds between looks on kernels that give no handle of a process."""


@contextlib.contextmanager
def watched(asker: Asker, ended: Callable[[], None]) -> Iterator[None]:
    """Have the running event loop call `ended` once when the process has ended; at once if it already has.

    Args:
        asker: The process.
        ended: What is called.
    """
    loop = asyncio.get_running_loop()
    try:
        handle = os.pidfd_open(asker.pid)
    except ProcessLookupError:
        handle = -1
    except (AttributeError, OSError):
        # A kernel, or a container's filter of system calls, without pidfds.
        looking = loop.create_task(_look(asker, ended))
        try:
            yield
        finally:
            looking.cancel()
        return
    # The handle is of whoever has the pid now: only if that is who asked, its end is the one meant.
    if handle < 0 or not asker.alive:
        loop.call_soon(ended)
    else:
        loop.add_reader(handle, _over, handle, ended)
    try:
        yield
    finally:
        if handle >= 0:
            loop.remove_reader(handle)
            os.close(handle)


def _over(handle: int, ended: Callable[[], None]) -> None:
    asyncio.get_running_loop().remove_reader(handle)
    ended()


async def _look(asker: Asker, ended: Callable[[], None]) -> None:
    alive = True
    while alive:
        with failures.spared(failures.in_log(f"cannot tell whether process {asker.pid} has ended")):
            alive = asker.alive
        await asyncio.sleep(_LOOK_AGAIN if alive else 0)
    ended()
