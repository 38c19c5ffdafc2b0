# SPDX-License-Identifier: Apache-2.0
"""Container logs: files in the container runtime interface's form, one line each with its time and stream.

``2026-01-02T03:04:05.123456789Z stdout F the line``; P in place of F marks a part of a line that is still going on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from msgspec import Struct

__all__ = ["LogFile", "Selection", "pump", "read_log", "remove_log"]

log = logging.getLogger(__name__)

ROTATE_BYTES = 10 * 1024 * 1024
"""Size at which a log is moved aside; one file of that size is kept beside the current one."""

_LONGEST_LINE = 16 * 1024
_BLOCK = 64 * 1024
_HOW = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def _stamp() -> bytes:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return b"%s.%09dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode(), nanoseconds)


class LogFile:
    """The log of one run of a container.

    Args:
        path: Where it is; its folder is made where there is none.
        rotate_bytes: Size at which it is moved aside.
    """

    def __init__(self, path: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.path = path
        self.generation = 0
        self.closed = False
        self._rotate_bytes = rotate_bytes
        self._rest: dict[str, bytes] = {}
        self.lost = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._file: int | None = None
        self._size = 0
        self._open()

    def write(self, stream: str, data: bytes) -> None:
        """Append what came from `stream` ("stdout" or "stderr"); an unfinished line waits for its end."""
        if self.closed:
            return
        lines = (self._rest.pop(stream, b"") + data).split(b"\n")
        rest = lines.pop()
        head = b"%s %s " % (_stamp(), stream.encode())
        out = [b"%sF %s\n" % (head, line) for line in lines]
        if len(rest) >= _LONGEST_LINE:
            out.append(b"%sP %s\n" % (head, rest))
        elif rest:
            self._rest[stream] = rest
        if out:
            self._append(b"".join(out), len(out))

    def close(self) -> None:
        """Write what was left of unfinished lines and end the log for those who follow it."""
        for stream, rest in self._rest.items():
            self._append(b"%s %s P %s\n" % (_stamp(), stream.encode(), rest), 1)
        self._rest.clear()
        self.closed = True
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._wake()

    async def changed(self) -> None:
        """Wait until there is more to read, or the end."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _open(self) -> None:
        try:
            try:
                self._file = os.open(self.path, _HOW, 0o600)
            except FileNotFoundError:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._file = os.open(self.path, _HOW, 0o600)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            self._file = None
            log.warning("cannot write %s: %s", self.path, error.strerror)

    def _append(self, data: bytes, lines: int) -> None:
        if self._file is None:
            self._open()
        try:
            if self._file is None:
                raise OSError("not open")
            if self.lost:
                note = f"{self.lost} lines of this log were lost: they could not be written to disk"
                data = b"%s stderr F %s\n" % (_stamp(), note.encode()) + data
            written = os.write(self._file, data)
            if written < len(data):
                # The disk is full: half a line is worse than none.
                os.ftruncate(self._file, self._size)
                raise OSError("short write")
        except OSError:
            # A full disk must end neither the container nor the node; the gap is told in the log once there is room.
            self.lost += lines
            return
        self.lost = 0
        self._size += written
        if self._size >= self._rotate_bytes:
            self._rotate()
        self._wake()

    def _rotate(self) -> None:
        with contextlib.suppress(OSError):
            os.replace(self.path, _aside(self.path))
        if self._file is not None:
            os.close(self._file)
        self.generation += 1
        self._open()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def remove_log(path: Path) -> None:
    """Remove a log and what was moved aside of it."""
    for file in (path, _aside(path)):
        with contextlib.suppress(OSError):
            file.unlink()


class Sink(Protocol):
    """Takes what a container writes."""

    def write(self, stream: str, data: bytes) -> None:
        """Take `data` of `stream` ("stdout" or "stderr")."""


