# SPDX-License-Identifier: Apache-2.0
"""Connections of a pod's programs: those they make by way of the sidecar, and whose they are that they take.

A connection to the sidecar says first where it was meant to go: what iptables does elsewhere.
The sidecar takes these at a Unix socket in the pod's own folder and not at a port: whoever could connect there would
speak with the identity of the pod's workload.
"""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import random
import socket
import struct
from typing import Any

__all__ = ["call", "interception", "ours", "put_in_place_of"]

_SECONDS = 5
"""How long the sidecar may take to accept; on this machine it takes none, unless it is swamped."""

_LONGEST_PATH = 107


def call(path: str, pod: str, meant: tuple[str, int]) -> socket.socket:
    """A new connection to the sidecar, on its way to `meant`.

    Args:
        path: The sidecar's socket.
        pod: The pod's address, which the connection comes from.
        meant: Address and port that were called.

    Raises:
        OSError: as TCP would have raised: refused where no sidecar listens, timed out where it does not accept.
    """
    way = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A connect that must not block fails at once when many wait to be accepted; so this one blocks, for a while.
        way.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SECONDS, 0))
        _connect(way, path)
        source = random.randrange(32768, 61000)
        way.sendall(f"PROXY TCP4 {pod} {meant[0]} {source} {meant[1]}\r\n".encode())
        way.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 0))
    except (FileNotFoundError, ConnectionRefusedError):
        way.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)) from None
    except BlockingIOError:
        way.close()
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
    except BaseException:
        way.close()
        raise
    return way


def _connect(way: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        socket.SocketType.connect(way, path)
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        socket.SocketType.connect(way, f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


def put_in_place_of(sock: socket.socket, path: str, pod: str, meant: tuple[str, int]) -> None:
    """Connect a TCP socket to the sidecar: its descriptor becomes that of the connection, its timeout stays.

    Raises:
        OSError: as `call`.
    """
    timeout, inherited = sock.gettimeout(), sock.get_inheritable()
    with call(path, pod, meant) as way:
        os.dup2(way.fileno(), sock.fileno(), inheritable=inherited)
    sock.settimeout(timeout)


@functools.cache
def _module(path: str) -> Any:
    """A module of ours by its file, also for a Python that has none of our packages."""
    file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..", path)
    spec = importlib.util.spec_from_file_location("_labkit_" + os.path.basename(path)[:-3], os.path.normpath(file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(connection: Any) -> bool:
    """Whether an accepted connection comes from a process of this user, or of root's."""
    return bool(_module("labkit/ground/peers.py").ours(connection))


def interception(text: str) -> Any:
    """What LABKIT_INTERCEPTION says that a sidecar takes."""
    return _module("meshbox/interception.py").Interception.read(text)
