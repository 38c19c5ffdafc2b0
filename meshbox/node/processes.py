# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the keeper: start processes, signal them, learn how they ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

import meshbox
from labkit.ground.errors import SandboxError
from meshbox.node import keeper

__all__ = ["Exit", "Process", "Processes", "StartError", "sweep"]

log = logging.getLogger(__name__)


class StartError(SandboxError):
    """A process could not be started; `errno` says why, `lost` that the keeper ended meanwhile: try again."""

    def __init__(self, message: str, errno: int, *, lost: bool = False) -> None:
        super().__init__(message)
        self.errno = errno
        self.lost = lost


_LOST = "the keeper of the pods' processes has ended"


class Exit(Struct, frozen=True):
    """How a process ended.

    Args:
        code: The exit code; 128 + n where signal n ended it.
        signal: n, or 0.
        lost: Whether it ended with the keeper of all processes, so that its end says nothing of the process itself.
    """

    code: int
    signal: int = 0
    lost: bool = False


class Process:
    """A running process; `pid` is also its process group and session."""

    def __init__(self, owner: Processes, number: int) -> None:
        self._owner = owner
        self._number = number
        self.pid = 0
        self.started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.signalled = False
        """Whether the node itself has sent it a signal."""

    def signal(self, number: int, *, tree: bool = False) -> None:
        """Send signal `number`; with `tree` to its whole process group. Nothing happens if it has ended."""
        if not self.exited.done():
            self.signalled = True
            self._owner.signal(self._number, number, tree)


class Processes:
    """All processes of all pods, kept by one `keeper`.

    Args:
        home: The sandbox's folder, which marks them: LABKIT_SANDBOX in their environment.
        modules: Modules to load once for all Python-run containers.
        lost: Called when the keeper has ended, and all processes with it.
    """

    def __init__(self, home: Path, modules: Sequence[str] = (), lost: Callable[[], None] = lambda: None) -> None:
        self._home = home
        self._modules = modules
        self._told_lost = lost
        self._keeper: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._stopped = False
        self._numbers = 0
        self._running: dict[int, Process] = {}

    def start(self) -> None:
        """End what an earlier run of this sandbox left, and start the keeper.

        Raises:
            SandboxError: the keeper cannot be started, or something left cannot be ended.
        """
        sweep(self._home)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = Path(meshbox.__file__).parent.parent
        try:
            with theirs:
                self._keeper = subprocess.Popen(
                    [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno()), root, *self._modules],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={
                        "LABKIT_SANDBOX": str(self._home),
                        "PATH": os.environ.get("PATH", os.defpath),
                        "LANG": "C.UTF-8",
                        "MALLOC_ARENA_MAX": "1",
                    },
                    cwd="/",
                    # Not in reach of the terminal's Ctrl-C, which is for the daemon to act on.
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise SandboxError(f"the keeper of the pods' processes cannot be started: {error}") from error
        ours.setblocking(False)
        self._control = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read, ours)

    async def stop(self) -> None:
        """End all processes, and the keeper."""
        self._stopped = True
        if self._keeper is None:
            return
        self._lost()
        # It ends every descendant when its socket closes; a keeper that cannot is not waited for.
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._keeper.wait, 5)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
            sweep(self._home)
        self._keeper = None

    async def spawn(
        self,
        container: str,
        *,
        entry: str = "",
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        streams: tuple[int, int, int],
        main: bool = True,
        tty: bool = False,
    ) -> Process:
        """Start a process.

        Args:
            container: The container's id; when its main process ends, so does everything of it.
            entry: "module:function" to run in a fork, or empty to execute `argv`.
            argv: The command line; an executed program is given by its absolute path.
            env: The whole environment.
            cwd: Its folder.
            streams: Descriptors of its stdin, stdout and stderr; they stay open here.
            main: Whether it is the container's main process.
            tty: Whether stdin is a terminal that shall control it.

        Raises:
            StartError: it cannot be executed.
        """
        if self._control is None or self._keeper is None or self._keeper.poll() is not None:
            self._restart()
        assert self._control is not None
        self._numbers += 1
        number = self._numbers
        request = {"container": container, "main": main, "entry": entry, "argv": list(argv), "env": dict(env)}
        request |= {"cwd": str(cwd), "tty": tty}
        process = self._running[number] = Process(self, number)
        # In a memory file, because a message has a size limit and an environment has none.
        with open(os.memfd_create("labkit-spawn"), "w+b") as file:
            file.write(json.dumps(request).encode())
            file.flush()
            file.seek(0)
            await self._send({"do": "spawn", "id": number}, [file.fileno(), *streams])
        try:
            process.pid = await asyncio.shield(process.started)
        except asyncio.CancelledError:
            # Nobody waits for it any more; it is on its way all the same.
            process.started.add_done_callback(lambda _: process.signal(signal.SIGKILL, tree=True))
            raise
        return process

    def signal(self, number: int, signum: int, tree: bool) -> None:
        """Send a signal to the process with this number."""
        if self._control is not None:
            message = json.dumps({"do": "signal", "id": number, "signal": signum, "tree": tree}).encode()
            with contextlib.suppress(OSError):
                self._control.send(message)

    async def _send(self, message: dict[str, object], descriptors: Sequence[int]) -> None:
        while True:
            if self._control is None:
                raise StartError(_LOST, 0, lost=True)
            try:
                socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)
                return
            except BlockingIOError:
                await asyncio.sleep(0.05)
            except OSError:
                self._lost()

    def _restart(self) -> None:
        if self._stopped:
            raise StartError("the node is stopped", 0)
        self._lost()
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()
        self.start()

    def _read(self, control: socket.socket) -> None:
        for _ in range(64):
            try:
                data = control.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                log.warning("the keeper of the pods' processes ended; starting another")
                self._lost()
                sweep(self._home)
                self._told_lost()
                return
            message = json.loads(data)
            if (number := message.get("started")) is not None:
                self._running[number].pid = message["pid"]
                self._running[number].started.set_result(message["pid"])
            elif (number := message.get("failed")) is not None:
                error = StartError(os.strerror(message["errno"]), message["errno"])
                self._running.pop(number).started.set_exception(error)
            elif (number := message.get("exited")) is not None:
                self._running.pop(number).exited.set_result(Exit(message["code"], message["signal"]))

    def _lost(self) -> None:
        """The keeper is gone or going, and with it every process."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        for process in self._running.values():
            if not process.started.done():
                process.started.set_exception(StartError(_LOST, 0, lost=True))
            if not process.exited.done():
                process.exited.set_result(Exit(128 + signal.SIGKILL, signal.SIGKILL, lost=True))
        self._running.clear()


def sweep(home: Path) -> int:
    """End every process that an earlier or lost keeper of this sandbox left; returns how many there were.

    Raises:
        SandboxError: one of them cannot be ended.
    """
    mark, found = str(home), 0
    for _ in range(100):
        left = [
            pid for pid in keeper.processes() if keeper.variable(pid, b"LABKIT_SANDBOX=") == mark and pid != os.getpid()
        ]
        left = [pid for pid in left if _alive(pid)]
        if not left:
            return found
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            _wait_end(pid)
        found += len(left)
    raise SandboxError(
        f"processes {left} of the sandbox in {home} could not be ended",
        next_step=f"kill them: kill -9 {' '.join(map(str, left))}",
    )


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def _wait_end(pid: int, seconds: float = 1.0) -> None:
    """Wait until `pid`, which need not be our child, has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        # A kernel or a Python without it: the caller looks again.
        time.sleep(0.02)
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(handle)