def pump(descriptor: int, sink: Sink, stream: str) -> asyncio.Future[None]:
    """Copy a pipe, or a terminal, into `sink` until it ends or the future is cancelled; closes `descriptor`."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        try:
            data = os.read(descriptor, _BLOCK)
        except BlockingIOError:
            return
        except OSError:
            # A terminal whose other side is closed answers EIO.
            data = b""
        if data:
            sink.write(stream, data)
        elif not ended.done():
            ended.set_result(None)

    def close(_: asyncio.Future[None]) -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)

    loop.add_reader(descriptor, readable)
    ended.add_done_callback(close)
    return ended


class Selection(Struct, frozen=True):
    """Which part of a log is asked for.

    Args:
        since: Only lines not older than this time, in seconds since 1970; None for all.
        tail: Only the last so many lines; None for all.
        limit: At most so many bytes; None for no limit.
        timestamps: Whether each line begins with its time.
    """

    since: float | None = None
    tail: int | None = None
    limit: int | None = None
    timestamps: bool = False

    def render(self, line: bytes) -> bytes | None:
        """What a reader sees of a stored line; None if it is too old or damaged."""
        stamp, _, rest = line.partition(b" ")
        _, _, rest = rest.partition(b" ")
        tag, space, text = rest.partition(b" ")
        if not space:
            return None
        if self.since is not None and _seconds(stamp) < self.since:
            return None
        if tag == b"F":
            text += b"\n"
        return stamp + b" " + text if self.timestamps else text


def _seconds(stamp: bytes) -> float:
    try:
        whole, _, fraction = stamp.decode().rstrip("Z").partition(".")
        return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        return 0.0


async def read_log(path: Path, live: LogFile | None, selection: Selection, follow: bool) -> AsyncIterator[bytes]:
    """The lines of the log at `path`; with `follow` also those to come, until `live` is closed."""
    left = selection.limit
    with contextlib.ExitStack() as stack:
        files: list[BinaryIO] = [stack.enter_context(file.open("rb")) for file in (_aside(path), path) if file.exists()]
        generation = live.generation if live else 0
        # What is appended while the reader takes its time belongs to the part that is followed.
        sizes = [os.fstat(file.fileno()).st_size for file in files]
        stored = _stored(files, sizes, selection)
        followed = _followed(files[-1], generation, live, stack) if follow and live and files else None
        for text in stored:
            yield text[:left]
            if left is not None and (left := left - len(text)) <= 0:
                return
        if followed is None:
            return
        files[-1].seek(sizes[-1])
        rendered = Selection(timestamps=selection.timestamps)
        async for lines in followed:
            text = b"".join(filter(None, map(rendered.render, lines)))
            yield text[:left]
            if left is not None and (left := left - len(text)) <= 0:
                return


def _stored(files: list[BinaryIO], sizes: list[int], selection: Selection) -> Iterator[bytes]:
    skip = 0
    if selection.tail is not None:
        total = sum(_count_lines(file, size) for file, size in zip(files, sizes, strict=True))
        skip = max(0, total - selection.tail)
    pending = b""
    for file, size in zip(files, sizes, strict=True):
        file.seek(0)
        position = 0
        while position < size:
            line = file.readline()
            position += len(line)
            if skip:
                skip -= 1
                continue
            pending += selection.render(line.rstrip(b"\n")) or b""
            if len(pending) >= _BLOCK:
                yield pending
                pending = b""
    if pending:
        yield pending


def _count_lines(file: BinaryIO, size: int) -> int:
    file.seek(0)
    lines = 0
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        lines += block.count(b"\n")
        size -= len(block)
    return lines


async def _followed(file: BinaryIO, generation: int, live: LogFile, stack: ExitStack) -> AsyncIterator[list[bytes]]:
    """The stored lines that `live` gets from now on, through rotations."""
    rest = b""
    while True:
        if data := file.read(_BLOCK):
            *lines, rest = (rest + data).split(b"\n")
            yield lines
        elif generation != live.generation:
            generation = live.generation
            file = stack.enter_context(live.path.open("rb"))
        elif live.closed:
            return
        else:
            await live.changed()
