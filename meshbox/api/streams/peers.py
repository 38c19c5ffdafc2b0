# SPDX-License-Identifier: Apache-2.0
"""The client's end of an exec or attach: numbered channels in a WebSocket, or named streams in SPDY."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from typing import Protocol

from aiohttp import WSMsgType, web

from meshbox.api.streams.spdy import SpdyConnection, SpdyStream
from meshbox.api.streams.upgrade import open_spdy, open_websocket, spdy_protocol, websocket_protocol
from meshbox.contracts import ExecSession, Obj

__all__ = ["ERROR", "RESIZE", "STDERR", "STDIN", "STDOUT", "Channels", "Peer", "SocketPeer", "SpdyPeer"]

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)

_CLOSE_CHANNEL = 255
_CREATION_DEADLINE = 30.0
_FAREWELL = 2.0
_SPDY_TYPES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
_SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
_SOCKET_PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)


class Peer(Protocol):
    """The client, however it is connected."""

    async def receive(self, session: ExecSession) -> None:
        """Hand what the client sends to `session`, until the client is gone."""

    async def send(self, channel: int, data: bytes) -> None:
        """Send output, waiting while the client does not read.

        Raises:
            ConnectionError: the client is gone.
        """

    async def finish(self, status: Obj) -> None:
        """Say how the command ended, and that nothing follows. The client's input must not be received any more."""


def _status_text(status: Obj, protocol: str) -> bytes:
    """The last words on the error channel: a Status since version 4, before that a message, and only of a failure."""
    if protocol.startswith(("v4.", "v5.")):
        return json.dumps(status).encode()
    return str(status.get("message", "")).encode()


async def _resize(session: ExecSession, text: bytes) -> bytes:
    """Apply each terminal size in `text` (JSON objects in a row); what remains is an object not yet complete."""
    decoder = json.JSONDecoder()
    rest = text.decode("utf-8", "replace").lstrip()
    while rest:
        try:
            size, end = decoder.raw_decode(rest)
            session.resize(int(size["Width"]), int(size["Height"]))
        except json.JSONDecodeError:
            break
        except (KeyError, TypeError, ValueError):
            return b""
        rest = rest[end:].lstrip()
    return rest.encode()[:1024]


class _Stdin:
    """Where stdin goes: nowhere once the command has closed it."""

    def __init__(self, session: ExecSession) -> None:
        self._session = session
        self._open = True

    async def write(self, data: bytes) -> None:
        if self._open and data:
            try:
                await self._session.write_stdin(data)
            except (BrokenPipeError, ConnectionResetError):
                self._open = False

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self._session.close_stdin()


class Channels:
    """A WebSocket whose messages begin with the number of their channel, raw or (as a digit) before base64."""

    def __init__(self, socket: web.WebSocketResponse, protocol: str) -> None:
        self._socket = socket
        self._base64 = "base64" in protocol

    async def send(self, channel: int, data: bytes) -> None:
        """Send one message."""
        if self._base64:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes((channel,)) + data)

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message that makes sense; None once the client is gone."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                data = message.data.encode()
            elif message.type is WSMsgType.BINARY:
                data = bytes(message.data)
            else:
                return None
            if not data:
                continue
            if not self._base64 or data[0] == _CLOSE_CHANNEL:
                return data[0], data[1:]
            try:
                return data[0] - ord("0"), base64.b64decode(data[1:], validate=True)
            except binascii.Error:
                continue

    async def close(self) -> None:
        """End the conversation in good order."""
        await self._socket.close()


