# SPDX-License-Identifier: Apache-2.0
"""A gRPC server of single calls, and of conversations: sockets and threads, as `labkit.ground.web` has for HTTP/1.1."""

from __future__ import annotations

import contextlib
import gzip
import io
import socket
import socketserver
import struct
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.ground.framing import HEAD_SECONDS, FramingError, LimitedThreads
from labkit.ground.web import real_port
from meshbox.images.grpc.frames import PREFACE, Connection, Stream

if TYPE_CHECKING:
    import ssl

__all__ = ["INTERNAL", "INVALID_ARGUMENT", "UNAVAILABLE", "UNIMPLEMENTED", "Call", "CallError",
           "Method", "Server", "framed", "listen", "taken", "unframed", "unzipped"]  # fmt: skip

INVALID_ARGUMENT, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 3, 12, 13, 14
_IDLE_SECONDS = 3600.0
_MOST_MESSAGE = 8 * 1024 * 1024


_START = [(":status", "200"), ("content-type", "application/grpc")]


class CallError(Exception):
    """A call that fails.

    Args:
        code: gRPC's, such as `INVALID_ARGUMENT`.
        words: What the caller is told.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


@dataclass(frozen=True)
class Call:
    """What is asked.

    Args:
        path: "/package.Service/Method".
        headers: By lower-case name, the last of each.
        items: The headers as they came.
        message: The message.
        client: The IP address it came from.
        port: The port it came to.
    """

    path: str
    headers: Mapping[str, str]
    items: list[tuple[str, str]]
    message: bytes
    client: str
    port: int


Method = Callable[[Call], bytes]
"""From a call the answer's message, or a `CallError`. In a conversation each message that comes is a call."""


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it."""
    return struct.pack(">BI", 0, len(message)) + message


def taken(body: bytearray) -> bytes | None:
    """The next whole message in a body, taken out of it; None while there is none.

    Raises:
        CallError: It is packed.
    """
    if len(body) < 5:
        return None
    packed, size = struct.unpack_from(">BI", body)
    if len(body) < 5 + size:
        return None
    message = bytes(body[5 : 5 + size])
    del body[: 5 + size]
    if packed:
        raise CallError(UNIMPLEMENTED, "packed messages are not taken in a conversation")
    return message


def unframed(body: bytes, encoding: str = "") -> bytes:
    """The one message in a body.

    Raises:
        CallError: there is none, or more than one, or one in an encoding that is not known.
    """
    if len(body) < 5:
        raise CallError(INTERNAL, "a call without a message")
    packed, size = struct.unpack_from(">BI", body)
    if len(body) != 5 + size:
        raise CallError(UNIMPLEMENTED, "streams of messages are not taken: one message a call")
    message = body[5:]
    if not packed:
        return message
    if encoding != "gzip":
        raise CallError(UNIMPLEMENTED, f"grpc: Decompressor is not installed for grpc-encoding {encoding!r}")
    try:
        return unzipped(message)
    except ValueError as error:
        raise CallError(INTERNAL, f"grpc: failed to decompress the message: {error}") from error


def unzipped(data: bytes) -> bytes:
    """What gzip has packed, if it is no larger than a message may be.

    Raises:
        ValueError: it is larger, or is no gzip.
    """
    try:
        with gzip.open(io.BytesIO(data)) as file:
            found = file.read(_MOST_MESSAGE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(found) > _MOST_MESSAGE:
        raise ValueError(f"more than {_MOST_MESSAGE} bytes")
    return found


class _Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self.request, accepts=True)
        # Who goes away in the middle is missed by nobody.
        with contextlib.suppress(OSError, FramingError):
            connection.incoming.allow(HEAD_SECONDS)
            if connection.incoming.read(len(PREFACE)) != PREFACE:
                return
            connection.begin()
            while self._came(connection) and connection.step():
                # While an answer waits for room, others may have been asked.
                while (asked := next((one for one in connection.streams.values() if one.ended), None)) is not None:
                    if self._talks(asked):
                        self._converse(connection, asked)
                    else:
                        self._answer(connection, asked)
                    connection.streams.pop(asked.number, None)
                for one in [one for one in connection.streams.values() if self._talks(one)]:
                    self._converse(connection, one)

    def _came(self, connection: Connection) -> bool:
        with self.server.idling(self.request):
            found = connection.incoming.wait(_IDLE_SECONDS)
        connection.incoming.allow(HEAD_SECONDS)
        return found

    def _talks(self, stream: Stream) -> bool:
        return dict(stream.headers).get(":path") in self.server.conversations

    def _call(self, headers: dict[str, str], stream: Stream, message: bytes) -> Call:
        port = self.server.server_address[1]
        return Call(headers.get(":path", ""), headers, stream.headers, message, self.client_address[0], port)

    def _converse(self, connection: Connection, stream: Stream) -> None:
        """Answer the messages that have come on a stream by now, and end it when the other side has or one fails."""
        headers = dict(stream.headers)
        method = self.server.conversations[headers[":path"]]
        try:
            while (message := taken(stream.body)) is not None:
                answer = method(self._call(headers, stream, message))
                if not stream.answered:
                    connection.headers(stream, _START, end=False)
                    stream.answered = True
                connection.data(stream, framed(answer), end=False)
        except CallError as error:
            self._end(connection, stream, error.code, error.words)
        except (OSError, FramingError):
            raise
        except Exception as error:
            traceback.print_exc()
            self._end(connection, stream, INTERNAL, type(error).__name__)
        else:
            if stream.ended:
                self._end(connection, stream, 0, "")

    @staticmethod
    def _end(connection: Connection, stream: Stream, code: int, words: str) -> None:
        ends = [("grpc-status", str(code)), *([("grpc-message", _escaped(words))] if words else [])]
        connection.headers(stream, ends if stream.answered else [*_START, *ends], end=True)
        connection.streams.pop(stream.number, None)

    def _answer(self, connection: Connection, stream: Stream) -> None:
        headers = dict(stream.headers)
        if not headers.get("content-type", "").startswith("application/grpc"):
            connection.headers(stream, [(":status", "415")], end=True)
            return
        code, words, message = 0, "", b""
        try:
            sent = unframed(bytes(stream.body), headers.get("grpc-encoding", ""))
            path = headers.get(":path", "")
            method = self.server.methods.get(path)
            if method is None:
                service, _, name = path.removeprefix("/").partition("/")
                known = any(one.startswith(f"/{service}/") for one in self.server.methods)
                raise CallError(
                    UNIMPLEMENTED,
                    f"unknown method {name} for service {service}" if known else f"unknown service {service}",
                )
            message = method(self._call(headers, stream, sent))
        except CallError as error:
            code, words = error.code, error.words
        except Exception as error:
            # One call's failure is answered; the next may go well.
            traceback.print_exc()
            code, words = INTERNAL, f"{type(error).__name__}"
        if not code:
            connection.headers(stream, _START, end=False)
            stream.answered = True
            connection.data(stream, framed(message), end=False)
        self._end(connection, stream, code, words)


def _escaped(words: str) -> str:
    return "".join(chr(c) if 32 <= c < 127 and c != 37 else f"%{c:02X}" for c in words.encode())


class Server(LimitedThreads, socketserver.TCPServer):
    """A listening server; made by `listen`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        methods: Mapping[str, Method],
        conversations: Mapping[str, Method],
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self.methods, self.conversations, self.tls = methods, conversations, tls
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no fault of ours; anything else is told on stderr."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def listen(
    port: int,
    methods: Mapping[str, Method],
    address: str,
    *,
    conversations: Mapping[str, Method] | None = None,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> Server:
    """Serve methods at a port, in threads, until the server is closed.

    Args:
        port: The port; 0 for any free one.
        methods: By path.
        address: Where to listen.
        conversations: Methods that answer message by message on a stream that stays open, by path.
        tls: Makes the TLS settings of each connection; None for plain text.

    Raises:
        OSError: the port cannot be bound; the message names it.
    """
    try:
        server = Server((address, real_port(port)), methods, conversations or {}, tls)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on port {real_port(port)}: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
