# SPDX-License-Identifier: Apache-2.0
"""A container's own streams: what it writes goes to its log and to the clients attached to it, who may write to it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import termios
from collections import deque

from msgspec import Struct

from meshbox.contracts import ExecSession
from meshbox.node.feeding import Input
from meshbox.node.logs import LogFile
from meshbox.node.processes import Process

__all__ = ["Attached", "Outlet", "Streams", "open_streams"]

_KEPT = 256 * 1024
"""Bytes of output that are kept for a client that attaches later."""

_MOST_WAITING = 8 * 1024 * 1024
"""Bytes that an attached client may be behind before it is cut off."""


class Streams(Struct, frozen=True):
    """The ends of a container's streams.

    Args:
        theirs: Its stdin, stdout and stderr; to be closed here once it runs.
        outputs: Our ends: the name of the stream, and where to read it.
        stdin: Where to write its stdin; None where it has none.
        terminal: Our end of its terminal; None where it has none.
    """

    theirs: tuple[int, int, int]
    outputs: tuple[tuple[str, int], ...]
    stdin: int | None = None
    terminal: int | None = None


def open_streams(*, stdin: bool, tty: bool) -> Streams:
    """Streams for a container that asks for a stdin or a terminal, or for neither."""
    if tty:
        master, slave = pty.openpty()
        # Descriptors of their own, so that reading, writing and sizing end each for itself.
        writer = os.dup(master) if stdin else None
        return Streams((slave, os.dup(slave), os.dup(slave)), (("stdout", master),), writer, os.dup(master))
    out_reader, out_writer = os.pipe2(os.O_CLOEXEC)
    err_reader, err_writer = os.pipe2(os.O_CLOEXEC)
    outputs = (("stdout", out_reader), ("stderr", err_reader))
    if not stdin:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        return Streams((nothing, out_writer, err_writer), outputs)
    in_reader, in_writer = os.pipe2(os.O_CLOEXEC)
    return Streams((in_reader, out_writer, err_writer), outputs, in_writer)


class Outlet:
    """The output of one run of a container, and its stdin.

    Args:
        log: Where everything it writes goes.
        streams: Its streams.
        once: Whether its stdin ends with the first client that had it (`stdinOnce`).
    """

    def __init__(self, log: LogFile, streams: Streams, *, once: bool = False) -> None:
        self._log = log
        self._interactive = streams.stdin is not None or streams.terminal is not None
        self._stdin = streams.stdin
        self._terminal = streams.terminal
        self._once = once
        self.input: Input | None = None
        self._kept: deque[tuple[str, bytes]] = deque()
        self._size = self._forgotten = 0
        self._clients: set[Attached] = set()

    def started(self, process: Process) -> None:
        """The container's process runs: its stdin can be written."""
        if self._stdin is not None:
            self.input, self._stdin = Input(self._stdin, process), None

    def write(self, stream: str, data: bytes) -> None:
        """Take what the container wrote to "stdout" or "stderr"."""
        self._log.write(stream, data)
        for client in tuple(self._clients):
            client.take(stream, data)
        if self._interactive:
            self._kept.append((stream, data))
            self._size += len(data)
            while self._size - self._forgotten > _KEPT:
                self._forgotten += len(self._kept.popleft()[1])

    def attach(self, skip: int | None) -> Attached:
        """A client's session.

        Args:
            skip: How many bytes of the output it has seen; None: it sees only what comes from now on.
        """
        client = Attached(self)
        if skip is not None:
            left = max(0, skip - self._forgotten)
            for stream, data in self._kept:
                if fresh := data[left:]:
                    client.take(stream, fresh)
                left = max(0, left - len(data))
        self._clients.add(client)
        return client

    def leave(self, client: Attached) -> None:
        """A client has gone."""
        if client in self._clients:
            self._clients.discard(client)
            self.end_input()

    def end_input(self) -> None:
        """A client writes no more: the container's stdin ends, if it is for one client only."""
        if self._once and self.input is not None and self._terminal is None:
            self.input.close()

    def resize(self, width: int, height: int) -> None:
        """Tell the container's terminal its size."""
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def close(self) -> None:
        """The container has ended."""
        for client in tuple(self._clients):
            client.end()
        self._clients.clear()
        if self.input is not None:
            self.input.close()
        for descriptor in (self._stdin, self._terminal):
            if descriptor is not None:
                os.close(descriptor)
        self._stdin = self._terminal = None


class Attached(ExecSession):
    """A client at a container's own streams.

    Args:
        outlet: The container's.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._waiting: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._more = asyncio.Event()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, stream: str, data: bytes) -> None:
        """Keep output until the client reads it."""
        self._waiting[stream] += data
        if len(self._waiting[stream]) > _MOST_WAITING:
            self.end()
        self._more.set()

    def end(self) -> None:
        """No more will come."""
        if not self._ended.done():
            self._ended.set_result(None)
        self._more.set()

    async def _read(self, stream: str) -> bytes:
        waiting = self._waiting[stream]
        while not waiting and not self._ended.done():
            self._more.clear()
            await self._more.wait()
        data = bytes(waiting)
        waiting.clear()
        return data

    async def read_stdout(self) -> bytes:
        """The container's next words on stdout; b"" at its end."""
        return await self._read("stdout")

    async def read_stderr(self) -> bytes:
        """The container's next words on stderr; b"" at its end."""
        return await self._read("stderr")

    async def write_stdin(self, data: bytes) -> None:
        """Send to the container's stdin."""
        if self._outlet.input is not None:
            await self._outlet.input.write(data)

    async def close_stdin(self) -> None:
        """This client writes no more."""
        self._outlet.end_input()

    def resize(self, width: int, height: int) -> None:
        """The client's terminal has this size."""
        self._outlet.resize(width, height)

    async def wait(self) -> int:
        """The end of the container, which is success for one who only watched."""
        await asyncio.shield(self._ended)
        return 0

    def kill(self) -> None:
        """The client has gone; the container goes on."""
        self._outlet.leave(self)
        self.end()
