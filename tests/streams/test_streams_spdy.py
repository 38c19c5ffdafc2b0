# SPDX-License-Identifier: Apache-2.0
"""SPDY's framing, without a network: what a client that is old, hostile or broken may send."""

from __future__ import annotations

import asyncio
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshbox.api.streams import spdy
from meshbox.api.streams.spdy import SpdyConnection, SpdyStream
from tests.conftest import PATIENCE


class ScriptedWire:
    """Gives what the test feeds it, and keeps what is written."""

    def __init__(self, *pieces: bytes) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent = b""
        for piece in pieces:
            self.incoming.put_nowait(piece)

    async def read(self) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        self.sent += data

    def frames(self) -> list[tuple[int, int, bytes]]:
        """(type, flags, body) of each frame sent; type 0 is data, whose body begins with the stream's number."""
        found, rest = [], self.sent
        while rest:
            word, tail = struct.unpack(">II", rest[:8])
            length = tail & 0xFFFFFF
            body = rest[8 : 8 + length]
            found.append((word & 0xFFFF, tail >> 24, body) if word >> 31 else (0, tail >> 24, rest[:4] + body))
            rest = rest[8 + length :]
        return found


class Client:
    def __init__(self) -> None:
        self._compress = zlib.compressobj(zdict=spdy._DICTIONARY)

    def control(self, type_: int, body: bytes, flags: int = 0) -> bytes:
        return struct.pack(">HHI", 0x8003, type_, flags << 24 | len(body)) + body

    def open(self, number: int, headers: dict[str, str], flags: int = 0) -> bytes:
        text = struct.pack(">I", len(headers))
        for string in (s.encode() for pair in headers.items() for s in pair):
            text += struct.pack(">I", len(string)) + string
        block = self._compress.compress(text) + self._compress.flush(zlib.Z_SYNC_FLUSH)
        return self.control(1, struct.pack(">IIH", number, 0, 0) + block, flags)

    def data(self, number: int, data: bytes, *, end: bool = False) -> bytes:
        return struct.pack(">II", number, (1 << 24 if end else 0) | len(data)) + data


async def served(wire: ScriptedWire, limit: float = PATIENCE) -> list[SpdyStream]:
    """The streams that the client opened, once the connection has ended."""
    streams: list[SpdyStream] = []
    async with asyncio.timeout(limit):
        await SpdyConnection(wire, streams.append).run()
    return streams


async def read_all(stream: SpdyStream) -> bytes:
    text = b""
    while data := await stream.read():
        text += data
    return text


async def test_streams_data_and_half_close() -> None:
    client = Client()
    text = client.open(1, {"streamtype": "error", "port": "80"}, flags=1) + client.open(3, {"streamtype": "data"})
    text += client.data(3, b"hello ") + client.data(3, b"world", end=True)
    # One byte at a time: frames need not arrive whole.
    error, data = await served(ScriptedWire(*(text[i : i + 1] for i in range(len(text))), b""))
    assert (error.number, error.headers) == (1, {"streamtype": "error", "port": "80"})
    assert await read_all(error) == b""
    assert await read_all(data) == b"hello world"
    assert data.headers == {"streamtype": "data"}


async def test_replies_pings_and_writes() -> None:
    client, wire = Client(), ScriptedWire()
    streams: list[SpdyStream] = []
    running = asyncio.ensure_future(SpdyConnection(wire, streams.append).run())
    wire.incoming.put_nowait(client.open(1, {"a": "b"}) + client.control(6, struct.pack(">I", 7)))
    while len(wire.frames()) < 2:
        await asyncio.sleep(0)
    assert [(type_, body[:4]) for type_, _, body in wire.frames()] == [
        (2, struct.pack(">I", 1)),
        (6, struct.pack(">I", 7)),
    ]
    wire.sent = b""
    await streams[0].write(b"out")
    await streams[0].close()
    await streams[0].close()
    assert wire.frames() == [(0, 0, struct.pack(">I", 1) + b"out"), (0, 1, struct.pack(">I", 1))]
    with pytest.raises(BrokenPipeError):
        await streams[0].write(b"more")
    wire.incoming.put_nowait(b"")
    await running


async def test_a_reset_ends_both_directions() -> None:
    client = Client()
    (stream,) = await served(
        ScriptedWire(client.open(1, {}) + client.data(1, b"x") + client.control(3, struct.pack(">II", 1, 5)), b"")
    )
    assert stream.was_reset
    assert await stream.read() == b""
    with pytest.raises(ConnectionError):
        await stream.write(b"x")


async def test_a_refused_stream_is_reset() -> None:
    def refuse(stream: SpdyStream) -> None:
        raise ValueError("no")

    client = Client()
    wire = ScriptedWire(client.open(1, {}) + client.data(1, b"dropped"), b"")
    await SpdyConnection(wire, refuse).run()
    assert wire.frames() == [(3, 0, struct.pack(">II", 1, 3))]


async def test_a_stream_that_is_not_read_stops_the_connection_at_its_buffer() -> None:
    client, wire = Client(), ScriptedWire()
    streams: list[SpdyStream] = []
    running = asyncio.ensure_future(SpdyConnection(wire, streams.append).run())
    wire.incoming.put_nowait(client.open(1, {}))
    for _ in range(64):
        wire.incoming.put_nowait(client.data(1, b"x" * 65536))
    wire.incoming.put_nowait(b"")
    for _ in range(1000):
        await asyncio.sleep(0)
    left = wire.incoming.qsize()
    assert left >= 64 - 2 * spdy._ENOUGH // 65536
    assert len(await read_all(streams[0])) == 64 * 65536
    await running


async def test_a_header_block_that_explodes_ends_the_connection() -> None:
    client = Client()
    wire = ScriptedWire(client.open(1, {"a": "x" * 10_000_000}), client.open(3, {}), b"")
    assert await served(wire) == []


@given(st.binary(max_size=200), st.integers(1, 9), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_input_breaks_the_server(noise: bytes, type_: int, framed: bool) -> None:
    async def run() -> None:
        client = Client()
        await served(
            ScriptedWire(client.open(1, {"a": "b"}) + (client.control(type_, noise) if framed else noise), b"")
        )

    asyncio.run(run())
