# SPDX-License-Identifier: Apache-2.0
"""What Envoy asks in protobuf, and is answered: as much of `envoy.service.auth.v3` as an authorizer needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

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
        said: All attributes that Envoy told, as protobuf's text.
    """

    principal: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    said: str = ""

    def __str__(self) -> str:
        return self.said


_Names = dict[int, tuple[str, Any]]
"""The fields of a message by number: the name, and the fields of what is in it, or None."""

_TEXTS: _Names = {1: ("key", None), 2: ("value", None)}
_SOCKET: _Names = {2: ("address", None), 3: ("port_value", None)}
_PEER: _Names = {
    1: ("address", {1: ("socket_address", _SOCKET)}),
    2: ("service", None),
    3: ("labels", _TEXTS),
    4: ("principal", None),
    5: ("certificate", None),
}
_PARTS = ("id", "method", "headers", "path", "host", "scheme", "query", "fragment", "size", "protocol", "body")
_HTTP: _Names = {number: (name, _TEXTS if name == "headers" else None) for number, name in enumerate(_PARTS, 1)}
_TIME: _Names = {1: ("seconds", None), 2: ("nanos", None)}
_ATTRIBUTES: _Names = {
    1: ("source", _PEER),
    2: ("destination", _PEER),
    4: ("request", {1: ("time", _TIME), 2: ("http", _HTTP)}),
    10: ("context_extensions", _TEXTS),
    13: ("tls_session", {1: ("sni", None)}),
}


def read(message: bytes) -> Check:
    """Read a CheckRequest.

    Raises:
        MessageError: it is none.
    """
    found = Check()
    for _, attributes in _named(message, 1):
        found.said = _shown(attributes, _ATTRIBUTES)
        for _, source in _named(attributes, 1):
            found.principal = _text(source, 4)
        for _, request in _named(attributes, 4):
            for _, http in _named(request, 2):
                found.method, found.path, found.host = _text(http, 2), _text(http, 4), _text(http, 5)
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
    return ((n, value) for n, value in _fields(message) if n == number and isinstance(value, bytes))


def _text(message: bytes, number: int) -> str:
    return next((value.decode(errors="replace") for _, value in _named(message, number)), "")


def _shown(message: bytes, names: _Names) -> str:
    """A message as protobuf's text, in the order of its fields; what has no name here is left out."""
    words: list[tuple[int, str]] = []
    for number, value in _fields(message):
        if number in names:
            name, inside = names[number]
            if isinstance(value, int):
                text = str(value - (1 << 64) if value >> 63 else value)
            elif inside is not None:
                text = f"{{{_shown(value, inside)}}}"
            else:
                text = json.dumps(value.decode(errors="replace"), ensure_ascii=False)
            words.append((number, f"{name}:{text}"))
    return " ".join(text for _, text in sorted(words))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message that hold numbers or bytes, by number; others are passed over."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
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
