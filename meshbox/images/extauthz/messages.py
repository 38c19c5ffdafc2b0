# SPDX-License-Identifier: Apache-2.0
"""What Envoy asks in protobuf, and is answered: as much of `envoy.service.auth.v3` as an authorizer needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Check", "MessageError", "answer", "read"]

OK, PERMISSION_DENIED = 0, 7


class MessageError(ValueError):
    """Bytes that are no message."""


@dataclass
class Check:
    """What is asked.

    Args:
        principal: The caller's identity.
        method: "GET" …; empty for a connection that carries no HTTP.
        host: The request's host.
        path: Its path and query.
        headers: Its headers.
        body: What of its body is shown.
    """

    principal: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""

    def __str__(self) -> str:
        headers = " ".join(f'headers:{{key:"{k}" value:"{v}"}}' for k, v in sorted(self.headers.items()))
        http = f'method:"{self.method}" {headers} path:"{self.path}" host:"{self.host}"'
        return f'source:{{principal:"{self.principal}"}} request:{{http:{{{http}}}}}'


def read(message: bytes) -> Check:
    """Read a CheckRequest.

    Raises:
        MessageError: it is none.
    """
    found = Check()
    for _, attributes in _named(message, 1):
        for _, source in _named(attributes, 1):
            found.principal = _text(source, 4)
        for _, request in _named(attributes, 4):
            for _, http in _named(request, 2):
                found.method, found.path = _text(http, 2), _text(http, 4)
                found.host, found.body = _text(http, 5), _text(http, 11)
                found.headers = {_text(entry, 1): _text(entry, 2) for _, entry in _named(http, 3)}
    return found


def answer(*, allowed: bool, headers: list[tuple[str, str]], body: str = "") -> bytes:
    """A CheckResponse."""
    options = b"".join(_bytes(2, _bytes(1, _bytes(1, k.encode()) + _bytes(2, v.encode()))) for k, v in headers)
    if allowed:
        return _bytes(1, b"") + _bytes(3, options)
    denied = _bytes(1, _varint(1 << 3) + _varint(403)) + options + _bytes(3, body.encode())
    return _bytes(1, _varint(1 << 3) + _varint(PERMISSION_DENIED)) + _bytes(2, denied)


def _named(message: bytes, number: int) -> Iterator[tuple[int, bytes]]:
    return ((n, value) for n, value in _fields(message) if n == number)


def _text(message: bytes, number: int) -> str:
    return next((value.decode(errors="replace") for _, value in _named(message, number)), "")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that hold bytes, by number; others are passed over."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _read_varint(message, at)
            continue
        if kind == 2:
            size, at = _read_varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise MessageError(f"wire type {kind}")
        if at + size > len(message):
            raise MessageError("a message that ends early")
        if kind == 2:
            yield tag >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise MessageError("a number that does not end")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value
