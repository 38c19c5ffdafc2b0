# SPDX-License-Identifier: Apache-2.0
"""One gRPC call: a connection, a message, an answer."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from urllib.parse import unquote

from labkit.ground.framing import FramingError
from meshbox.images.grpc.frames import PREFACE, Connection
from meshbox.images.grpc.server import INTERNAL, UNAVAILABLE, CallError, framed, unframed

__all__ = ["call"]


def call(
    where: str,
    path: str,
    message: bytes,
    *,
    headers: Iterable[tuple[str, str]] = (),
    seconds: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> bytes:
    """Ask, and wait for the answer.

    Args:
        where: "host:port".
        path: "/package.Service/Method".
        message: The message.
        headers: More of them, in lower case.
        seconds: Within which an answer must have come, at least 0.
        tls: How the other side is known; None for plain text.

    Raises:
        CallError: it said no (with its code), or could not be asked (`UNAVAILABLE`).
    """
    host, _, port = where.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds) as plain:
            connection = tls.wrap_socket(plain, server_hostname=host) if tls is not None else plain
            scheme = "https" if tls is not None else "http"
            return _asked(connection, where, path, message, [(":scheme", scheme)], headers, seconds)
    except (OSError, FramingError, ValueError) as error:
        raise CallError(UNAVAILABLE, f"{where}: {getattr(error, 'strerror', None) or error}") from error


def _asked(
    connection: socket.socket,
    where: str,
    path: str,
    message: bytes,
    scheme: list[tuple[str, str]],
    headers: Iterable[tuple[str, str]],
    seconds: float,
) -> bytes:
    talk = Connection(connection, accepts=False)
    talk.incoming.allow(seconds)
    connection.sendall(PREFACE)
    talk.begin()
    about = [(":method", "POST"), *scheme, (":path", path), (":authority", where)]
    grpc = [("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "meshbox"), *headers]
    stream = talk.open(1, [*about, *grpc])
    talk.data(stream, framed(message), end=True)
    while not stream.ended and talk.step():
        if stream.number not in talk.streams:
            break
    found = dict([*stream.headers, *stream.trailers])
    if not stream.ended:
        raise CallError(UNAVAILABLE, f"{where}: the connection ended before the answer")
    if found.get(":status") != "200" and "grpc-status" not in found:
        raise CallError(UNAVAILABLE, f"{where}: unexpected HTTP status code {found.get(':status')}")
    code = found.get("grpc-status", "")
    if code != "0":
        raise CallError(int(code) if code.isdigit() else INTERNAL, unquote(found.get("grpc-message", "")))
    return unframed(bytes(stream.body), found.get("grpc-encoding", ""))
