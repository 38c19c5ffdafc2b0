# SPDX-License-Identifier: Apache-2.0
"""A program of this machine that runs beside a container's own process, and never longer than that."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

__all__ = ["end_with", "started"]


def started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """The running program; it is killed when the thread that starts it ends, however that ends."""
    return subprocess.Popen(list(command), preexec_fn=_die_with_parent)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def end_with(child: subprocess.Popen[bytes], name: str) -> None:
    """From now on, end this process when `child` ends, and say so."""

    def wait() -> None:
        code = child.wait()
        print(f"{name} ended with code {code}", file=sys.stderr, flush=True)
        os._exit(code if code > 0 else 1)

    threading.Thread(target=wait, daemon=True).start()
