# SPDX-License-Identifier: Apache-2.0
"""What we start ends with us, also when we are killed: the kernel sees to it (Linux' PR_SET_PDEATHSIG)."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys

__all__ = ["end_with_parent", "leash"]

_PR_SET_PDEATHSIG = 1


@functools.cache
def leash() -> tuple[str, ...]:
    """What to put before a command line so that the command ends when the thread that starts it does.

    Empty where there is no util-linux to do it: a command then ends by itself, a `kubectl wait` at its timeout.
    """
    program = shutil.which("setpriv")
    words = (program or "", "--pdeathsig", "TERM")
    if program is None or not sys.platform.startswith("linux"):
        return ()
    # Busybox' setpriv knows no such option.
    done = subprocess.run([*words, "true"], capture_output=True, timeout=10, check=False)
    return words if done.returncode == 0 else ()


def end_with_parent() -> None:
    """Have this process end when its parent does, at once if that has already happened to the one that started it."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
