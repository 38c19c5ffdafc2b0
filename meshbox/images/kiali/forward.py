# SPDX-License-Identifier: Apache-2.0
"""One question to a port of a pod, through the API server's port-forward: as a WebSocket, in its own words.

A proxy's own pages are at its loopback address, which nobody but the pod reaches. The account needs what kubectl needs.
"""

from __future__ import annotations

import base64
import http.client
import io
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import IO

__all__ = ["RefusedError", "ask"]

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING = 0x0, 0x1, 0x2, 0x8, 0x9
_SECONDS = 20.0
_MOST = 256 << 20
"""Bytes of an answer: the configuration of a proxy in a large mesh has a hundred megabytes."""


class RefusedError(Exception):
    """The API server does not lead there.

    Args:
        status: Its HTTP status.
        body: Its answer, which says why.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the API server answers {status}")
        self.status = status
        self.body = body


def ask(
    address: tuple[str, int],
    trust: Callable[[], ssl.SSLContext] | None,
    headers: Mapping[str, str],
    pod: str,
    port: int,
    path: str,
) -> bytes:
    """The body of what is at `path` of an HTTP server in a pod.

    Args:
        address: The API server's.
        trust: What its certificate is checked with; None for plain HTTP.
        headers: What lets us in.
        pod: The pod's path, "/api/v1/namespaces/bookinfo/pods/a".
        port: The port in the pod.
        path: What is asked for there.

    Raises:
        RefusedError: The API server says no.
        OSError: Nobody answers, here or there, or not with a page.
    """
    with socket.create_connection(address, timeout=_SECONDS) as plain:
        way = trust().wrap_socket(plain, server_hostname=address[0]) if trust else plain
        with way, way.makefile("rb") as incoming:
            _shake_hands(way, incoming, address, headers, f"{pod}/portforward?ports={port}")
            question = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
            way.sendall(_framed(_BINARY, bytes([_DATA]) + question.encode()))
            return _body(b"".join(_stream(way, incoming)))


def _shake_hands(
    way: socket.socket, incoming: IO[bytes], address: tuple[str, int], headers: Mapping[str, str], target: str
) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    given = {
        **headers,
        "Host": f"{address[0]}:{address[1]}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": _PROTOCOL,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    way.sendall(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
    status, length = _status(incoming.readline()), 0
    while line := incoming.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if status != 101:
        raise RefusedError(status, incoming.read(length))


def _status(line: bytes) -> int:
    words = line.split()
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionError(f"no HTTP answer, but {line[:60]!r}")
    return int(words[1])


def _stream(way: socket.socket, incoming: IO[bytes]) -> Iterator[bytes]:
    """What the pod sends, until it has sent all. Each channel begins with the port that it belongs to."""
    begun: set[int] = set()
    message, size = b"", 0
    while True:
        final, opcode, data = _frame(incoming)
        if opcode == _CLOSE:
            return
        if opcode == _PING:
            way.sendall(_framed(0xA, data))
        if opcode not in (_CONTINUED, _TEXT, _BINARY):
            continue
        message += data
        if not final or not message:
            continue
        channel, content, message = message[0], message[1:], b""
        if channel not in begun:
            begun.add(channel)
        elif channel == _ERROR:
            raise ConnectionError(content.decode(errors="replace"))
        else:
            size += len(content)
            if size > _MOST:
                raise ConnectionError(f"more than {_MOST >> 20} MiB come from the pod")
            yield content


def _frame(incoming: IO[bytes]) -> tuple[bool, int, bytes]:
    head = incoming.read(2)
    if len(head) < 2:
        # Who hangs up has said all there is.
        return True, _CLOSE, b""
    length = head[1] & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", incoming.read(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", incoming.read(8))
    return bool(head[0] & 0x80), head[0] & 0x0F, incoming.read(min(length, _MOST))


def _framed(opcode: int, data: bytes) -> bytes:
    """A frame of a client: short, and masked, as the protocol wants it."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    size = struct.pack(">B", 0x80 | len(data)) if len(data) < 126 else struct.pack(">BH", 0x80 | 126, len(data))
    return bytes([0x80 | opcode]) + size + mask + masked


class _Said:
    """What a server has sent, for http.client to read as from a socket."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, *_: object) -> IO[bytes]:
        return io.BytesIO(self._content)


def _body(said: bytes) -> bytes:
    answer = http.client.HTTPResponse(_Said(said))  # type: ignore[arg-type]
    try:
        answer.begin()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"the pod sends no page: {error!r}") from error
    if answer.status != 200:
        raise ConnectionError(f"the pod answers {answer.status}: {body[:200].decode(errors='replace')}")
    return body
