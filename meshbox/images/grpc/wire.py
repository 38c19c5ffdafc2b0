# SPDX-License-Identifier: Apache-2.0
"""Protobuf's wire format: what a message is made of, whatever it means."""

from __future__ import annotations

import struct as packing
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "WireError",
    "double",
    "fields",
    "fixed64",
    "length",
    "number",
    "read_struct",
    "signed",
    "struct",
    "text",
    "varint",
]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}
_TEN_BYTES = 63
_DEEPEST = 32
"""Structs and lists within each other: protobuf's own readers take a hundred messages, which is three for each."""


class WireError(ValueError):
    """Bytes that are no message."""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, by number: whole numbers as such (unsigned), all else as its bytes.

    Raises:
        WireError: it is none.
    """
    at, size = 0, len(message)
    while at < size:
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            taken, at = _varint(message, at)
        elif kind in _SIZES:
            taken = _SIZES[kind]
        else:
            raise WireError(f"wire type {kind}")
        if at + taken > size:
            raise WireError("a message that ends early")
        yield tag >> 3, message[at : at + taken]
        at += taken


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > _TEN_BYTES:
            raise WireError("a number that does not end")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def signed(value: int) -> int:
    """An int64 from the unsigned number that stands for it."""
    return value - (1 << 64) if value >> 63 else value


def varint(value: int) -> bytes:
    """A whole number; a negative one as an int64."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def length(field: int, value: bytes) -> bytes:
    """A field that holds bytes: a message, or a text's."""
    return varint(field << 3 | BYTES) + varint(len(value)) + value


def text(field: int, value: str) -> bytes:
    """A field that holds a text; nothing where it is empty."""
    return length(field, value.encode()) if value else b""


def number(field: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return varint(field << 3 | VARINT) + varint(value)


def fixed64(field: int, value: int) -> bytes:
    """A field that holds eight bytes of a whole number that is not negative."""
    return varint(field << 3 | FIXED64) + packing.pack("<Q", value & (1 << 64) - 1)


def double(field: int, value: float) -> bytes:
    """A field that holds a double."""
    return varint(field << 3 | FIXED64) + packing.pack("<d", value)


def read_struct(message: bytes) -> dict[str, Any]:
    """What a google.protobuf.Struct holds.

    Raises:
        WireError: it is none.
    """
    try:
        return _struct(message)
    except (UnicodeDecodeError, packing.error):
        raise WireError("no struct") from None


def _struct(message: bytes, depth: int = 0) -> dict[str, Any]:
    found = {}
    for number, entry in fields(message):
        if number == 1 and isinstance(entry, bytes):
            parts = dict(fields(entry))
            key, value = parts.get(1, b""), parts.get(2, b"")
            if isinstance(key, bytes) and isinstance(value, bytes):
                found[key.decode()] = _value(value, depth + 1)
    return found


def _value(message: bytes, depth: int) -> Any:
    # What is within is copied on each level.
    if depth > _DEEPEST:
        raise WireError("there is too much within each other")
    for number, value in fields(message):
        if isinstance(value, int):
            return bool(value) if number == 4 else None
        if number == 2:
            return packing.unpack("<d", value)[0]
        if number == 3:
            return value.decode()
        if number == 5:
            return _struct(value, depth)
        if number == 6:
            return [_value(one, depth + 1) for n, one in fields(value) if n == 1 and isinstance(one, bytes)]
    return None


def struct(value: Mapping[str, Any]) -> bytes:
    """A google.protobuf.Struct of texts and further structs."""
    found = b""
    for key, one in value.items():
        inner = length(5, struct(one)) if isinstance(one, Mapping) else length(3, str(one).encode())
        found += length(1, text(1, key) + length(2, inner))
    return found
