# SPDX-License-Identifier: Apache-2.0
"""`nc` in a pod: as a client only, led through the sidecar as every Python program here is.

nc [-v] [-z] [-N] [-w SECONDS] HOST PORT: sends what it reads, says when that has ended, and prints what comes until
the server ends the connection.
"""

from __future__ import annotations

import getopt
import os
import select
import socket
import sys

__all__ = ["main"]


_PATIENCE = 1.0
"""Seconds that an answer is waited for before the server is told that nothing more comes."""


def main() -> int:
    """The program; its exit code."""
    try:
        options, words = getopt.gnu_getopt(sys.argv[1:], "vzNnw:q:")
        given = dict(options)
        host, port = words[0], int(words[1])
        wait = float(given["-w"]) if "-w" in given else None
    except (getopt.GetoptError, ValueError, IndexError):
        print("usage: nc [-v] [-z] [-N] [-w SECONDS] HOST PORT  (in this sandbox only as a client)", file=sys.stderr)
        return 2
    try:
        connection = socket.create_connection((host, port), timeout=wait)
    except socket.gaierror:
        print(f"nc: bad address '{host}'", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"nc: can't connect to {host}:{port}: {error.strerror or 'timed out'}", file=sys.stderr)
        return 1
    with connection:
        if "-v" in given:
            print(f"{host}:{port} open", file=sys.stderr)
        return 0 if "-z" in given else _talk(connection, wait)


def _talk(connection: socket.socket, wait: float | None) -> int:
    reading: list[int] = [connection.fileno(), 0]
    answered, ended = False, False
    while True:
        # An Envoy drops a connection that is half-closed before it has looked at the first bytes, so an answer, which
        # shows that it has, is waited for.
        timeout = _PATIENCE if ended else wait
        ready = select.select(reading, [], [], timeout)[0]
        if not ready and not ended:
            return 1
        if 0 in ready:
            if data := os.read(0, 65536):
                connection.sendall(data)
            else:
                reading.remove(0)
                ended = True
        if connection.fileno() in ready:
            try:
                data = connection.recv(65536)
            except ConnectionResetError:
                return 1
            if not data:
                return 0
            os.write(1, data)
            answered = True
        if ended and (answered or not ready):
            connection.shutdown(socket.SHUT_WR)
            ended = False


if __name__ == "__main__":
    sys.exit(main())
