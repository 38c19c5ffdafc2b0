# SPDX-License-Identifier: Apache-2.0
"""MongoDB's wire protocol (OP_MSG, and OP_QUERY for a driver's first words), and one collection: test.ratings."""

from __future__ import annotations

import socket
import struct
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from meshbox.images.databases.bson import decode, encode
from meshbox.images.databases.wire import RATINGS, Write, exactly, serve

__all__ = ["PORT", "find", "main", "talk"]

PORT = 27017
_MSG, _QUERY, _REPLY = 2013, 2004, 1
_MOST = 1 << 20
_HELLO = {
    "ismaster": True,
    "isWritablePrimary": True,
    "helloOk": True,
    "maxBsonObjectSize": 16777216,
    "maxMessageSizeBytes": 48000000,
    "maxWriteBatchSize": 100000,
    "minWireVersion": 0,
    "maxWireVersion": 13,
    "readOnly": True,
    "ok": 1.0,
}


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    command = next(iter(asked), "")
    if command.lower() in ("hello", "ismaster"):
        return _HELLO
    if command == "buildInfo":
        return {"version": "5.0.0", "versionArray": [5, 0, 0, 0], "ok": 1.0}
    if command == "find":
        namespace = f"{asked.get('$db', 'test')}.{asked['find']}"
        found = [{"rating": stars} for stars in RATINGS] if namespace == "test.ratings" else []
        return {"cursor": {"firstBatch": found, "id": 0, "ns": namespace}, "ok": 1.0}
    if command in ("ping", "endSessions"):
        return {"ok": 1.0}
    return {"ok": 0.0, "errmsg": f"{command!r} is not played by the workshop's stand-in", "code": 59}


def _message(number: int, answers: int, operation: int, body: bytes) -> bytes:
    return struct.pack("<iiii", 16 + len(body), number, answers, operation) + body


def _read(source: BinaryIO) -> tuple[int, int, bytes] | None:
    head = source.read(16)
    if len(head) < 16:
        return None
    size, number, _, operation = struct.unpack("<iiii", head)
    if not 16 < size <= _MOST:
        raise ValueError("no message of MongoDB's")
    return number, operation, exactly(source, size - 16)


def talk(source: BinaryIO, write: Write) -> None:
    """The server's side of one connection."""
    while (message := _read(source)) is not None:
        number, operation, body = message
        if operation == _MSG:
            write(_message(0, number, _MSG, bytes(5) + encode(_answer(decode(body[5:])))))
        elif operation == _QUERY:
            asked = decode(body[body.index(b"\0", 4) + 9 :])
            write(_message(0, number, _REPLY, struct.pack("<iqii", 8, 0, 0, 1) + encode(_answer(asked))))
        else:
            raise ValueError(f"operation {operation} is not played")


def find(url: str, collection: str, timeout: float) -> list[dict[str, Any]]:
    """All documents of a collection, as far as they come in one answer.

    Args:
        url: mongodb://HOST:PORT/DATABASE.
        collection: Its name.
        timeout: Seconds for connecting, and for each wait.

    Raises:
        OSError: no answer.
        ValueError: none of MongoDB's.
    """
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or PORT), timeout) as connection:
        asked = {"find": collection, "filter": {}, "$db": parts.path.strip("/") or "test"}
        connection.sendall(_message(1, 0, _MSG, bytes(5) + encode(asked)))
        with connection.makefile("rb") as source:
            message = _read(source)
    if message is None:
        raise ConnectionError("the database closed the connection")
    answer = decode(message[2][5:])
    found = (answer.get("cursor") or {}).get("firstBatch")
    if not isinstance(found, list):
        raise ValueError(str(answer.get("errmsg") or "no answer of MongoDB's"))
    return found


def main() -> int:
    """The program."""
    return serve("mongod", PORT, talk)
