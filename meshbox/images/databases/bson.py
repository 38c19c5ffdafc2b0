# SPDX-License-Identifier: Apache-2.0
"""BSON (bsonspec.org), as far as drivers need it to say hello and to read a few numbers."""

from __future__ import annotations

import struct
from typing import Any

__all__ = ["decode", "encode"]

Document = dict[str, Any]
_DEEPEST = 20


def encode(document: Document) -> bytes:
    """A document of texts, numbers, booleans, None, lists and documents."""
    body = b"".join(_element(name, value) for name, value in document.items())
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def _element(name: str, value: Any) -> bytes:
    key = name.encode() + b"\0"
    if isinstance(value, bool):
        return b"\x08" + key + bytes([value])
    if isinstance(value, int):
        return (
            b"\x10" + key + struct.pack("<i", value) if abs(value) < 2**31 else b"\x12" + key + struct.pack("<q", value)
        )
    if isinstance(value, float):
        return b"\x01" + key + struct.pack("<d", value)
    if isinstance(value, str):
        text = value.encode() + b"\0"
        return b"\x02" + key + struct.pack("<i", len(text)) + text
    if isinstance(value, dict):
        return b"\x03" + key + encode(value)
    if isinstance(value, list):
        return b"\x04" + key + encode({str(number): one for number, one in enumerate(value)})
    if value is None:
        return b"\x0a" + key
    raise ValueError(f"no BSON here for {type(value).__name__}")


def decode(data: bytes, depth: int = 0) -> Document:
    """The document in `data`; kinds that nobody here asks for are None.

    Raises:
        ValueError: it is none.
    """
    try:
        (size,) = struct.unpack_from("<i", data)
        if not 5 <= size <= len(data) or depth > _DEEPEST:
            raise ValueError("no BSON document")
        found: Document = {}
        at = 4
        while data[at]:
            kind, end = data[at], data.index(b"\0", at + 1)
            name = data[at + 1 : end].decode()
            found[name], at = _value(kind, data[:size], end + 1, depth)
        return found
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"no BSON document: {error}") from None


def _value(kind: int, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    fixed = {0x01: ("<d", 8), 0x08: ("<?", 1), 0x10: ("<i", 4), 0x12: ("<q", 8)}
    if kind in fixed:
        form, size = fixed[kind]
        return struct.unpack_from(form, data, at)[0], at + size
    if kind == 0x02:
        (size,) = struct.unpack_from("<i", data, at)
        return data[at + 4 : at + 3 + size].decode(), at + 4 + size
    if kind in (0x03, 0x04):
        (size,) = struct.unpack_from("<i", data, at)
        inner = decode(data[at : at + size], depth + 1)
        return (list(inner.values()) if kind == 0x04 else inner), at + size
    skipped = {0x06: 0, 0x07: 12, 0x09: 8, 0x0A: 0, 0x11: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}
    if kind == 0x05:
        (size,) = struct.unpack_from("<i", data, at)
        return None, at + 5 + size
    if kind not in skipped:
        raise ValueError(f"no BSON kind that is read here: {kind}")
    return None, at + skipped[kind]
