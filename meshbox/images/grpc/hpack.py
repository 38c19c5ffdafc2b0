# SPDX-License-Identifier: Apache-2.0
"""HPACK (RFC 7541): headers as HTTP/2 sends them. What we send uses no table; what we read may use all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["Decoder", "HeaderError", "encoded"]

_STATIC = (
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
)  # fmt: skip
_TABLE_SIZE = 4096
_EACH = 32
"""Bytes that an entry counts beside its texts (section 4.1)."""

_LENGTHS = {
    5: "012aceiost",
    6: " %-./3456789=A_bdfghlmnpru",
    7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: "&*,;XZ",
    10: '!"()?',
    11: "'+|",
    12: "#>",
    13: "\0$@[]~",
    14: "^}",
    15: "<`{",
    19: "\\\u00c3\u00d0",
}
"""The characters by the length of their codes, in the order of the codes: the code is a canonical one, so that this
says all of it. Longer codes stand for what no text in a header holds."""


class HeaderError(ValueError):
    """Bytes that are no headers, or more than are taken."""


def _codes() -> dict[tuple[int, int], str]:
    found, code, before = {}, 0, 0
    for length, characters in _LENGTHS.items():
        code <<= length - before
        before = length
        for character in characters:
            found[length, code] = character
            code += 1
    return found


_CODES = _codes()
_LONGEST = max(_LENGTHS)


def _unpacked(data: bytes) -> str:
    found: list[str] = []
    code = length = 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, length = code << 1 | byte >> bit & 1, length + 1
            if (character := _CODES.get((length, code))) is not None:
                found.append(character)
                code = length = 0
            elif length > _LONGEST:
                raise HeaderError("a character that no header has")
    if length > 7 or code != (1 << length) - 1:
        raise HeaderError("a text that ends early")
    return "".join(found)


class Decoder:
    """Reads the headers of one direction of a connection, in the order in which they come.

    Args:
        most: Bytes of all names and values together.
    """

    def __init__(self, most: int = 64 * 1024) -> None:
        self._most = most
        self._table: deque[tuple[str, str]] = deque()
        self._size, self._limit = 0, _TABLE_SIZE

    def read(self, block: bytes) -> list[tuple[str, str]]:
        """The headers of one block.

        Raises:
            HeaderError: it is none.
        """
        found: list[tuple[str, str]] = []
        at = total = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                found.append(self._entry(index))
            elif first & 0xE0 == 0x20:
                self._limit, at = _integer(block, at, 5)
                if self._limit > _TABLE_SIZE:
                    raise HeaderError("a larger table than is kept")
                self._shrink()
                continue
            else:
                kept = first & 0xC0 == 0x40
                index, at = _integer(block, at, 6 if kept else 4)
                name = self._entry(index)[0] if index else ""
                if not index:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                found.append((name, value))
                if kept:
                    self._keep(name, value)
            total += sum(map(len, found[-1])) + _EACH
            if total > self._most:
                raise HeaderError("the headers are too large")
        return found

    def _entry(self, index: int) -> tuple[str, str]:
        if 1 <= index <= len(_STATIC):
            return _STATIC[index - 1]
        if len(_STATIC) < index <= len(_STATIC) + len(self._table):
            return self._table[index - len(_STATIC) - 1]
        raise HeaderError(f"there is no entry {index}")

    def _keep(self, name: str, value: str) -> None:
        self._table.appendleft((name, value))
        self._size += len(name) + len(value) + _EACH
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._limit:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _EACH


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value, at, shift = block[at] & most, at + 1, 0
    if value < most:
        return value, at
    while True:
        if at >= len(block) or shift > 28:
            raise HeaderError("a number that does not end")
        byte = block[at]
        value, at, shift = value + ((byte & 127) << shift), at + 1, shift + 7
        if byte < 128:
            return value, at


def _string(block: bytes, at: int) -> tuple[str, int]:
    if at >= len(block):
        raise HeaderError("a text that is missing")
    packed = block[at] & 0x80
    size, at = _integer(block, at, 7)
    data = block[at : at + size]
    if len(data) < size:
        raise HeaderError("a text that ends early")
    return _unpacked(data) if packed else data.decode("latin-1"), at + size


def encoded(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block of headers that no table remembers."""
    found = bytearray()
    for name, value in headers:
        found.append(0)
        for text in (name.encode("latin-1"), value.encode("latin-1", errors="replace")):
            found += _sized(len(text)) + text
    return bytes(found)


def _sized(size: int) -> bytes:
    if size < 127:
        return bytes([size])
    found, rest = bytearray([127]), size - 127
    while rest > 127:
        found.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*found, rest])
