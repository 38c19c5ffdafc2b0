# SPDX-License-Identifier: Apache-2.0
"""Istio's sample server of raw TCP: each line comes back behind a word, `tcp-echo PORT[,PORT…] WORD`."""

from __future__ import annotations

import os
import signal
import socketserver
import sys
import threading

from labkit.ground.web import real_port
from meshbox.images.context import Image

__all__ = ["IMAGES", "main"]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def _handler(word: bytes) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                for line in self.rfile:
                    self.wfile.write(word + b" " + line)
            except ConnectionError:
                # The client is gone, and with it whoever could be told.
                return

    return Handler


def main() -> int:
    """The program; serves until SIGTERM."""
    ports = [int(port) for port in sys.argv[1].split(",")] if len(sys.argv) > 1 else [9000]
    word = sys.argv[2] if len(sys.argv) > 2 else "hello"
    for port in ports:
        server = _Server((os.environ.get("LABKIT_BIND", ""), real_port(port)), _handler(word.encode()))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"listening on port {port}, prefix: {word}", flush=True)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    return 0


IMAGES = (
    Image(
        repositories=("istio/tcp-echo-server", "istio-release/tcp-echo-server", "release/tcp-echo-server"),
        entrypoint=("tcp-echo",),
        programs={"tcp-echo": f"{__name__}:main"},
        size=8_000_000,
        stands_in="same behaviour, written in Python",
    ),
)
