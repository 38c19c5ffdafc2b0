# SPDX-License-Identifier: Apache-2.0
"""What every small HTTP server here takes of a connection: how a request is framed, how large it is, how long it takes.

A stranger may connect to any loopback port. Nothing that he sends may cost more than a bounded head until the server
knows whether he may ask at all; and what two readers could understand differently is refused (RFC 9112, 6.3).
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

__all__ = ["FramingError", "Head", "Incoming", "LimitedThreads", "body_length", "read_body", "read_head"]

HEAD_SECONDS = 30.0
"""Within which a request line and all headers must have come, however little comes at a time."""

BODY_SECONDS = 60.0
"""Within which a body must have come."""

MOST_HEAD = 64 * 1024
"""Bytes of request line and headers together."""

MOST_HEADERS = 200
_MOST_CONNECTIONS = 256
_MOST_LEFT = 2 * 1024 * 1024
"""Bytes of a body that nobody asked for, that are read so that the client sees the answer."""

_LEFT_SECONDS = 5.0
_GIVE_WAY_SECONDS = 0.1
_BLOCK = 64 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")


class FramingError(Exception):
    """What came is no request that is taken; the connection has to end.

    Args:
        status: The status to answer with.
        words: Why.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


@dataclass(frozen=True)
class Head:
    """A request without its body: method, target, "HTTP/1.0" or "HTTP/1.1", and the headers as they came."""

    method: str
    target: str
    version: str
    items: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """The values of the headers called `name` (lower case)."""
        return [value for key, value in self.items if key.lower() == name]


class Incoming:
    """The reading side of a connection, with bounds for a whole request instead of for each read.

    Args:
        connection: The socket; its timeout for writing is kept.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._deadline = math.inf
        self._left = math.inf

    def allow(self, seconds: float, most: float = math.inf) -> None:
        """From now on, until the next call: so many seconds, and so many bytes that have not come yet."""
        self._deadline = time.monotonic() + seconds
        self._left = most

    def wait(self, seconds: float) -> bool:
        """Wait for something to come, at most so long; whether it did."""
        self.allow(seconds)
        with contextlib.suppress(TimeoutError):
            return bool(self._buffer) or self._fill()
        return False

    def readline(self, most: int = -1) -> bytes:
        """The next line with its end, or its first `most` bytes; less at the end of the connection.

        Raises:
            TimeoutError: it did not come in time.
            FramingError: more came than is allowed.
        """
        seen = 0
        while True:
            end = self._buffer.find(b"\n", seen) + 1
            if end or 0 <= most <= len(self._buffer):
                return self._take(min(end or most, most if most >= 0 else end))
            seen = len(self._buffer)
            if not self._fill():
                return self._take(len(self._buffer))

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end of the connection.

        Raises:
            TimeoutError: they did not come in time.
        """
        while len(self._buffer) < size and self._fill():
            pass
        return self._take(size)

    def discard(self) -> None:
        """Read on for a moment, without keeping it, until the other side has seen that this one has ended."""
        self.allow(_LEFT_SECONDS)
        left = _MOST_LEFT
        with contextlib.suppress(OSError, FramingError):
            self._socket.shutdown(socket.SHUT_WR)
            while left > 0 and self._fill():
                left -= len(self._take(len(self._buffer)))

    def close(self) -> None:
        """Nothing to be closed but the socket, which is its owner's."""

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self) -> bool:
        if self._left <= 0:
            raise FramingError(431, "the head of the request is too large")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request did not come in time")
        before = self._socket.gettimeout()
        self._socket.settimeout(left if left < math.inf else None)
        try:
            data = self._socket.recv(int(min(_BLOCK, self._left)))
        finally:
            self._socket.settimeout(before)
        self._left -= len(data)
        self._buffer += data
        return bool(data)


def read_head(incoming: Incoming) -> Head | None:
    """The next request's head; None where the connection ended, or idled, before there was one.

    Raises:
        FramingError: it is none, or beyond a bound.
        TimeoutError: it did not come in time.
    """
    incoming.allow(HEAD_SECONDS, MOST_HEAD)
    line = incoming.readline()
    if not line.strip():
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or parts[2] not in ("HTTP/1.0", "HTTP/1.1") or not _TOKEN.fullmatch(parts[0]):
        raise FramingError(400, "malformed request line")
    items: list[tuple[str, str]] = []
    while (line := incoming.readline()) not in (b"\r\n", b"\n"):
        if not line.endswith(b"\n"):
            return None
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not _TOKEN.fullmatch(name) or "\r" in (value := value.strip(" \t\r\n")) or "\0" in value:
            raise FramingError(400, "malformed headers")
        if len(items) >= MOST_HEADERS:
            raise FramingError(431, f"more than {MOST_HEADERS} headers")
        items.append((name, value))
    return Head(parts[0], parts[1], parts[2], items)


