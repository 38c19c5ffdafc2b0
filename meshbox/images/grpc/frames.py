# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 (RFC 9113) for one side of a connection that carries calls: frames, windows and streams."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from labkit.ground.framing import Incoming
from meshbox.images.grpc.hpack import Decoder, HeaderError, encoded

__all__ = ["PREFACE", "Connection", "ProtocolError", "Stream", "unpadded"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_INITIAL_WINDOW, _MAX_FRAME = 4, 5
_WINDOW_SIZE = 65_535
_FRAME = 16_384
_MOST_BODY = 8 * 1024 * 1024
"""Bytes of what one stream sends."""
_MOST_HEADERS = 64 * 1024
_MOST_STREAMS = 100


class ProtocolError(ConnectionError):
    """What came is no HTTP/2, or the other side has ended the stream or the connection."""


@dataclass
class Stream:
    """One exchange.

    Args:
        number: Its number.
        window: How many bytes may still be sent on it.
        headers: What came first.
        trailers: What came after the body.
        body: What came.
        ended: Whether nothing more comes.
        answered: Whether headers were sent on it.
    """

    number: int
    window: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    answered: bool = False


class Connection:
    """One side. Nobody but one thread reads and writes.

    Args:
        connection: The socket.
        accepts: Whether the other side opens streams.
    """

    def __init__(self, connection: socket.socket, *, accepts: bool) -> None:
        self._socket = connection
        self.incoming = Incoming(connection)
        self._accepts = accepts
        self._decoder = Decoder(_MOST_HEADERS)
        self._window = self._initial = _WINDOW_SIZE
        self._frame = _FRAME
        self.streams: dict[int, Stream] = {}
        self.going = False
        """Whether the other side opens no more streams, or takes none."""

    def begin(self) -> None:
        """Send what a side sends first."""
        self._send(_SETTINGS, 0, 0, struct.pack(">HI", 3, _MOST_STREAMS))

    def open(self, number: int, headers: Iterable[tuple[str, str]]) -> Stream:
        """Open a stream of one's own with headers, of which a body follows."""
        stream = self.streams[number] = Stream(number, self._initial)
        self._send(_HEADERS, _END_HEADERS, number, encoded(headers))
        return stream

    def headers(self, stream: Stream, headers: Iterable[tuple[str, str]], *, end: bool) -> None:
        """Send headers, or trailers where they end it."""
        self._send(_HEADERS, _END_HEADERS | (_END_STREAM if end else 0), stream.number, encoded(headers))

    def data(self, stream: Stream, body: bytes, *, end: bool) -> None:
        """Send a body, as fast as the other side takes it.

        Raises:
            ProtocolError: the other side does not want it any more.
        """
        at = 0
        while at < len(body) or (end and not body):
            room = min(self._window, stream.window, self._frame)
            if room <= 0 and body:
                if not self.step() or stream.number not in self.streams:
                    raise ProtocolError("the stream ended")
                continue
            part = body[at : at + room]
            at += len(part)
            self._window, stream.window = self._window - len(part), stream.window - len(part)
            self._send(_DATA, _END_STREAM if end and at == len(body) else 0, stream.number, part)
            if not body:
                return

    def _send(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload)

    def step(self) -> bool:
        """Take one frame; False at the connection's end.

        Raises:
            ProtocolError: it is none.
            TimeoutError: it did not come in time.
        """
        head = self.incoming.read(9)
        if len(head) < 9:
            return False
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        number = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        if size > _FRAME:
            raise ProtocolError("a frame that is too large")
        payload = self.incoming.read(size)
        if len(payload) < size:
            return False
        if kind == _DATA:
            self._take_data(number, flags, payload)
        elif kind == _HEADERS:
            self._take_headers(number, flags, payload)
        elif kind == _RESET:
            self.streams.pop(number, None)
        elif kind == _SETTINGS and not flags & _ACK:
            self._take_settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._send(_PING, _ACK, 0, payload)
        elif kind == _GO_AWAY:
            self.going = True
        elif kind == _WINDOW and size == 4:
            more = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if not number:
                self._window += more
            elif number in self.streams:
                self.streams[number].window += more
        elif kind == _CONTINUATION:
            raise ProtocolError("headers that go on without having begun")
        return True

    def _take_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload) - 5, 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == _INITIAL_WINDOW:
                for stream in self.streams.values():
                    stream.window += value - self._initial
                self._initial = value
            elif name == _MAX_FRAME:
                self._frame = max(_FRAME, min(value, 1 << 20))
        self._send(_SETTINGS, _ACK, 0, b"")

    def _take_data(self, number: int, flags: int, payload: bytes) -> None:
        if payload:
            # Whatever comes of it, the connection goes on.
            self._send(_WINDOW, 0, 0, struct.pack(">I", len(payload)))
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            return
        stream.body += unpadded(payload, flags)
        if len(stream.body) > _MOST_BODY:
            raise ProtocolError(f"a message of more than {_MOST_BODY} bytes")
        stream.ended = bool(flags & _END_STREAM)
        if payload and not stream.ended:
            self._send(_WINDOW, 0, number, struct.pack(">I", len(payload)))

    def _take_headers(self, number: int, flags: int, payload: bytes) -> None:
        block = bytearray(unpadded(payload, flags)[5 if flags & _PRIORITY else 0 :])
        end = flags & _END_HEADERS
        while not end:
            head = self.incoming.read(9)
            if len(head) < 9 or head[3] != _CONTINUATION or int.from_bytes(head[5:], "big") != number:
                raise ProtocolError("headers that do not go on")
            block += self.incoming.read(int.from_bytes(head[:3], "big"))
            if len(block) > _MOST_HEADERS:
                raise ProtocolError("the headers are too large")
            end = head[4] & _END_HEADERS
        try:
            found = self._decoder.read(bytes(block))
        except HeaderError as error:
            raise ProtocolError(str(error)) from error
        stream = self.streams.get(number)
        if stream is None:
            if not self._accepts:
                return
            if len(self.streams) >= _MOST_STREAMS:
                raise ProtocolError("too many streams")
            stream = self.streams[number] = Stream(number, self._initial)
        if stream.headers:
            stream.trailers = found
        else:
            stream.headers = found
        stream.ended = stream.ended or bool(flags & _END_STREAM)


def unpadded(payload: bytes, flags: int) -> bytes:
    """The payload of a frame of data or headers.

    Raises:
        ProtocolError: it says that it has more padding than there is.
    """
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("more padding than there is room for")
    return payload[1 : len(payload) - payload[0]]
