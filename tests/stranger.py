# SPDX-License-Identifier: Apache-2.0
"""Another user of the same machine, as a test needs one: a process of a login that nobody has.

Only root can be two users.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - a stranger cannot read where it is loaded from later
import os
import pickle
import socket
import ssl
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

UID = 54321
"""No login has it."""

PATIENCE = 240.0
"""Seconds that an answer is waited for, however busy the machine is; who is refused hears so at once."""


def as_stranger(function: Callable[[], Any]) -> Any:
    """What `function` returns in a process of another user; it may use only what is imported already."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Threads of the test's own are not in the child, and nothing there waits for them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(UID)
            os.setuid(UID)
            with open(writing, "wb") as pipe:
                pickle.dump(function(), pipe)
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, "the stranger's process failed: see its traceback"
    return pickle.loads(said)


def by_another_user(function: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `function` returns where servers of this process take it for another user's doing.

    Root does it as another user. Anybody else does it as they are, while this process believes to be somebody else.
    """
    if os.geteuid() == 0:
        return as_stranger(function)
    somebody = os.geteuid() + 1
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: somebody)
        return function()


def say(address: tuple[str, int], words: bytes, *, tls: bool = False, stay: bool = True) -> bytes:
    """What a server answers to `words`; b"" if it hangs up or is silent for too long.

    Args:
        address: Where.
        words: What is said.
        tls: Whether over TLS.
        stay: Whether the answer is waited for; otherwise the connection is closed at once.
    """
    answer = bytearray()
    with contextlib.suppress(OSError), _connected(address, tls=tls) as connection:
        connection.sendall(words)
        while stay and (data := connection.recv(65536)):
            answer += data
    return bytes(answer)


@contextlib.contextmanager
def _connected(address: tuple[str, int], *, tls: bool) -> Iterator[socket.socket]:
    with socket.socket() as plain:
        plain.settimeout(PATIENCE)
        plain.connect(address)
        if not tls:
            yield plain
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as secured:
            yield secured


def http(method: str, path: str, host: str, body: bytes = b"", **headers: str) -> bytes:
    """A request in HTTP/1.1, after which the connection is closed."""
    fields = {"Host": host, "Connection": "close", "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
