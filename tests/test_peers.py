# SPDX-License-Identifier: Apache-2.0
"""Who is let in: this user's own processes and root's, nobody else's, and nobody who has gone again."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
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


def test_the_user_of_a_unix_socket_is_not_its_process_or_group(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        family = socket.AF_UNIX

        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
            return struct.pack("3i", 1001, 1002, 1003)[:size]

    for uid, let_in in ((1001, False), (1002, True), (1003, False)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert peers.ours(Connection()) is let_in


def test_who_is_not_connected_is_not_let_in() -> None:
    with socket.socket() as alone:
        assert peers.ours(alone) is False


def test_elsewhere_than_on_linux_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peers.ours(None) is True


def test_whether_this_system_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ours(connection: socket.socket) -> bool:
        asked.append(connection.getsockname()[0])
        return len(asked) < 3

    assert peers.able() is peers.able("127.77.0.3") is True
    monkeypatch.setattr(peers, "ours", ours)
    assert [peers.able(), peers.able("127.77.0.3"), peers.able()] == [True, True, False]
    assert asked == ["127.0.0.1", "127.77.0.3", "127.0.0.1"]
    # No address of this machine.
    assert peers.able("203.0.113.1") is False


class Kernel:
    """Stands in for the socket by which the kernel is asked, and says what a test wants it to say."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.questions: list[bytes] = []

    def __call__(self, *kind: int) -> Kernel:
        # NETLINK_SOCK_DIAG is 4; no program that is started may have it.
        assert kind == (socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 4)
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, question: bytes) -> None:
        self.questions.append(question)

    def recv(self, size: int, flags: int) -> bytes:
        assert self.questions
        assert flags == socket.MSG_DONTWAIT
        return self.answer[:size]


HERE, THERE = ("127.77.0.1", 40000), ("127.77.0.2", 80)
SRC, DST, MAPPED = b"\x7f\x4d\x00\x01", b"\x7f\x4d\x00\x02", bytes(10) + b"\xff\xff"


def told(
    kind: int = 20, state: int = 1, ports: tuple[int, int] = (40000, 80), src: bytes = SRC, dst: bytes = DST, **of: int
) -> bytes:
    """What the kernel says of a connection: an nlmsghdr and an inet_diag_msg, as linux/inet_diag.h has them."""
    places = struct.pack("!HH", *ports) + src.ljust(16, b"\0") + dst.ljust(16, b"\0") + bytes(12)
    owned = struct.pack("=5I", 1, 2, 3, of.get("uid", 1234), of.get("inode", 77))
    return struct.pack("=IHHII", 88, kind, 2, 5, 6) + bytes([2, state, 7, 8]) + places + owned


def denied(code: int, echo: int) -> bytes:
    """An nlmsghdr and an nlmsgerr, with so many bytes of the question behind them."""
    return struct.pack("=IHHIIi", 20 + echo, 2, 0, 0, 4321, -code) + bytes(echo)


@pytest.mark.parametrize(
    ("answer", "uid"),
    [
        (told(), 1234),
        (told(uid=0), 0),
        (told(src=MAPPED + SRC, dst=MAPPED + DST), 1234),
        # A socket that no process has any more.
        (told(uid=0, inode=0), None),
        (told(inode=0), None),
    ],
)
def test_whose_the_kernel_says_that_a_connection_is(
    answer: bytes, uid: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", Kernel(answer))
    monkeypatch.setattr(peers, "_diagnosed", False)
    monkeypatch.setattr(peers, "_listed", lambda *_: pytest.fail("the list is not needed"))
    assert peers.owner(HERE, THERE) == uid
    assert peers._diagnosed is True


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        # Who listens at the address is not who called from it.
        (told(state=10), errno.ENOENT),
        (told(ports=(40001, 80)), errno.ENOENT),
        (told(ports=(40000, 81)), errno.ENOENT),
        (told(src=DST), errno.ENOENT),
        (told(dst=SRC), errno.ENOENT),
        (told(src=bytes(10) + b"\xff\xfe" + SRC), errno.ENOENT),
        *((denied(code, echo), code) for code in (errno.ENOENT, errno.EPERM) for echo in (0, 67, 68, 72)),
        (told(kind=21), -1),
        *((told()[:length], errno.EPROTO) for length in (0, 16, 19)),
    ],
)
def test_what_else_the_kernel_says_is_no_owner(answer: bytes, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Kernel(answer))
    monkeypatch.setattr(peers, "_diagnosed", False)
    listed: list[tuple[bytes, int, bytes, int]] = []
    monkeypatch.setattr(peers, "_listed", lambda *places: listed.append(places))
    with pytest.raises(OSError, match=r".") as raised:
        peers._diagnosis(SRC, 40000, DST, 80)
    if code >= 0:
        assert (raised.value.errno, raised.value.strerror) == (code, os.strerror(code))
    assert peers.owner(HERE, THERE) is None
    assert listed == [(SRC, 40000, DST, 80)]
    assert peers._diagnosed is False


