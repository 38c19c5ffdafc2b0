# SPDX-License-Identifier: Apache-2.0
"""What both databases' programs do with their connections."""

from __future__ import annotations

import os
import signal
import socketserver
import threading
from collections.abc import Callable
from typing import BinaryIO

from labkit.ground.web import real_port

__all__ = ["RATINGS", "Write", "exactly", "serve"]

RATINGS = (5, 4)
"""What the two reviewers gave; as the genuine images are filled."""

Write = Callable[[bytes], None]


def exactly(source: BinaryIO, size: int) -> bytes:
    """The next `size` bytes.

    Raises:
        ConnectionError: the other side ended before.
    """
    data = source.read(size)
    if len(data) < size:
        raise ConnectionError("the connection was closed")
    return data


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def serve(name: str, port: int, talk: Callable[[BinaryIO, Write], None]) -> int:
    """Speak with each client in a thread until SIGTERM; the exit code."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with self.request.makefile("rb") as source:
                    talk(source, self.request.sendall)
            except (ConnectionError, ValueError):
                # The client is gone, or speaks something else: it gets no more answer.
                return

    server = _Server((os.environ.get("LABKIT_BIND", ""), real_port(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"{name}: the workshop's stand-in, on port {port}", flush=True)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    return 0
