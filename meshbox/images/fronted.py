# SPDX-License-Identifier: Apache-2.0
"""Runs a server of this machine that is no Python behind a door of ours.

The server listens at Unix sockets in its container's folder, which nobody else can open; this process listens at the
pod's ports, where the shim lets in this user's processes only, and hands bytes over. So a real nginx or redis takes
part in the mesh as other containers do, and other users of the machine do not reach it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.ground.web import real_port
from meshbox.images.children import started

__all__ = ["run"]

_BLOCK = 64 * 1024
_START_SECONDS = 30.0


def run(argv: Sequence[str], ports: Mapping[int, str], *, introduced: bool = False, stop: int = signal.SIGTERM) -> int:
    """Start the server and serve its ports until it ends, or until SIGTERM.

    Args:
        argv: Its command line; it runs in this process's working directory.
        ports: The pod's port → name of the Unix socket there that stands for it.
        introduced: Whether the server is told who calls, in a PROXY protocol header.
        stop: The signal that asks it to end.

    Returns:
        The server's exit code, or 1 if a port cannot be bound.
    """
    address = os.environ.get("LABKIT_BIND", "127.0.0.1")
    listeners = []
    for port, name in ports.items():
        Path(name).unlink(missing_ok=True)
        try:
            listeners.append((socket.create_server((address, real_port(port)), backlog=256), name))
        except OSError as error:
            print(f"cannot listen on port {port}: {error.strerror}", file=sys.stderr)
            return 1
    server = started(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.send_signal(stop))
    for listener, name in listeners:
        threading.Thread(target=_serve, args=(listener, name, introduced, server), daemon=True).start()
    return server.wait()


def _serve(listener: socket.socket, name: str, introduced: bool, server: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            connection, client = listener.accept()
        except OSError:
            # Refused by the shim, or out of files for a moment.
            time.sleep(0.01)
            continue
        target = (connection, client[0], client[1], name, introduced, server)
        threading.Thread(target=_hand_over, args=target, daemon=True).start()


def _hand_over(
    outside: socket.socket, host: str, port: int, name: str, introduced: bool, server: subprocess.Popen[bytes]
) -> None:
    with outside, contextlib.suppress(OSError):
        inside = _connected(name, server)
        with inside:
            if introduced:
                here = outside.getsockname()
                inside.sendall(f"PROXY TCP4 {host} {here[0]} {port} {here[1]}\r\n".encode())
            back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
            back.start()
            _pump(outside, inside)
            back.join()


def _connected(name: str, server: subprocess.Popen[bytes]) -> socket.socket:
    """The server's own socket, once it listens: whoever calls in its first moments waits for it."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        inside = socket.socket(socket.AF_UNIX)
        try:
            inside.connect(name)
            return inside
        except OSError:
            inside.close()
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(_BLOCK):
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
