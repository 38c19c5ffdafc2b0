# SPDX-License-Identifier: Apache-2.0
"""redis: this machine's own, where it has one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import BinaryIO

from meshbox.images import fronted
from meshbox.images.context import Image

__all__ = ["IMAGES", "client", "main"]

_PORT = 6379
_SOCKET = "redis.sock"


def main() -> int:
    """The server; its arguments and its configuration file are the container's."""
    server = shutil.which("redis-server")
    if server is None:
        print(
            "redis-server: this machine has none. Install the package redis-server, then delete this pod.",
            file=sys.stderr,
        )
        return 127
    root, port, arguments = Path(os.environ.get("LABKIT_ROOT", "/")), _PORT, list(sys.argv[1:])
    for number, word in enumerate(arguments):
        if word == "--port" and number + 1 < len(arguments) and arguments[number + 1].isdigit():
            port = int(arguments[number + 1])
        if word.startswith("/") and (root / word.lstrip("/")).exists():
            arguments[number] = str(root / word.lstrip("/"))
    # Where redis keeps its data, and goes to: its socket is named as seen from there.
    data = root / "data"
    data.mkdir(exist_ok=True)
    os.chdir(data)
    # The last of two settings holds.
    own = ["--port", "0", "--tls-port", "0", "--unixsocket", _SOCKET, "--daemonize", "no", "--dir", str(data)]
    # Where it would listen besides, nobody would stand before it.
    own += ["--cluster-enabled", "no"]
    print(f"redis is this machine's own, on port {port}", flush=True)
    return fronted.run([server, *arguments, *own], {port: _SOCKET}, stop=signal.SIGTERM)


def client() -> int:
    """`redis-cli [-h HOST] [-p PORT] COMMAND…`: one command, led through the sidecar as all Python here is."""
    # The server of this pod listens there.
    host, port, words = os.environ.get("LABKIT_BIND", "127.0.0.1"), _PORT, list(sys.argv[1:])
    while words[:1] and words[0] in ("-h", "-p") and len(words) > 1:
        host, port = (words[1], port) if words[0] == "-h" else (host, int(words[1]) if words[1].isdigit() else port)
        words = words[2:]
    if not words or words[0].startswith("-"):
        print("usage: redis-cli [-h HOST] [-p PORT] COMMAND ARGUMENTS…  (in this sandbox one command at a time)")
        return 1
    try:
        with socket.create_connection((host, port), timeout=10) as connection, connection.makefile("rb") as answers:
            parts = [word.encode() for word in words]
            sent = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            connection.sendall(b"*%d\r\n%s" % (len(parts), sent))
            print(_shown(answers))
    except OSError as error:
        print(f"Could not connect to Redis at {host}:{port}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _shown(answers: BinaryIO) -> str:
    line = answers.readline()
    kind, rest = line[:1], line[1:].strip().decode(errors="replace")
    if kind == b"$":
        return "" if rest == "-1" else answers.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return "\n".join(_shown(answers) for _ in range(int(rest)))
    if not line:
        raise ConnectionError("Server closed the connection")
    return f"(error) {rest}" if kind == b"-" else rest


IMAGES = (
    Image(
        repositories=("library/redis", "bitnami/redis", "bitnamilegacy/redis"),
        entrypoint=("redis-server",),
        programs={"redis-server": f"{__name__}:main", "redis-cli": f"{__name__}:client"},
        size=117_000_000,
        stands_in="this machine's own redis-server, where it has one; redis-cli sends one command at a time",
    ),
)
