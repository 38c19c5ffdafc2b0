# SPDX-License-Identifier: Apache-2.0
"""Start a sandbox's daemon, and hear from it that it runs or why it does not.

The daemon says so on a pipe, in its own words. A log could only be guessed at: its last lines may be of an earlier
start, and where the disk is full there is none.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from labkit.ground import config, files
from labkit.ground.errors import LabError, SandboxError
from meshbox import kept
from meshbox.program import program

__all__ = ["UP_DEADLINE", "Report", "UnexplainedError", "last_words", "launch"]

UP_DEADLINE = 30.0
"""Seconds until the API must answer."""

_LOG = "daemon.log"


class UnexplainedError(SandboxError):
    """It did not start and could not say why: only its log may tell."""


def launch(home: Path, name: str, release: str, *options: str) -> None:
    """Start the daemon of sandbox `name` in `home`; returns when its API answers.

    Args:
        home: The sandbox's folder, which is there.
        name: Its name.
        release: The Istio release it plays.
        options: Further options of the daemon's command line.

    Raises:
        SandboxError: it did not start; with its own reason and next step where it could say one.
    """
    if kept.release(home) != release:
        kept.put(home / "release", release)
    ours, theirs = os.pipe()
    try:
        try:
            process = _start(home, ["--name", name, "--release", release, *options], theirs)
        except OSError as error:
            raise SandboxError(
                f"sandbox {name!r} did not start: {_words(error)}",
                next_step=f"make room: {home} takes no more files, or this user may start no more processes",
            ) from error
        finally:
            os.close(theirs)
        try:
            _note_start(home, process, release)
            _import_meanwhile()
            _listen(ours, process, home, name)
        except BaseException:
            # Nobody waits for it any more; what it has started ends with it.
            process.kill()
            process.wait()
            raise
        # It is meant to outlive us; Python would complain of a child that nobody waited for.
        process.returncode = 0
    finally:
        os.close(ours)


def _start(home: Path, options: list[str], told: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "meshbox.daemon", "--home", str(home), *options]
    command += ["--report", str(told)]
    with contextlib.suppress(IsADirectoryError):
        # A folder in its place is moved aside by the daemon.
        (home / "state.json").unlink(missing_ok=True)
    log = home / _LOG
    # What an earlier start said is kept once, apart: nobody shall take it for what this one says.
    with contextlib.suppress(FileNotFoundError):
        log.replace(home / f"{_LOG}.1")
    # aiohttp reads the machine's certificate authorities when it is imported; the daemon trusts none but its own.
    environment = {**os.environ, "SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/nonexistent"}
    # What many objects took is given back to the machine when they are deleted (`tidy`): Python's own allocator gives
    # back a megabyte only once nothing at all is left in it, the C library's each free page.
    environment |= {"PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"}
    with open(log, "ab", buffering=0) as file:
        os.fchmod(file.fileno(), 0o600)
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd="/",
            start_new_session=True,
            pass_fds=[told],
        )


def _import_meanwhile() -> None:
    """What the next look at the sandbox needs, loaded while the daemon loads what it needs."""
    from meshbox import processes, reach  # noqa: F401


def _note_start(home: Path, process: subprocess.Popen[bytes], release: str) -> None:
    """Tell others that a start is under way; the daemon writes this itself once it is up."""
    import psutil  # Slow as well.

    # A daemon that has ended already says why on the pipe, and so does one on a full disk.
    with contextlib.suppress(psutil.NoSuchProcess, OSError):
        started = psutil.Process(process.pid).create_time()
        state = {"pid": process.pid, "started": started, "release": release, "state": "starting"}
        path = home / "state.json"
        files.create(path, json.dumps(state).encode())


def _listen(pipe: int, process: subprocess.Popen[bytes], home: Path, name: str) -> None:
    said = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    deadline = time.monotonic() + UP_DEADLINE
    while not said.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise UnexplainedError(
                f"sandbox {name!r} did not answer within {UP_DEADLINE:.0f} s{last_words(home)}", next_step=_look(home)
            )
        some = os.read(pipe, 65536)
        if not some:
            raise UnexplainedError(
                f"sandbox {name!r} did not start: its process ended with {_end(process)}{last_words(home)}",
                next_step=_look(home),
            )
        said += some
    reason = json.loads(said)
    if reason:
        raise SandboxError(
            f"sandbox {name!r} did not start: {reason['message']}", next_step=reason["next_step"] or _look(home)
        )


def _look(home: Path) -> str:
    return f"{config.advice(program())}; its whole log is {home / _LOG}"


def _end(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def last_words(home: Path) -> str:
    """The last line of the daemon's log as the end of a sentence: ": …", or nothing."""
    with contextlib.suppress(OSError):
        lines = (home / _LOG).read_text(errors="replace").splitlines()
        return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
    return ""


def _words(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason


class Report:
    """The daemon's side: says once that it runs, or what keeps it from running.

    Args:
        pipe: What `launch` handed down; None where nobody listens.
    """

    def __init__(self, pipe: int | None) -> None:
        self._pipe = pipe
        if pipe is not None:
            # A process of a pod that held it would keep `labkit up` waiting.
            os.set_inheritable(pipe, False)

    def running(self) -> None:
        """The API answers."""
        self._say({})

    def failed(self, problem: Exception) -> None:
        """It does not run, because of `problem`; nothing happens if it ran before."""
        if isinstance(problem, LabError):
            self._say({"message": problem.message, "next_step": problem.next_step})
        elif isinstance(problem, OSError):
            self._say({"message": _words(problem), "next_step": ""})
        else:
            self._say({"message": f"unexpected {type(problem).__name__}: {problem}", "next_step": ""})

    def _say(self, reason: dict[str, str]) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        # Whoever started us may be gone, and does not want to know then.
        with contextlib.suppress(OSError):
            os.write(pipe, json.dumps(reason).encode() + b"\n")
        os.close(pipe)