def body_length(lengths: Sequence[str], encodings: Sequence[str], version: str = "HTTP/1.1") -> int | None:
    """The bytes of a request's body; None where it comes in chunks.

    Args:
        lengths: The values of all its Content-Length headers.
        encodings: The values of all its Transfer-Encoding headers.
        version: Of the request.

    Raises:
        FramingError: they are malformed, or contradict each other.
    """
    if encodings:
        if lengths or version == "HTTP/1.0":
            raise FramingError(400, "Transfer-Encoding where another length, or none, is due")
        if [one.strip().lower() for one in encodings] != ["chunked"]:
            raise FramingError(501, "a Transfer-Encoding other than chunked")
        return None
    if not lengths:
        return 0
    (length, *others) = lengths
    if others or not (length.isascii() and length.isdigit()):
        raise FramingError(400, "malformed Content-Length")
    # No body is as long as a number of twenty digits says, and longer ones cost time to read.
    digits = length.lstrip("0") or "0"
    return int(digits) if len(digits) < 20 else 10**20


def read_body(incoming: Incoming, length: int | None, most: int, seconds: float = BODY_SECONDS) -> bytes:
    """A request's body; one that is too large is not read.

    Args:
        incoming: Where it comes from.
        length: What `body_length` said.
        most: Its largest size in bytes.
        seconds: Within which it must have come.

    Raises:
        FramingError: it is larger, malformed, or cut off.
        TimeoutError: it did not come in time.
    """
    incoming.allow(seconds)
    if length is None:
        return _chunks(incoming, most)
    if length > most:
        raise FramingError(413, f"a body of more than {most} bytes")
    body = incoming.read(length)
    if len(body) < length:
        raise FramingError(400, "the body was cut off")
    return body


def _chunks(incoming: Incoming, most: int) -> bytes:
    body = bytearray()
    overhead = MOST_HEAD
    while True:
        line = incoming.readline(1024)
        size = _SIZE.match(line)
        if size is None or not line.endswith(b"\n") or line[size.end() : size.end() + 1] not in b"; \t\r\n":
            raise FramingError(400, "malformed chunk")
        length = int(size[0], 16)
        if len(body) + length > most:
            raise FramingError(413, f"a body of more than {most} bytes")
        # A body of single bytes may not cost many times its size.
        overhead -= max(0, len(line) - length)
        if overhead < 0:
            raise FramingError(400, "malformed chunks")
        if not length:
            break
        body += incoming.read(length)
        if incoming.readline(2).strip():
            raise FramingError(400, "malformed chunk")
    while (line := incoming.readline(1024)).strip():
        overhead -= len(line)
        if overhead < 0:
            raise FramingError(431, "the trailers are too large")
    return bytes(body)


class LimitedThreads(socketserver.ThreadingMixIn):
    """A thread a connection, and no more than `most_connections` of them.

    Where there is no room for one more, the one that has lain idle longest gives way; if all are busy, the new one is
    turned away at once.
    """

    most_connections = _MOST_CONNECTIONS
    tls: Callable[[], ssl.SSLContext] | None = None
    """Makes the TLS settings of each connection; None for plain text."""

    @contextlib.contextmanager
    def idling(self, connection: socket.socket) -> Iterator[None]:
        """While nothing is asked on a connection."""
        idle: dict[socket.socket, None] = self.__dict__.setdefault("_idle", {})
        idle[connection] = None
        try:
            yield
        finally:
            idle.pop(connection, None)

    def _given_way(self, held: threading.Semaphore) -> bool:
        """Whether an idle connection has made room for a new one."""
        for connection in list(self.__dict__.get("_idle", ())):
            with contextlib.suppress(OSError):
                # For reading only: what had come by now is still answered.
                connection.shutdown(socket.SHUT_RD)
                if held.acquire(timeout=_GIVE_WAY_SECONDS):
                    return True
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, if there is room."""
        held: threading.Semaphore = self.__dict__.setdefault("_room", threading.BoundedSemaphore(self.most_connections))
        if not held.acquire(blocking=False) and not self._given_way(held):
            with contextlib.suppress(OSError):
                request.settimeout(0)
                request.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)  # type: ignore[attr-defined]
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            held.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """What the thread does."""
        try:
            if self.tls is not None:
                try:
                    request.settimeout(HEAD_SECONDS)
                    request = self.tls().wrap_socket(request, server_side=True)
                except OSError:
                    # No certificate for it, or nobody who speaks TLS.
                    self.shutdown_request(request)  # type: ignore[attr-defined]
                    return
            super().process_request_thread(request, client_address)
        finally:
            self.__dict__["_room"].release()
