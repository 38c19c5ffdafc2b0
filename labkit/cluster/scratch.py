# SPDX-License-Identifier: Apache-2.0
"""Folders for temporary files. One that was left by a process that was killed goes when the next one is made."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

__all__ = ["make"]


def make(within: str | None = None) -> Path:
    """A new folder (0700), empty; whoever asked for it removes it.

    Args:
        within: Where; None for the folder that this system has for temporary files.

    Raises:
        OSError: it cannot be made.
    """
    import psutil

    parent = Path(within or tempfile.gettempdir())
    # Machines and containers may share it, and count their processes each for itself.
    start = f"labkit-{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]}-"
    for left in parent.glob(f"{start}*"):
        # Everybody may put any name there: no number at all, or one that no process can have.
        with contextlib.suppress(OSError, IndexError, ValueError, OverflowError):
            pid = int(left.name.split("-")[2])
            if left.lstat().st_uid == os.geteuid() and not psutil.pid_exists(pid):
                shutil.rmtree(left)
    return Path(tempfile.mkdtemp(prefix=f"{start}{os.getpid()}-", dir=parent))
