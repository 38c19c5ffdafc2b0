# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 (RFC 9113) as far as a server of gRPC streams needs it, on the daemon's event loop.

`meshbox.images.grpc` has the same for programs in pods, with threads: there each message that comes is answered, while
here something is said whenever there is news.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from meshbox.images.grpc.frames import PREFACE, ProtocolError, unpadded
from meshbox.images.grpc.hpack import Decoder, HeaderError, encoded

__all__ = ["Http2", "Receiver", "Stream"]

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PRIORITY = 1, 1, 4, 32
_MOST_STREAMS, _INITIAL_WINDOW, _MAX_FRAME = 3, 4, 5
_WINDOW_SIZE = 65_535
_FRAME = 16_384
_STREAMS = 8
_MOST_HEADERS = 64 * 1024
_MOST_MESSAGE = 4 * 1024 * 1024
_FIRST_CALL = 30.0
"""Seconds for a first call that somebody takes."""
_MOST_BEFORE = 128 * 1024
"""Bytes that are heard of who has made no such call: an Envoy that is refused has said up to 64 KiB of who it is."""
_ANSWERED = [(":status", "200"), ("content-type", "application/grpc")]


def _framed(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload


class Receiver(Protocol):
    """Who takes what comes on a stream."""

    def message(self, body: bytes) -> None:
        """A message has come."""

    def closed(self) -> None:
        """The stream has ended, with whatever was still to be said on it."""


class Stream:
    """One call: what is said on it.

    Args:
        connection: Whose it is.
        number: Its number.
        window: How many bytes the other side takes on it.
    """

    def __init__(self, connection: Http2, number: int, window: int) -> None:
        self._connection, self._number = connection, number
        self.window = window
        self.receiver: Receiver | None = None
        self.came = bytearray()
        self.taken = 0
        self.waiting = bytearray()
        self.begun = False

    def send(self, message: bytes) -> None:
        """Say a message."""
        if not self.begun:
            self.begun = True
            self._connection.frame(_HEADERS, _END_HEADERS, self._number, encoded(_ANSWERED))
        self.waiting += struct.pack(">BI", 0, len(message)) + message
        self._connection.flush(self._number)

    def end(self, code: int, words: str = "") -> None:
        """End the call with gRPC's `code`."""
        ends = [("grpc-status", str(code)), ("grpc-message", words)]
        headers = ends if self.begun else [*_ANSWERED, *ends]
        self._connection.frame(_HEADERS, _END_HEADERS | _END_STREAM, self._number, encoded(headers))
        self._connection.forget(self._number)


class Http2(asyncio.Protocol):
    """One connection.

    Args:
        opened: Given the headers of a call and its stream, who takes what comes on it; None where it was ended.

    Attributes:
        known: Whether a call of its was taken. Until then it may say only so much, and not for long.
    """

    def __init__(self, opened: Callable[[Mapping[str, str], Stream], Receiver | None]) -> None:
        self._opened = opened
        self.known = False
        self._before = 0
        self._waited: asyncio.TimerHandle | None = None
        self._decoder = Decoder(_MOST_HEADERS)
        self._transport: asyncio.Transport | None = None
        self._came = bytearray()
        self._greeted = False
        self._window = self._initial = _WINDOW_SIZE
        self._taken = 0
        self._frame = _FRAME
        self._streams: dict[int, Stream] = {}
        self._headers: tuple[int, int, bytearray] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say how many streams are taken."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._waited = asyncio.get_running_loop().call_later(_FIRST_CALL, self.hang_up)
        self.frame(_SETTINGS, 0, 0, struct.pack(">HI", _MOST_STREAMS, _STREAMS))

    def connection_lost(self, exc: Exception | None) -> None:
        """All calls have ended."""
        self._transport = None
        self._wait_no_more()
        for number in list(self._streams):
            self.forget(number)

    def pause_writing(self) -> None:
        """The other side does not read: nothing more is heard of it, since much that it says is answered."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The other side reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take what is whole by now; who speaks something else is hung up on."""
        self._came += data
        try:
            if not self._greeted:
                if not PREFACE.startswith(self._came[: len(PREFACE)]):
                    raise ProtocolError("no HTTP/2")
                if len(self._came) < len(PREFACE):
                    return
                del self._came[: len(PREFACE)]
                self._greeted = True
            while len(self._came) >= 9:
                size = int.from_bytes(self._came[:3], "big")
                if size > _FRAME:
                    raise ProtocolError("a frame that is too large")
                if len(self._came) < 9 + size:
                    return
                kind, flags = self._came[3], self._came[4]
                number = int.from_bytes(self._came[5:9], "big") & 0x7FFFFFFF
                payload = bytes(self._came[9 : 9 + size])
                del self._came[: 9 + size]
                self._take(kind, flags, number, payload)
        except (ProtocolError, HeaderError, struct.error):
            self.hang_up()

    def hang_up(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Send a frame."""
        self._write(_framed(kind, flags, number, payload))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def flush(self, number: int) -> None:
        """Send of what is to be said as much as the other side takes now."""
        stream = self._streams.get(number)
        if stream is None or not stream.waiting:
            return
        room = min(self._window, stream.window, len(stream.waiting))
        if room <= 0:
            return
        self._window, stream.window = self._window - room, stream.window - room
        said = bytes(stream.waiting[:room])
        del stream.waiting[:room]
        parts = (said[at : at + self._frame] for at in range(0, room, self._frame))
        # In one go, since each would be a call to the system.
        self._write(b"".join(_framed(_DATA, 0, number, part) for part in parts))

    def forget(self, number: int) -> None:
        """A call has ended."""
        stream = self._streams.pop(number, None)
        if stream is not None and stream.receiver is not None:
            stream.receiver.closed()

    def _wait_no_more(self) -> None:
        if self._waited is not None:
            self._waited.cancel()
            self._waited = None

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if not self.known:
            self._before += 9 + len(payload)
            if self._before > _MOST_BEFORE:
                raise ProtocolError("too much without a call that is taken")
        if self._headers is not None and (kind != _CONTINUATION or number != self._headers[0]):
            raise ProtocolError("headers that do not go on")
        if kind == _DATA:
            self._take_data(number, flags, payload)
        elif kind == _HEADERS:
            block = bytearray(unpadded(payload, flags)[5 if flags & _PRIORITY else 0 :])
            self._headers = number, flags, block
            self._take_headers(flags)
        elif kind == _CONTINUATION:
            if self._headers is None:
                raise ProtocolError("headers that go on without having begun")
            self._headers[2].extend(payload)
            self._take_headers(flags)
        elif kind == _RESET:
            self.forget(number)
        elif kind == _SETTINGS and not flags & _ACK:
            self._take_settings(payload)
        elif kind == _PING and not flags & _ACK:
            self.frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW:
            more = struct.unpack(">I", payload)[0] & 0x7FFFFFFF
            if number in self._streams:
                self._streams[number].window += more
            elif not number:
                self._window += more
            for one in list(self._streams):
                self.flush(one)

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW:
                for stream in self._streams.values():
                    stream.window += value - self._initial
                self._initial = value
            elif name == _MAX_FRAME:
                self._frame = max(_FRAME, min(value, 1 << 20))
        self.frame(_SETTINGS, _ACK, 0, b"")
        for one in list(self._streams):
            self.flush(one)

    def _take_headers(self, flags: int) -> None:
        assert self._headers is not None
        number, first, block = self._headers
        if len(block) > _MOST_HEADERS:
            raise ProtocolError("the headers are too large")
        if not flags & _END_HEADERS:
            return
        self._headers = None
        found = dict(self._decoder.read(bytes(block)))
        if number not in self._streams and not first & _END_STREAM:
            if len(self._streams) >= _STREAMS:
                raise ProtocolError("too many streams")
            stream = self._streams[number] = Stream(self, number, self._initial)
            stream.receiver = self._opened(found, stream)
            if stream.receiver is not None and not self.known:
                self.known = True
                self._wait_no_more()
        elif first & _END_STREAM:
            self.forget(number)

    def _room_again(self, number: int, taken: int) -> int:
        """Make room again for what was taken, if that is much; what is still taken after it."""
        if taken < _WINDOW_SIZE // 2:
            return taken
        self.frame(_WINDOW, 0, number, struct.pack(">I", taken))
        return 0

    def _take_data(self, number: int, flags: int, payload: bytes) -> None:
        # Whatever comes of it, the connection goes on. Room is made when half of it is taken: most messages are short.
        self._taken = self._room_again(0, self._taken + len(payload))
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.taken = self._room_again(number, stream.taken + len(payload))
        stream.came += unpadded(payload, flags)
        # What was said behind a message that ended the call concerns nobody.
        while len(stream.came) >= 5 and number in self._streams:
            packed, size = struct.unpack_from(">BI", stream.came)
            if packed or size > _MOST_MESSAGE:
                raise ProtocolError("a message that is packed, or too large")
            if len(stream.came) < 5 + size:
                break
            message = bytes(stream.came[5 : 5 + size])
            del stream.came[: 5 + size]
            if stream.receiver is not None:
                stream.receiver.message(message)
        if flags & _END_STREAM and number in self._streams:
            stream.end(0)