@pytest.mark.parametrize(
    ("here", "there", "family", "src", "dst"),
    [
        (HERE, THERE, socket.AF_INET, SRC, DST),
        (("::ffff:127.77.0.1", 40000, 0, 0), ("::ffff:127.77.0.2", 80, 0, 0), socket.AF_INET, SRC, DST),
        (
            ("::1", 40000, 0, 0),
            ("fe80::2%lo", 80, 0, 1),
            socket.AF_INET6,
            bytes(15) + b"\1",
            b"\xfe\x80" + bytes(13) + b"\2",
        ),
    ],
)
def test_the_kernel_is_asked_for_one_connection(
    here: tuple[Any, ...],
    there: tuple[Any, ...],
    family: int,
    src: bytes,
    dst: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(told(src=src, dst=dst))
    monkeypatch.setattr(socket, "socket", kernel)
    assert peers.owner(here, there) == 1234
    # SOCK_DIAG_BY_FAMILY and NLM_F_REQUEST; TCP in all states; no interface, and no cookie.
    header = struct.pack("=IHHII", 72, 20, 1, 0, 0) + bytes([family, 6, 0, 0]) + b"\xff" * 4
    places = b"\x9c\x40\x00\x50" + src.ljust(16, b"\0") + dst.ljust(16, b"\0")
    assert kernel.questions == [header + places + bytes(4) + b"\xff" * 8]


@pytest.mark.parametrize(
    ("knows", "code", "listed"),
    [
        (True, errno.ENOENT, False),
        (False, errno.ENOENT, True),
        (True, errno.EPROTONOSUPPORT, True),
        (False, errno.EPROTONOSUPPORT, True),
    ],
)
def test_what_a_kernel_that_tells_does_not_find_is_not_there(
    knows: bool, code: int, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", Kernel(denied(code, 72)))
    monkeypatch.setattr(peers, "_diagnosed", knows)
    monkeypatch.setattr(peers, "_listed", lambda *_: 4242)
    assert peers.owner(HERE, THERE) == (4242 if listed else None)


@pytest.mark.parametrize(("missing", "found"), [((), True), (("tcp",), True), (("tcp", "tcp6"), False)])
def test_a_list_that_cannot_be_read_names_nobody(
    missing: tuple[str, ...], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: str, **options: Any) -> Any:
        if path.rpartition("/")[2] in missing:
            raise FileNotFoundError(path)
        return open(path, **options)

    with socket.create_server(("127.77.0.1", 0)) as listener, socket.socket(socket.AF_INET6) as client:
        # IPv4 by a socket of IPv6: it stands in the second list.
        client.connect(("::ffff:127.77.0.1", listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            monkeypatch.setattr(peers, "open", read, raising=False)
            here, there = accepted.getpeername(), accepted.getsockname()
            uid = peers._listed(socket.inet_aton(here[0]), here[1], socket.inet_aton(there[0]), there[1])
            assert uid == (os.geteuid() if found else None)


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
