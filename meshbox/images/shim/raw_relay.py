# SPDX-License-Identifier: Apache-2.0
"""A way for curl past its HTTP proxy: a process beside it that does what the shim does inside a Python program.

It listens at the pod's localhost, for this user's processes, and tells the sidecar where each connection was meant to
go. It ends with the curl that it was started for.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import select
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Any

__all__ = ["start"]

# By the name it has where curl's configuration is made.
_connections: Any = importlib.import_module("labkit_captured")

_LINGER = 5
"""Seconds that connections may take to end once curl has."""


def start(env: Mapping[str, str], targets: Mapping[tuple[str, int], tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Fork the relay; what it was started by may then become another program.

    Args:
        env: The container's environment.
        targets: Host and port as they are called → address and port that are meant.

    Returns:
        Host and port → the port of the pod's localhost that leads there.
    """
    local, pod = env["LABKIT_LOCAL_IP"], env["LABKIT_POD_IP"]
    capture = env["LABKIT_CAPTURE_SOCKET"]
    listeners = {key: socket.create_server((local, 0)) for key in targets}
    ports = {key: int(listener.getsockname()[1]) for key, listener in listeners.items()}
    meant = {listeners[key]: targets[key] for key in targets}
    parent = os.getpid()
    if os.fork() == 0:
        _serve(meant, (capture, pod), parent)
    for listener in listeners.values():
        listener.close()
    return ports


def _serve(meant: Mapping[socket.socket, tuple[str, int]], capture: tuple[str, str], parent: int) -> None:
    # Whoever reads what curl writes must not wait for this process as well.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    signal.signal(signal.SIGTERM, _end)
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    threads = []
    try:
        while os.getppid() == parent:
            for listener in select.select(list(meant), [], [])[0]:
                client, _ = listener.accept()
                if not _connections.ours(client):
                    client.close()
                    continue
                threads.append(threading.Thread(target=_relay, args=(client, capture, meant[listener])))
                threads[-1].start()
    except SystemExit:
        pass
    finally:
        # What curl has sent is still on its way; a server that never ends a connection is not waited for.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.alarm(_LINGER)
        for thread in threads:
            thread.join()
        os._exit(0)


def _end(*_: object) -> None:
    raise SystemExit


def _relay(client: socket.socket, capture: tuple[str, str], meant: tuple[str, int]) -> None:
    with client:
        try:
            server = _connections.call(*capture, meant)
        except OSError:
            return
        with server:
            back = threading.Thread(target=_pass_on, args=(server, client))
            back.start()
            _pass_on(client, server)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone: the other one is told.
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
