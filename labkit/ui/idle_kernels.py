# SPDX-License-Identifier: Apache-2.0
"""Ends the kernels of finished lessons that nobody uses: each holds some 150 MB, and port-forwards.

Jupyter's own culling knows only how long a kernel was idle, and not whether its lesson goes on: a reader who comes back
from lunch would find nothing where they were. So it has kernels here whose notebook is closed only; those of notebooks
that are still open end when their lesson is finished (`lesson.done()` says so) and nothing has run in them for a while.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from labkit.kernel import ENDS_AFTER, finished_mark

__all__ = ["AFTER", "CLOSED_AFTER", "end_finished", "keep_ending", "settings"]

AFTER = 600.0
"""Seconds without use after which the kernel of a finished lesson ends."""

CLOSED_AFTER = 3600
"""Seconds without use after which a kernel ends whose notebook is closed."""

_EVERY = 30.0


def settings() -> dict[str, Any]:
    """Settings of Jupyter's `MappingKernelManager`, for kernels whose notebook is closed."""
    return {"cull_idle_timeout": CLOSED_AFTER, "cull_interval": 300, "cull_connected": False, "cull_busy": False}


def _seconds() -> float:
    try:
        return float(os.environ.get(ENDS_AFTER, "") or AFTER)
    except ValueError:
        return AFTER


def _idle(kernel: Any) -> float:
    """For how many seconds nothing has run in a kernel; 0 while something does."""
    last = getattr(kernel, "last_activity", None)
    if getattr(kernel, "execution_state", "") != "idle" or last is None:
        return 0.0
    return float((datetime.now(UTC) - last).total_seconds())


async def end_finished(manager: Any, after: float) -> list[str]:
    """End those that are to end now.

    Args:
        manager: Jupyter's kernel manager.
        after: Seconds without use.

    Returns:
        Their ids.
    """
    ended = []
    for kernel_id in list(manager.list_kernel_ids()):
        kernel = manager.get_kernel(kernel_id)
        mark = finished_mark(kernel.connection_file)
        if mark.exists() and _idle(kernel) >= after:
            mark.unlink(missing_ok=True)
            await manager.shutdown_kernel(kernel_id)
            ended.append(kernel_id)
    return ended


def keep_ending(serverapp: Any) -> None:
    """From now on end them, as long as the server runs."""
    # Only a Jupyter server needs it, and has it.
    from tornado.ioloop import PeriodicCallback

    after = _seconds()
    # Kernels that are started from now on know of it.
    os.environ[ENDS_AFTER] = f"{after:g}"

    async def look() -> None:
        for kernel_id in await end_finished(serverapp.kernel_manager, after):
            serverapp.log.info("labkit: kernel %s has ended: its lesson is finished, and nobody used it", kernel_id)

    PeriodicCallback(look, min(_EVERY, after / 2) * 1000).start()
