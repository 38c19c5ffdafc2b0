# SPDX-License-Identifier: Apache-2.0
"""Which processes of this machine are a sandbox's: its daemon, and what that has started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from labkit.ground.errors import SandboxError
from meshbox import kept

__all__ = ["daemon_process", "end", "end_leftovers", "leftovers", "memory"]


def daemon_process(home: Path) -> psutil.Process | None:
    """The live daemon of the sandbox in `home`, or None."""
    state = kept.state(home)
    if not state:
        # Nothing says which it is: whoever was started for this folder.
        return next(filter(None, (_alive(one.pid) for one in _daemons(home))), None)
    process = _alive(int(str(state["pid"])))
    if process is None or abs(process.create_time() - float(str(state["started"]))) < 2 or _serves(process, home):
        return process
    return None


def _daemons(home: Path) -> Iterator[psutil.Process]:
    return (process for process in psutil.process_iter() if _serves(process, home))


def _serves(process: psutil.Process, home: Path) -> bool:
    """Whether a process is a daemon that was started for the folder `home`."""
    with contextlib.suppress(psutil.Error, OSError):
        words = process.cmdline()
        return "meshbox.daemon" in words and str(home) in words
    return False


def _alive(pid: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(pid)
        # Asked for now, while it is there: a process that ends meanwhile is none.
        if process.create_time() and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def end(process: psutil.Process, seconds: float) -> None:
    """Tell a process to end, and kill it when it has not ended after `seconds`."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        try:
            _wait_gone(process, seconds)
        except psutil.TimeoutExpired:
            process.kill()
            psutil.wait_procs([process], timeout=5)


def _wait_gone(process: psutil.Process, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            raise psutil.TimeoutExpired(seconds, process.pid)
        time.sleep(0.01)


def leftovers(home: Path) -> list[psutil.Process]:
    """Processes that carry this sandbox's mark in their environment (``LABKIT_SANDBOX=<home>``)."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("LABKIT_SANDBOX") == str(home):
                found.append(process)
    return found


def end_leftovers(home: Path) -> None:
    """Kill what carries the mark of the sandbox in `home`.

    Raises:
        SandboxError: some of it could not be ended.
    """
    if not home.exists():
        return
    remaining = leftovers(home)
    for process in remaining:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(remaining, timeout=5)
    if alive:
        raise SandboxError(f"processes {[p.pid for p in alive]} of sandbox {home.name!r} could not be ended")


def memory(home: Path) -> int:
    """Bytes that the sandbox in `home` takes; pages that its processes share count once."""
    size, daemon = 0, daemon_process(home)
    for process in {*leftovers(home), *([daemon] if daemon else [])}:
        with contextlib.suppress(psutil.Error, OSError):
            size += process.memory_full_info().pss
    return size
