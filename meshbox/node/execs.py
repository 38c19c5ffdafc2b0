# SPDX-License-Identifier: Apache-2.0
"""Commands run inside a running container: exec probes, lifecycle hooks, kubectl exec."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import pty
import signal
import struct
import termios
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from meshbox import images
from meshbox.contracts import ApiError, ExecSession
from meshbox.images import ContainerContext, Image, Launch
from meshbox.node.feeding import Input
from meshbox.node.processes import Process, Processes, StartError

if TYPE_CHECKING:
    from meshbox.typed.pod_states import ContainerState

__all__ = ["Command", "run_command", "start_command"]

_BUFFER = 256 * 1024
_MOST_OUTPUT = 10 * 1024
_AFTER_END = 0.1
"""Seconds between looks for the last output of a command that has ended."""


class _Reader:
    """One end of output: read by the event loop, handed out on demand, paused while nobody takes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._ended = self._reading = False
        self._more = asyncio.Event()
        os.set_blocking(descriptor, False)
        self._resume()

    def _resume(self) -> None:
        if not self._reading and not self._ended:
            self._loop.add_reader(self._descriptor, self._readable)
            self._reading = True

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._descriptor)
            self._reading = False

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        except OSError:
            # A pseudo terminal whose other side is closed answers EIO.
            data = b""
        if data:
            self._data += data
            if len(self._data) >= _BUFFER:
                self._pause()
        else:
            self.end()
        self._more.set()

    async def read(self) -> bytes:
        """The next bytes, b"" at the end."""
        while not self._data and not self._ended:
            self._more.clear()
            await self._more.wait()
        data = bytes(self._data)
        self._data.clear()
        self._resume()
        return data

    def finish(self) -> None:
        """The command has ended: what is in the pipe can still be taken, but nobody waits for more.

        A process it left running may hold the pipe open.
        """
        if self._ended:
            return
        if self._reading and not self._data:
            self._readable()
            if not self._data:
                self.end()
                return
        self._loop.call_later(_AFTER_END, self.finish)

    @property
    def open(self) -> bool:
        """Whether there may be more to come."""
        return not self._ended

    def end(self) -> None:
        """Stop reading; what was read can still be taken."""
        self._pause()
        if not self._ended:
            self._ended = True
            os.close(self._descriptor)
        self._more.set()


class Command(ExecSession):
    """A command in a container.

    Args:
        process: The process.
        stdin: Where to write its input; None for none.
        stdout: Its output.
        stderr: Its errors; None with a tty.
        terminal: The terminal's descriptor, for its size; None without.
    """

    def __init__(
        self, process: Process, stdin: int | None, stdout: _Reader, stderr: _Reader | None, terminal: int | None
    ) -> None:
        self._process = process
        self._input = Input(stdin, process) if stdin is not None else None
        self._stdout = stdout
        self._stderr = stderr
        self._terminal = terminal
        process.exited.add_done_callback(lambda _: self._finished())

    async def read_stdout(self) -> bytes:
        """Next bytes of stdout (with a tty: of everything); b"" at the end."""
        return await self._stdout.read()

    async def read_stderr(self) -> bytes:
        """Next bytes of stderr; b"" at the end."""
        return await self._stderr.read() if self._stderr else b""

    async def write_stdin(self, data: bytes) -> None:
        """Send to stdin; waits while the command is slow."""
        if self._input is not None:
            await self._input.write(data)

    async def close_stdin(self) -> None:
        """End of stdin."""
        if self._input is None:
            return
        if self._terminal is not None:
            await self._input.write(b"\x04")
        else:
            self._input.close()

    def resize(self, width: int, height: int) -> None:
        """Tell a tty its size in characters."""
        if self._terminal is not None and self._stdout.open:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        """The exit code (128 + n where signal n ended it)."""
        return (await asyncio.shield(self._process.exited)).code

    def kill(self) -> None:
        """End the command and what it started."""
        self._process.signal(signal.SIGKILL, tree=True)

    def _finished(self) -> None:
        if self._input is not None:
            self._input.close()
        for reader in (self._stdout, self._stderr):
            if reader is not None:
                reader.finish()


class Place(Protocol):
    """A container, as far as commands in it need to know it."""

    name: str
    context: ContainerContext | None
    image: Image | None
    state: ContainerState


def _launch(container: Place, command: list[str]) -> Launch:
    if container.context is None or container.image is None or "running" not in container.state:
        raise ApiError(400, "BadRequest", f"container {container.name} is not running")
    return images.launch(container.image, dataclasses.replace(container.context, argv=tuple(command)))


async def start_command(
    processes: Processes, container: Place, command: list[str], *, stdin: bool, tty: bool
) -> Command:
    """Start `command` in `container`.

    Raises:
        ApiError: the container does not run, or the command cannot be started.
    """
    try:
        launch = _launch(container, command)
    except images.ProgramNotFoundError as error:
        raise _refused(error.message) from error
    assert container.context is not None
    env = {**container.context.env, **launch.env} | ({"TERM": "xterm"} if tty else {})
    with contextlib.ExitStack() as given, contextlib.ExitStack() as kept:
        streams = _terminal(stdin) if tty else _pipes(stdin)
        for descriptor in streams.theirs:
            given.callback(os.close, descriptor)
        for end in (streams.stdin, streams.stdout, streams.stderr):
            if end is not None:
                kept.callback(os.close, end)
        try:
            process = await processes.spawn(
                env["LABKIT_CONTAINER"],
                entry=launch.entry,
                argv=launch.argv,
                env=env,
                cwd=container.context.root,
                streams=streams.theirs,
                main=False,
                tty=tty,
            )
        except StartError as error:
            raise _refused(f'exec: "{launch.argv[0]}": {error.message.lower()}') from error
        kept.pop_all()
    errors = _Reader(streams.stderr) if streams.stderr is not None else None
    return Command(process, streams.stdin, _Reader(streams.stdout), errors, streams.stdout if tty else None)


class _Streams(Struct, frozen=True):
    """The command's ends of its streams, and ours; no stderr with a tty."""

    theirs: tuple[int, int, int]
    stdin: int | None
    stdout: int
    stderr: int | None


def _terminal(stdin: bool) -> _Streams:
    master, slave = pty.openpty()
    # Two descriptors of one terminal, so that reading and writing end each for itself.
    writer = os.dup(master) if stdin else None
    return _Streams((slave, os.dup(slave), os.dup(slave)), writer, master, None)


def _pipes(stdin: bool) -> _Streams:
    out_reader, out_writer = os.pipe2(os.O_CLOEXEC)
    err_reader, err_writer = os.pipe2(os.O_CLOEXEC)
    if not stdin:
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return _Streams((nothing, out_writer, err_writer), None, out_reader, err_reader)
    in_reader, in_writer = os.pipe2(os.O_CLOEXEC)
    return _Streams((in_reader, out_writer, err_writer), in_writer, out_reader, err_reader)


def _refused(reason: str) -> ApiError:
    message = f"OCI runtime exec failed: exec failed: unable to start container process: {reason}: unknown"
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")


async def run_command(processes: Processes, container: Place, command: list[str]) -> tuple[int, bytes]:
    """Run `command` in `container` to its end: exit code, and the beginning of what it printed."""
    try:
        session = await start_command(processes, container, command, stdin=False, tty=False)
    except ApiError as error:
        return 126, error.message.encode()
    try:
        output = b""
        while data := await session.read_stdout():
            output = (output + data)[:_MOST_OUTPUT]
        errors = await session.read_stderr()
        return await session.wait(), output + errors
    except asyncio.CancelledError:
        session.kill()
        raise
