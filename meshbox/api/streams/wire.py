# SPDX-License-Identifier: Apache-2.0
"""The raw bytes below a stream: an HTTP connection taken over after ``101 Switching Protocols``, or a WebSocket."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from aiohttp import WSMsgType, web

__all__ = ["TakenConnection", "UpgradedWire", "WebSocketWire", "Wire"]

_ENOUGH = 256 * 1024
"""Bytes that wait for a slow reader before the client is told to stop sending (by TCP)."""


class Wire(Protocol):
    """A two-way byte stream to the client."""

    async def read(self) -> bytes:
        """The next bytes; b"" once the client is gone."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`, waiting while the client does not read.

        Raises:
            ConnectionError: the client is gone.
        """


class TakenConnection(asyncio.Protocol):
    """An HTTP connection whose incoming bytes are ours from now on; its former owner learns all other events.

    aiohttp does not say when the client of a running response goes away, and parses as HTTP what follows any upgrade
    but WebSocket's; this does both with nothing but asyncio's own interface.
    """

    def __init__(self, request: web.Request) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        self._transport = transport
        self._former = request.protocol
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._news = asyncio.Event()
        transport.set_protocol(self)

    async def read(self) -> bytes:
        """The next bytes; b"" once the client is gone."""
        while not self._chunks:
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._paused and self._size <= _ENOUGH // 2 and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
        return chunk

    async def until_gone(self) -> None:
        """Wait for the client to go away; what it sends meanwhile is dropped."""
        while await self.read():
            pass

    def data_received(self, data: bytes) -> None:
        """Keep `data` until it is read."""
        self._chunks.append(data)
        self._size += len(data)
        self._news.set()
        if self._size > _ENOUGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Nothing more comes; asyncio closes the transport."""
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._end()
        self._former.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read: its writers wait."""
        self._former.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._former.resume_writing()

    def _end(self) -> None:
        self._ended = True
        self._news.set()


class UpgradedWire:
    """A connection after ``101 Switching Protocols`` to something that is no WebSocket."""

    def __init__(self, connection: TakenConnection, response: web.StreamResponse) -> None:
        self._connection = connection
        self._response = response

    async def read(self) -> bytes:
        """As `Wire.read`."""
        return await self._connection.read()

    async def write(self, data: bytes) -> None:
        """As `Wire.write`."""
        await self._response.write(data)


class WebSocketWire:
    """The binary messages of a WebSocket, as one byte stream."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        """As `Wire.read`."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                if message.data:
                    return bytes(message.data)
            elif message.type is not WSMsgType.TEXT:
                return b""

    async def write(self, data: bytes) -> None:
        """As `Wire.write`."""
        await self._socket.send_bytes(data)
