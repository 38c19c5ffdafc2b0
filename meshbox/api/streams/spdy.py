# SPDX-License-Identifier: Apache-2.0
"""SPDY/3.1 as Kubernetes uses it: many streams in one connection, all of them opened by the client.

Source: the SPDY/3.1 draft (framing, the dictionary of its header compression). Like Kubernetes' own implementation,
this one neither sends nor heeds WINDOW_UPDATE: no Kubernetes client does, and waiting for one would stall it for ever.
A slow reader is made to wait by TCP instead: at most `_ENOUGH` bytes of a stream are kept here.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import deque
from collections.abc import Callable

from meshbox.api.streams.wire import Wire

__all__ = ["SpdyConnection", "SpdyStream"]

_ENOUGH = 256 * 1024
_LONGEST_CONTROL = 64 * 1024

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 6, 7, 8
_FIN = 1
_REFUSED, _CANCEL = 3, 5

_WORDS = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|allow|"
    "authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|"
    "content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|"
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|"
    "proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|"
    "user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|"
    "keep-alive|origin"
)
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


_DICTIONARY = b"".join(_string(word.encode()) for word in _WORDS.split("|")) + _REST.encode()


class SpdyStream:
    """One stream: two byte streams, either of which can end before the other."""

    def __init__(self, connection: SpdyConnection, number: int, headers: dict[str, str]) -> None:
        self.number = number
        self.headers = headers
        self.was_reset = False
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._closed = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def read(self) -> bytes:
        """The client's next bytes; b"" once it sends no more (`was_reset` tells a reset from a regular end)."""
        while not self._chunks:
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        self._room.set()
        return chunk

    async def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            ConnectionError: the stream or the connection is gone.
        """
        if self._closed:
            raise BrokenPipeError(f"SPDY stream {self.number} is closed")
        await self._connection._data(self, data)

    async def close(self) -> None:
        """Send no more; the client may."""
        if not self._closed:
            self._closed = True
            await self._connection._data(self, b"", end=True)
            self._connection._forget(self)

    async def reset(self) -> None:
        """End both directions at once; what the client still sends is dropped."""
        self._drop()
        if not self._closed:
            self._closed = True
            await self._connection._reset(self, _CANCEL)

    def discard(self) -> None:
        """Read no more; what the client still sends is dropped."""
        self._drop()

    async def _arrived(self, data: bytes) -> None:
        while self._size >= _ENOUGH and not self._ended:
            self._room.clear()
            await self._room.wait()
        if not self._ended:
            self._chunks.append(data)
            self._size += len(data)
            self._news.set()

    def _end(self) -> None:
        self._ended = True
        self._news.set()
        self._room.set()

    def _drop(self) -> None:
        self._chunks.clear()
        self._size = 0
        self._end()

    @property
    def _finished(self) -> bool:
        return self._closed and self._ended


class SpdyConnection:
    """The server's side of a connection.

    Args:
        wire: What carries it.
        accept: Called with each stream that the client opens; raises ValueError to refuse it.
    """

    def __init__(self, wire: Wire, accept: Callable[[SpdyStream], None]) -> None:
        self._wire = wire
        self._accept = accept
        self._streams: dict[int, SpdyStream] = {}
        self._buffer = bytearray()
        self._compress = zlib.compressobj(zdict=_DICTIONARY)
        self._decompress = zlib.decompressobj(zdict=_DICTIONARY)

    async def run(self) -> None:
        """Read frames until the client is gone or breaks the protocol."""
        try:
            while await self._frame():
                pass
        except (ConnectionError, struct.error, UnicodeDecodeError, zlib.error):
            # A vanished client and one that talks something else end alike: by the end of the connection.
            pass
        finally:
            for stream in list(self._streams.values()):
                stream.was_reset = stream._closed = True
                stream._end()
            self._streams.clear()

    async def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            data = await self._wire.read()
            if not data:
                return False
            self._buffer += data
        return True

    def _take(self, size: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken

    async def _frame(self) -> bool:
        if not await self._fill(8):
            return False
        word, rest = struct.unpack(">II", self._take(8))
        flags, length = rest >> 24, rest & 0xFFFFFF
        if not word >> 31:
            return await self._data_frame(word, flags, length)
        if length > _LONGEST_CONTROL or not await self._fill(length):
            return False
        await self._control_frame(word & 0xFFFF, flags, self._take(length))
        return True

    async def _data_frame(self, number: int, flags: int, length: int) -> bool:
        stream = self._streams.get(number)
        while length:
            if not await self._fill(1):
                return False
            piece = self._take(min(length, len(self._buffer)))
            length -= len(piece)
            if stream is not None:
                await stream._arrived(piece)
        if stream is not None and flags & _FIN:
            stream._end()
            self._forget(stream)
        return True

    async def _control_frame(self, type_: int, flags: int, body: bytes) -> None:
        if type_ == _SYN_STREAM:
            await self._opened(body, flags)
        elif type_ == _RST_STREAM:
            stream = self._streams.pop(struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF, None)
            if stream is not None:
                stream.was_reset = stream._closed = True
                stream._drop()
        elif type_ == _PING:
            await self._control(_PING, body)
        elif type_ == _HEADERS:
            # Of no use to us, but the compression of what follows depends on it.
            self._header_block(body[4:])

    async def _opened(self, body: bytes, flags: int) -> None:
        number = struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF
        stream = SpdyStream(self, number, self._header_block(body[10:]))
        if flags & _FIN:
            stream._end()
        try:
            if number in self._streams:
                raise ValueError(f"stream {number} is open already")
            self._accept(stream)
        except ValueError:
            await self._reset(stream, _REFUSED)
            return
        self._streams[number] = stream
        block = self._compress.compress(struct.pack(">I", 0)) + self._compress.flush(zlib.Z_SYNC_FLUSH)
        await self._control(_SYN_REPLY, struct.pack(">I", number) + block)

    def _header_block(self, block: bytes) -> dict[str, str]:
        text = self._decompress.decompress(block, _LONGEST_CONTROL)
        if self._decompress.unconsumed_tail:
            raise zlib.error("a header block is too long")
        (count,) = struct.unpack_from(">I", text)
        strings, position = [], 4
        for _ in range(2 * count):
            (size,) = struct.unpack_from(">I", text, position)
            strings.append(text[position + 4 : position + 4 + size].decode())
            position += 4 + size
        return dict(zip(strings[::2], strings[1::2], strict=True))

    async def _data(self, stream: SpdyStream, data: bytes, *, end: bool = False) -> None:
        await self._wire.write(struct.pack(">II", stream.number, (_FIN << 24 if end else 0) | len(data)) + data)

    async def _reset(self, stream: SpdyStream, status: int) -> None:
        self._streams.pop(stream.number, None)
        await self._control(_RST_STREAM, struct.pack(">II", stream.number, status))

    async def _control(self, type_: int, body: bytes) -> None:
        await self._wire.write(struct.pack(">HHI", 0x8003, type_, len(body)) + body)

    def _forget(self, stream: SpdyStream) -> None:
        if stream._finished:
            self._streams.pop(stream.number, None)
