# SPDX-License-Identifier: Apache-2.0
"""A client of redis, as far as counting needs it: several commands at once, over connections that are kept."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

__all__ = ["Redis", "StoreError"]

_SECONDS = 10.0

Reply = int | str | None


class StoreError(Exception):
    """redis cannot be asked, or says no; the message is what the genuine program's client says."""


@dataclass
class _Connection:
    socket: socket.socket
    answers: BinaryIO

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.answers.close()
            self.socket.close()

    def stale(self) -> bool:
        """Whether it was closed by the other side: nothing else comes unasked."""
        return bool(select.select([self.socket], [], [], 0)[0])


@dataclass
class Redis:
    """A redis.

    Args:
        url: "host:port", the same after "redis://" with or without a login, or a socket's path.
        network: "tcp" or "unix".
        login: "password" or "user:password"; empty for none.
        size: Connections that are kept.
    """

    url: str
    network: str = "tcp"
    login: str = ""
    size: int = 10
    _kept: list[_Connection] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, commands: Sequence[Sequence[str | int]]) -> list[Reply]:
        """The replies to some commands, which are sent at once.

        Raises:
            StoreError: redis cannot be asked, or refused one of them.
        """
        with self._connection() as connection:
            found = _told(connection, commands)
        refused = next((one for one in found if isinstance(one, StoreError)), None)
        if refused is not None:
            raise refused
        return [one for one in found if not isinstance(one, StoreError)]

    def close(self) -> None:
        """End the connections that are kept."""
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[_Connection]:
        connection = self._taken() or self._opened()
        try:
            yield connection
        except (OSError, EOFError, ValueError) as error:
            connection.close()
            raise StoreError(_said(error)) from None
        with self._lock:
            if len(self._kept) < self.size:
                self._kept.append(connection)
                return
        connection.close()

    def _taken(self) -> _Connection | None:
        while True:
            with self._lock:
                if not self._kept:
                    return None
                connection = self._kept.pop()
            if not connection.stale():
                return connection
            connection.close()

    def _opened(self) -> _Connection:
        login, where = self.login, self.url
        if where.startswith("redis://"):
            parts = urlsplit(where)
            where = parts.netloc.rpartition("@")[2]
            if parts.password:
                login = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
        opened = _dialled(self.network, where)
        connection = _Connection(opened, opened.makefile("rb"))
        if login:
            user, colon, password = login.partition(":")
            words = [user, password] if colon and user else [password if colon else user]
            try:
                (answer,) = _told(connection, [["AUTH", *words]])
            except (OSError, EOFError, ValueError) as error:
                connection.close()
                raise StoreError(_said(error)) from None
            if isinstance(answer, StoreError):
                connection.close()
                raise answer
        return connection


def _dialled(network: str, where: str) -> socket.socket:
    if network == "unix":
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(_SECONDS)
        try:
            opened.connect(os.environ.get("LABKIT_ROOT", "") + where)
        except OSError as error:
            opened.close()
            raise StoreError(f"dial unix {where}: connect: {_said(error)}") from None
        return opened
    host, colon, port = where.rpartition(":")
    if not colon:
        raise StoreError(f"dial tcp: address {where}: missing port in address")
    if not port.isdecimal():
        raise StoreError(f"dial tcp: lookup tcp/{port}: unknown port")
    address = host.strip("[]") or "localhost"
    try:
        address = str(socket.getaddrinfo(address, int(port), type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        raise StoreError(f"dial tcp: lookup {address}: no such host") from None
    try:
        opened = socket.create_connection((address, int(port)), timeout=_SECONDS)
    except OSError as error:
        raise StoreError(f"dial tcp {address}:{port}: connect: {_said(error)}") from None
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def _said(error: Exception) -> str:
    """An error in Go's words."""
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or "EOF"


def _told(connection: _Connection, commands: Sequence[Sequence[str | int]]) -> list[Reply | StoreError]:
    sent = b""
    for command in commands:
        words = [str(word).encode() for word in command]
        sent += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    connection.socket.sendall(sent)
    return [_reply(connection.answers) for _ in commands]


def _reply(answers: BinaryIO) -> Reply | StoreError:
    line = answers.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    kind, rest = line[:1], line[1:-2].decode(errors="replace")
    if kind == b"-":
        return StoreError(rest)
    if kind == b":":
        return _number(rest)
    if kind == b"+":
        return rest
    if kind == b"$":
        if rest == "-1":
            return None
        size = _number(rest) + 2
        body = answers.read(size)
        if len(body) < size:
            raise EOFError
        return body[:-2].decode(errors="replace")
    raise ValueError(f"unknown type {kind.decode(errors='replace')!r} of a reply")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
