# SPDX-License-Identifier: Apache-2.0
"""The server's side of a WebSocket (RFC 6455), for images that answer one: shakes hands, and sends back what comes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import struct
from collections.abc import Callable
from functools import partial

from labkit.ground.framing import FramingError, Incoming
from labkit.ground.web import Request, Response

__all__ = ["accept"]

_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_MOST = 1 << 20
"""Bytes of a message."""

_IDLE = 3600.0

Send = Callable[[bytes], None]
Answer = Callable[[bytes, bool], bytes]
"""From a message, and whether it is text, the one that is sent back."""


def accept(request: Request, answer: Answer | None = None) -> Response:
    """Shake hands, then answer each message; by default with itself. 400 if `request` asks for no WebSocket."""
    key = request.headers.get("sec-websocket-key", "")
    wanted = request.headers.get("upgrade", "").lower() == "websocket"
    if request.method != "GET" or not wanted or not key:
        return Response(400, "a WebSocket is expected here: Upgrade: websocket\n", content_type="text/plain")
    told = base64.b64encode(hashlib.sha1(key.encode() + _KEY.encode(), usedforsecurity=False).digest()).decode()
    headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", told)]
    return Response(101, b"", headers, upgrade=partial(_talk, answer or (lambda message, _text: message)))


def _talk(answer: Answer, incoming: Incoming, send: Send) -> None:
    # Who goes away in the middle is missed by nobody.
    with contextlib.suppress(OSError, EOFError, FramingError):
        message, kind = b"", _TEXT
        while True:
            incoming.allow(_IDLE)
            final, opcode, data = _frame(incoming)
            if opcode == _CLOSE:
                send(_framed(_CLOSE, data[:2]))
                return
            if opcode == _PING:
                send(_framed(_PONG, data))
            elif opcode in (_CONTINUED, _TEXT, _BINARY):
                message, kind = (message + data, kind) if opcode == _CONTINUED else (data, opcode)
                if len(message) > _MOST:
                    send(_framed(_CLOSE, struct.pack(">H", 1009)))
                    return
                if final:
                    send(_framed(kind, answer(message, kind == _TEXT)))
                    message = b""


def _frame(incoming: Incoming) -> tuple[bool, int, bytes]:
    first, second = _exactly(incoming, 2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", _exactly(incoming, 2))
    elif length == 127:
        (length,) = struct.unpack(">Q", _exactly(incoming, 8))
    if length > _MOST:
        raise EOFError
    mask = _exactly(incoming, 4) if second & 0x80 else bytes(4)
    data = _exactly(incoming, length)
    pad = (mask * (length // 4 + 1))[:length]
    plain = (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(length, "big")
    return bool(first & 0x80), first & 0x0F, plain


def _exactly(incoming: Incoming, size: int) -> bytes:
    data = incoming.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _framed(opcode: int, data: bytes) -> bytes:
    if len(data) < 126:
        head = struct.pack(">BB", 0x80 | opcode, len(data))
    elif len(data) < 1 << 16:
        head = struct.pack(">BBH", 0x80 | opcode, 126, len(data))
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 127, len(data))
    return head + data