class SocketPeer:
    """A client on a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, protocol: str, *, stdin: bool) -> None:
        self._channels = Channels(socket, protocol)
        self._protocol = protocol
        self._stdin = stdin

    @staticmethod
    def protocol(request: web.Request) -> str:
        """The subprotocol to speak.

        Raises:
            ApiError: 403 where the client offers none that is known.
        """
        return websocket_protocol(request, _SOCKET_PROTOCOLS)

    @classmethod
    async def open(cls, request: web.Request, *, stdin: bool, first: int) -> tuple[SocketPeer, web.StreamResponse]:
        """Upgrade; an empty message on the channel `first` tells the client that all is ready."""
        protocol = cls.protocol(request)
        socket = await open_websocket(request, protocol)
        peer = cls(socket, protocol, stdin=stdin)
        await peer.send(first, b"")
        return peer, socket

    async def receive(self, session: ExecSession) -> None:
        """As `Peer.receive`."""
        stdin = _Stdin(session)
        while (message := await self._channels.receive()) is not None:
            channel, data = message
            if channel == STDIN and self._stdin:
                await stdin.write(data)
            elif channel == RESIZE:
                await _resize(session, data)
            elif channel == _CLOSE_CHANNEL and data == bytes((STDIN,)):
                await stdin.close()

    async def send(self, channel: int, data: bytes) -> None:
        """As `Peer.send`."""
        await self._channels.send(channel, data)

    async def finish(self, status: Obj) -> None:
        """As `Peer.finish`."""
        text = _status_text(status, self._protocol)
        if text:
            await self._channels.send(ERROR, text)
        await self._channels.close()


class SpdyPeer:
    """A client that speaks SPDY."""

    def __init__(self, connection: SpdyConnection, reading: asyncio.Task[None], protocol: str) -> None:
        self._connection = connection
        self._reading = reading
        self._protocol = protocol
        self._streams: dict[int, SpdyStream] = {}

    @staticmethod
    def protocol(request: web.Request) -> str:
        """The stream protocol to speak.

        Raises:
            ApiError: 403 where the client offers none that is known.
        """
        return spdy_protocol(request, _SPDY_PROTOCOLS)

    @classmethod
    async def open(cls, request: web.Request, expected: set[int]) -> tuple[SpdyPeer, web.StreamResponse]:
        """Upgrade, and wait for the client to open the `expected` streams.

        Raises:
            ConnectionError: the client went away, or did not open them in time.
        """
        protocol = cls.protocol(request)
        if not protocol.startswith(("v3.", "v4.")):
            expected = expected - {RESIZE}
        opened: asyncio.Queue[SpdyStream] = asyncio.Queue()

        def accept(stream: SpdyStream) -> None:
            if stream.headers.get("streamtype") not in _SPDY_TYPES:
                raise ValueError(f"unexpected stream type {stream.headers.get('streamtype')!r}")
            opened.put_nowait(stream)

        wire, response = await open_spdy(request, protocol)
        connection = SpdyConnection(wire, accept)
        peer = cls(connection, asyncio.ensure_future(connection.run()), protocol)
        try:
            async with asyncio.timeout(_CREATION_DEADLINE):
                while not expected <= peer._streams.keys():
                    stream = await peer._next(opened)
                    peer._streams[_SPDY_TYPES[stream.headers["streamtype"]]] = stream
        except (TimeoutError, ConnectionError, asyncio.CancelledError) as error:
            await peer._stop()
            if isinstance(error, TimeoutError):
                raise ConnectionError("timed out waiting for client to create streams") from error
            raise
        return peer, response

    async def _next(self, opened: asyncio.Queue[SpdyStream]) -> SpdyStream:
        got: asyncio.Task[SpdyStream] = asyncio.ensure_future(opened.get())
        try:
            await asyncio.wait({got, self._reading}, return_when=asyncio.FIRST_COMPLETED)
            if got.done():
                return got.result()
            raise ConnectionResetError("the client is gone")
        finally:
            got.cancel()
            await asyncio.gather(got, return_exceptions=True)

    async def receive(self, session: ExecSession) -> None:
        """As `Peer.receive`."""
        readers = [
            asyncio.ensure_future(self._receive_stdin(session)),
            asyncio.ensure_future(self._receive_sizes(session)),
        ]
        try:
            await asyncio.shield(self._reading)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _receive_stdin(self, session: ExecSession) -> None:
        stream = self._streams.get(STDIN)
        if stream is None:
            return
        stdin = _Stdin(session)
        while data := await stream.read():
            await stdin.write(data)
        await stdin.close()

    async def _receive_sizes(self, session: ExecSession) -> None:
        stream = self._streams.get(RESIZE)
        text = b""
        while stream is not None and (data := await stream.read()):
            text = await _resize(session, text + data)

    async def send(self, channel: int, data: bytes) -> None:
        """As `Peer.send`; dropped where the client opened no such stream."""
        stream = self._streams.get(channel)
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: Obj) -> None:
        """As `Peer.finish`."""
        for channel in (STDIN, RESIZE):
            if channel in self._streams:
                self._streams[channel].discard()
        for channel in (STDOUT, STDERR):
            if channel in self._streams:
                await self._streams[channel].close()
        text = _status_text(status, self._protocol)
        if text:
            await self.send(ERROR, text)
        await self._streams[ERROR].close()
        # Closed at once, what the client still sends would reset the connection before it has read the end.
        await asyncio.wait({self._reading}, timeout=_FAREWELL)
        await self._stop()

    async def _stop(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
