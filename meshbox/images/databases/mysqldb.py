# SPDX-License-Identifier: Apache-2.0
"""MySQL's wire protocol (version 10, mysql_native_password), and one table, test.ratings(ReviewID, Rating)."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import socket
import struct
from typing import BinaryIO

from labkit.ground.guard import same_secret
from meshbox.images.databases.wire import RATINGS, Write, exactly, serve

__all__ = ["PORT", "main", "select", "talk"]

PORT = 3306
# Long passwords, protocol 4.1, a database at once, secure connection, plug-ins.
_ABLE = 0x1 | 0x8 | 0x200 | 0x8000 | 0x80000
_PLUGIN = b"mysql_native_password\0"
_UTF8 = 33
_SELECT = re.compile(
    r"\s*select\s+(\*|rating|reviewid|`?[\w, `]+)\s+from\s+`?(?:test`?\.`?)?ratings`?[\s;]*", re.IGNORECASE
)
_COLUMNS = ("ReviewID", "Rating")


def _packet(number: int, body: bytes) -> bytes:
    return struct.pack("<I", len(body))[:3] + bytes([number & 0xFF]) + body


def _read(source: BinaryIO) -> tuple[int, bytes]:
    head = exactly(source, 4)
    size = int.from_bytes(head[:3], "little")
    return head[3], exactly(source, size)


def _text(value: str) -> bytes:
    data = value.encode()
    # Short texts only: a length below 251 is one byte.
    return bytes([len(data)]) + data


def _scrambled(password: bytes, salt: bytes) -> bytes:
    once = hashlib.sha1(password, usedforsecurity=False).digest()
    twice = hashlib.sha1(once, usedforsecurity=False).digest()
    mask = hashlib.sha1(salt + twice, usedforsecurity=False).digest()
    return bytes(a ^ b for a, b in zip(once, mask, strict=True)) if password else b""


def _error(code: int, words: str) -> bytes:
    return b"\xff" + struct.pack("<H", code) + b"#HY000" + words.encode()


_OK = b"\x00\x00\x00\x02\x00\x00\x00"
_END = b"\xfe\x00\x00\x02\x00"


def _login(body: bytes) -> tuple[str, bytes]:
    """User and scrambled password of a client's first packet."""
    user, _, rest = body[32:].partition(b"\0")
    return user.decode(errors="replace"), rest[1 : 1 + rest[0]] if rest else b""


def talk(password: str, source: BinaryIO, write: Write) -> None:
    """The server's side of one connection; it speaks first."""
    salt = bytes(1 + secrets.randbelow(126) for _ in range(20))
    able = struct.pack("<I", _ABLE)
    greeting = b"\x0a8.0.0-standin\0" + struct.pack("<I", 1) + salt[:8] + b"\0" + able[:2]
    greeting += bytes([_UTF8]) + b"\x02\x00" + able[2:] + bytes([21]) + bytes(10) + salt[8:] + b"\0" + _PLUGIN
    write(_packet(0, greeting))
    number, body = _read(source)
    user, given = _login(body)
    if user != "root" or not same_secret(given.hex(), _scrambled(password.encode(), salt).hex()):
        write(_packet(number + 1, _error(1045, f"Access denied for user '{user}' (using password: YES)")))
        return
    write(_packet(number + 1, _OK))
    while True:
        number, body = _read(source)
        if not body or body[0] == 0x01:
            return
        if body[0] == 0x03:
            _query(body[1:].decode(errors="replace"), write)
        else:
            # Ping, and the choice of a database.
            write(_packet(1, _OK if body[0] in (0x02, 0x0E) else _error(1047, "not played by the workshop's stand-in")))


def _query(text: str, write: Write) -> None:
    asked = _SELECT.fullmatch(text)
    if asked is None:
        known = re.match(r"\s*(set|use)\b", text, re.IGNORECASE)
        write(
            _packet(
                1, _OK if known else _error(1064, "only SELECT … FROM ratings is played by the workshop's stand-in")
            )
        )
        return
    names = [name.strip(" `") for name in asked[1].split(",")] if asked[1] != "*" else list(_COLUMNS)
    by_name = {name.lower(): number for number, name in enumerate(_COLUMNS)}
    if any(name.lower() not in by_name for name in names):
        write(_packet(1, _error(1054, f"Unknown column '{names[0]}' in 'field list'")))
        return
    packets = [bytes([len(names)]), *(_column(name) for name in names), _END]
    for row in enumerate(RATINGS, 1):
        packets.append(b"".join(_text(str(row[by_name[name.lower()]])) for name in names))
    packets.append(_END)
    write(b"".join(_packet(number, body) for number, body in enumerate(packets, 1)))


def _column(name: str) -> bytes:
    names = b"".join(_text(part) for part in ("def", "test", "ratings", "ratings", name, name))
    return names + b"\x0c" + struct.pack("<HIBHB", _UTF8, 11, 3, 0, 0) + b"\0\0"


def select(host: str, port: int, user: str, password: str, query: str, timeout: float) -> list[list[str]]:
    """The rows that a query gives.

    Args:
        host: The database's name.
        port: Its port.
        user: Who asks.
        password: Theirs.
        query: SQL.
        timeout: Seconds for connecting, and for each wait.

    Raises:
        OSError: no answer.
        ValueError: an error of the database; its own words.
    """
    with socket.create_connection((host, port), timeout) as connection, connection.makefile("rb") as source:
        _, greeting = _read(source)
        at = greeting.index(b"\0", 1) + 5
        salt = greeting[at : at + 8] + greeting[at + 27 : at + 39]
        mixed = _scrambled(password.encode(), salt)
        login = struct.pack("<IIB23x", _ABLE, 1 << 24, _UTF8) + user.encode() + b"\0" + bytes([len(mixed)]) + mixed
        connection.sendall(_packet(1, login + b"test\0" + _PLUGIN))
        _checked(_read(source)[1])
        connection.sendall(_packet(0, b"\x03" + query.encode()))
        columns = _checked(_read(source)[1])[0]
        while _read(source)[1][:1] != b"\xfe":
            pass
        rows: list[list[str]] = []
        while (row := _read(source)[1])[:1] != b"\xfe":
            rows.append(_values(_checked(row), columns))
        return rows


def _checked(body: bytes) -> bytes:
    if body[:1] == b"\xff":
        raise ValueError(body[9:].decode(errors="replace"))
    return body


def _values(row: bytes, columns: int) -> list[str]:
    values = []
    for _ in range(columns):
        size, row = row[0], row[1:]
        values.append(row[:size].decode(errors="replace"))
        row = row[size:]
    return values


def main() -> int:
    """The program; root's password is the container's MYSQL_ROOT_PASSWORD."""
    return serve("mysqld", PORT, functools.partial(talk, os.environ.get("MYSQL_ROOT_PASSWORD", "")))
