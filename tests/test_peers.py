# SPDX-License-Identifier: Apache-2.0
"""Who is let in: this user's own processes and root's, nobody else's, and nobody who has gone again."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import meshbox
from labkit.ground import peers
from labkit.ui.embed_relay import Relay
from meshbox.listening import ours_only
from tests.stranger import UID, as_stranger, by_another_user, http, say

SHIM = Path(meshbox.__file__).parent / "images" / "shim"
HOSTS = [("127.77.0.1", "127.77.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("127.77.0.1", "::ffff:127.77.0.1")]


@pytest.fixture(params=HOSTS, ids=lambda pair: " ".join(pair))
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the end that was accepted, and the one that called."""
    bind, call = request.param
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as listener:
        listener.bind((bind, 0))
        listener.listen()
        client = socket.socket(socket.AF_INET6 if ":" in call else socket.AF_INET)
        client.connect((call, listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted, client:
            yield accepted, client


@pytest.fixture(params=["diagnosis", "without it", "found nothing yet"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel that tells by netlink, one that does not, and the first question to one of which nobody knows."""

    def no_diagnosis(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "not here")

    monkeypatch.setattr(peers, "_diagnosed", request.param == "diagnosis")
    if request.param == "without it":
        monkeypatch.setattr(peers, "_diagnosis", no_diagnosis)
    return str(request.param)


def test_a_connection_is_its_users(pair: tuple[socket.socket, socket.socket], kernel: str) -> None:
    accepted, client = pair
    assert peers.owner(accepted.getpeername(), accepted.getsockname()) == os.geteuid()
    assert peers.ours(accepted)
    client.shutdown(socket.SHUT_WR)
    assert peers.ours(accepted)
    client.close()
    # Root's, the kernel says of a socket that nobody has; and anybody can leave at once.
    assert peers.owner(accepted.getpeername(), accepted.getsockname()) is None
    assert not peers.ours(accepted)


def test_the_kernel_tells_whose_a_connection_is(kernel: str) -> None:
    with socket.create_server(("127.77.0.1", 0)) as listener:

        def told() -> int | None:
            with socket.socket() as client:
                client.connect(listener.getsockname())
                accepted, _ = listener.accept()
                with accepted:
                    return peers.owner(accepted.getpeername(), accepted.getsockname())

        assert told() == os.geteuid()
        if os.geteuid() == 0:
            assert as_stranger(told) == UID


@pytest.mark.parametrize(
    ("uid", "mine", "let_in"),
    [(1000, 1000, True), (0, 1000, True), (1001, 1000, False), (1000, 0, False), (0, 0, True)],
)
def test_the_same_user_and_root_are_welcome(monkeypatch: pytest.MonkeyPatch, uid: int, mine: int, let_in: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: mine)
    assert peers.welcome(uid) is let_in
    assert not peers.welcome(None)


def test_a_unix_socket_says_by_itself_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peers.ours(one)
        if os.geteuid() != 0:
            monkeypatch.setattr(os, "geteuid", lambda: 4242)
            assert not peers.ours(one)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_server_of_the_daemon_hangs_up(runner: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"hello")
            transport.close()

    async def both() -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(ours_only(Greeting), "127.77.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()[:2]
            own = await asyncio.to_thread(say, address, b"")
            others = await asyncio.to_thread(by_another_user, lambda: say(address, b""), monkeypatch)
            return own, others

    assert runner(both()) == (b"hello", b"")


def test_a_python_program_in_a_pod_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # As an ordinary user, the pod believes to be somebody else's for the second call.
    code = """
import os, socket, sys
listener = socket.create_server(("", 0))
print(listener.getsockname()[1], flush=True)
for line in sys.stdin:
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    connection.close()
"""
    env = {**os.environ, "PYTHONPATH": str(SHIM), "LABKIT_LOCAL_IP": "127.77.0.2", "LABKIT_POD_IP": "127.77.0.2"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        # Bound as the pod's own address by the shim; a port of 0 is not, so it is told.
        address = ("127.0.0.1", int(program.stdout.readline()))
        program.stdin.write("one\ntwo\n")
        program.stdin.flush()
        assert say(address, b"") == b"hello"
        if os.geteuid() == 0:
            assert by_another_user(lambda: say(address, b""), monkeypatch) == b""
        assert say(address, b"") == b"hello"
        program.stdin.close()


def test_a_relay_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Relay(lambda: "http://127.0.0.1:1")
    try:
        words = http("GET", "/", f"127.0.0.1:{relay.port}")
        assert b" 403 " in say(("127.0.0.1", relay.port), words)
        assert by_another_user(lambda: say(("127.0.0.1", relay.port), words), monkeypatch) == b""
    finally:
        relay.close()
