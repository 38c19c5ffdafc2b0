# SPDX-License-Identifier: Apache-2.0
"""What small HTTP servers take of a stranger: a bounded head, a body only where it is asked for, bounded time."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafana_figures.server import app as grafana
from grafana_figures.site import Answer
from labkit.ground import framing, web
from labkit.ground.framing import FramingError, Incoming, body_length, read_body, read_head
from labkit.ui.embed_relay import Relay
from tests.conftest import PATIENCE, wait_until


class Always:
    """A site of which every page says yes."""

    def answer(self, *_: str) -> Answer:
        return Answer(200, b"yes")


@contextlib.contextmanager
def pair(sent: bytes, *, open_: bool = False) -> Iterator[Incoming]:
    """The reading side of a connection on which `sent` comes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = threading.Thread(target=_send, args=(theirs, sent, open_))
        writer.start()
        yield Incoming(ours)
        ours.close()
        writer.join()


def _send(connection: socket.socket, data: bytes, open_: bool) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)
        if not open_:
            connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("length", ["-1", "+5", "5 5", "0x5", "1e3", "five", "", "5.0", "٥", "5,5", "1_0"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises(FramingError) as caught:
        body_length([length], [])
    assert (caught.value.status, caught.value.words) == (400, "malformed Content-Length")


@pytest.mark.parametrize(
    ("lengths", "encodings", "version", "status"),
    [
        (["5", "5"], [], "HTTP/1.1", 400),
        (["5", "6"], [], "HTTP/1.1", 400),
        (["5"], ["chunked"], "HTTP/1.1", 400),
        ([], ["chunked"], "HTTP/1.0", 400),
        ([], ["chunked", "chunked"], "HTTP/1.1", 501),
        ([], ["gzip, chunked"], "HTTP/1.1", 501),
        ([], ["identity"], "HTTP/1.1", 501),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(
    lengths: list[str], encodings: list[str], version: str, status: int
) -> None:
    with pytest.raises(FramingError) as caught:
        body_length(lengths, encodings, version)
    assert caught.value.status == status


@given(st.integers(0, 10**30))
def test_any_number_is_a_length(number: int) -> None:
    seen = body_length([str(number)], [])
    assert seen == number if number < 10**19 else seen is not None and seen >= 10**19
    assert body_length([], []) == 0
    assert body_length([], ["Chunked"]) is None
    assert body_length(["0" * 5000 + "7"], []) == 7


@given(st.binary(max_size=2000), st.integers(1, 300))
def test_bodies_are_read_whole(body: bytes, size: int) -> None:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    chunked = b"".join(b"%x;e=1\r\n%s\r\n" % (len(one), one) for one in chunks) + b"0\r\nTrailer: x\r\n\r\nnext"
    with pair(chunked) as incoming:
        assert read_body(incoming, None, 2000) == body
        assert incoming.read(4) == b"next"
    with pair(body + b"next") as incoming:
        assert read_body(incoming, len(body), 2000) == body
        assert incoming.readline() == b"next"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"-5\r\nxxxxx\r\n0\r\n\r\n", 400),
        (b"+5\r\nxxxxx\r\n0\r\n\r\n", 400),
        (b"0x5\r\nxxxxx\r\n0\r\n\r\n", 400),
        (b"five\r\n", 400),
        (b"\r\n", 400),
        (b"5\r\nxxxxxx\r\n0\r\n\r\n", 400),
        (b"5\r\nxx", 400),
        (b"1" * 2000 + b"\r\n", 400),
        (b"fffffffffffffff\r\nx", 413),
        (b"ffffffffffffffff\r\nx", 400),
        (b"7d1\r\nx", 413),
        (b"1\r\nx\r\n" * 2001 + b"0\r\n\r\n", 413),
        (b"1;" + b"e" * 900 + b"\r\nx\r\n" + (b"1;" + b"e" * 900 + b"\r\nx\r\n") * 100, 400),
        (b"0\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", 431),
    ],
)
def test_bad_chunks_are_refused(sent: bytes, status: int) -> None:
    with pair(sent) as incoming, pytest.raises(FramingError) as caught:
        read_body(incoming, None, 2000)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 1_000_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 1_000_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 201 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\na : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n a: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\na: b\rc: d\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\na: \0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: b\r\n\r\n", 400),
        (b"GET  / HTTP/9\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_heads_beyond_a_bound_are_refused(sent: bytes, status: int) -> None:
    with pair(sent) as incoming, pytest.raises(FramingError) as caught:
        read_head(incoming)
    assert caught.value.status == status


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_head_or_none(sent: bytes) -> None:
    with pair(sent) as incoming:
        try:
            head = read_head(incoming)
        except FramingError as error:
            assert error.status in (400, 431)  # noqa: PT017 (either is right)
        else:
            assert head is None or head.version in ("HTTP/1.0", "HTTP/1.1")


def test_the_time_is_for_the_whole_and_not_for_each_byte() -> None:
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.02):
                theirs.send(b"a")

    dripping = threading.Thread(target=drip)
    dripping.start()
    incoming = Incoming(ours)
    for read in (lambda: incoming.readline(), lambda: read_body(incoming, 10_000, 10_000, seconds=0.3)):
        incoming.allow(0.3)
        with pytest.raises(TimeoutError):
            read()
    ended.set()
    dripping.join()
    ours.close()
    theirs.close()


# --- the servers


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture(params=["relay", "stand-in", "grafana"])
def port(request: pytest.FixtureRequest, asked: list[str]) -> Iterator[int]:
    """Each of the servers, none of which has a reason to ask a stranger for a body."""
    if request.param == "relay":
        relay = Relay(lambda: asked.append("upstream") or "http://127.0.0.1:1")  # type: ignore[func-returns-value]
        yield relay.port
        relay.close()
    elif request.param == "stand-in":
        (served,) = web.listen({0: lambda _: web.Response(403, "no\n")}, "127.0.0.1")
        yield served.server_address[1]
        served.server_close()
    else:

        class Site:
            def answer(self, *_: Any) -> Answer:
                return Answer(403, b"no")

        (served,) = web.listen({0: grafana(Site())}, "127.0.0.1")  # type: ignore[arg-type]
        yield served.server_address[1]
        served.server_close()


def exchange(port: int, sent: bytes, more: Callable[[socket.socket], None] | None = None) -> bytes:
    """What a server says before it closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection, contextlib.suppress(OSError):
        try:
            connection.sendall(sent)
            if more is not None:
                more(connection)
        finally:
            while chunk := connection.recv(65536):
                answer += chunk
    return answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: -1", 400),
        ("Content-Length: +3", 400),
        ("Content-Length: 3\r\nContent-Length: 4", 400),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip", 501),
        ("\r\n".join(f"h{n}: x" for n in range(10_000)), 431),
        ("h: " + "x" * 1_000_000, 431),
    ],
)
def test_bad_framing_is_answered_and_the_connection_closed(port: int, headers: str, status: int) -> None:
    answer = exchange(port, f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n\r\nxxx".encode())
    assert answer.startswith(b"HTTP/1."), answer[:80]
    # A relay that does not know who asks says nothing about how he asks.
    assert int(answer.split()[1]) in (status, 403)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_strangers_body_is_not_kept(port: int, asked: list[str]) -> None:
    block, sent = b"x" * 1_000_000, [0]

    def more(connection: socket.socket) -> None:
        for _ in range(400):
            connection.sendall(block)
            sent[0] += 1

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = exchange(port, b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 400000000\r\n\r\n", more)
    assert sent[0] < 50
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    assert answer == b"" or b" 403 " in answer.splitlines()[0]
    assert asked == []


def test_a_small_body_that_nobody_reads_does_not_cost_the_answer(port: int) -> None:
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", "/", b"a=1", {"Host": "127.0.0.1"})
        answer = connection.getresponse()
        assert answer.status == 403
        assert answer.read()
        connection.close()


def test_a_body_beyond_the_bound_is_not_waited_for() -> None:
    seen: list[int] = []

    def app(request: web.Request) -> web.Response:
        seen.append(len(request.body))
        return web.Response(200)

    (served,) = web.listen({0: app}, "127.0.0.1")
    port = served.server_address[1]
    head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n"
    assert exchange(port, head.format(web.MOST_BODY + 1).encode()).startswith(b"HTTP/1.1 413 ")
    assert exchange(port, head.format(10**40).encode()).startswith(b"HTTP/1.1 413 ")
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (web.MOST_BODY + 1)
    assert exchange(port, chunked).startswith(b"HTTP/1.1 413 ")
    # Who is told that his body is wanted, and sends none that is too large, is served.
    asked = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
    answer = exchange(port, asked)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert seen == [3]
    served.server_close()


def test_more_connections_than_there_is_room_for_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.Server, "most_connections", 5)
    ended, begun = threading.Event(), threading.Semaphore(0)

    def busy(_: web.Request) -> web.Response:
        begun.release()
        assert ended.wait(PATIENCE)
        return web.Response(200, "yes")

    (served,) = web.listen({0: busy}, "127.0.0.1")
    address = ("127.0.0.1", served.server_address[1])
    held = [socket.create_connection(address, timeout=120) for _ in range(5)]
    for connection in held:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.acquire(timeout=PATIENCE)
    with socket.create_connection(address, timeout=120) as another:
        assert another.recv(1000).startswith(b"HTTP/1.1 503 ")
    ended.set()
    for connection in held:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        connection.close()
    # What they held is free again.
    wait_until(lambda: exchange(address[1], b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 "), what="room")
    served.server_close()


def lies_idle(served: framing.LimitedThreads, connection: socket.socket) -> None:
    """Wait until the connection is the last of those that the server knows to lie idle."""

    def last() -> bool:
        idle = [one.getpeername() for one in list(served.__dict__.get("_idle", ()))]
        return idle[-1:] == [connection.getsockname()]

    wait_until(last, what="the connection to lie idle")


@pytest.mark.parametrize("kind", ["web", "grafana"])
def test_connections_that_lie_idle_give_way_to_new_ones_the_longest_first(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing.LimitedThreads, "most_connections", 2)
    monkeypatch.setattr(web.Server, "most_connections", 2)
    app = (lambda _: web.Response(200, "yes")) if kind == "web" else grafana(Always())  # type: ignore[arg-type]
    (served,) = web.listen({0: app}, "127.0.0.1")
    address = ("127.0.0.1", int(served.server_address[1]))

    def ask(connection: socket.socket) -> bytes:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while more := connection.recv(1000):
            answer += more
            if answer.endswith(b"yes"):
                break
        return answer

    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(socket.socket()) for _ in range(2))
        for connection in (first, second):
            connection.connect(address)
            lies_idle(served, connection)
        for connection in (first, second, first):
            assert ask(connection).endswith(b"yes")
            lies_idle(served, connection)
        third = stack.enter_context(socket.create_connection(address, timeout=120))
        assert ask(third).endswith(b"yes")
        assert second.recv(1000) == b""
        assert ask(first).endswith(b"yes")
    served.server_close()


def test_a_server_outlives_a_moment_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    (served,) = web.listen({0: lambda _: web.Response(200, "yes")}, "127.0.0.1")
    port = int(served.server_address[1])

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        assert exchange(port, b"") == b""
    assert exchange(port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    served.server_close()


def test_who_never_asks_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "HEAD_SECONDS", 0.2)
    (served,) = web.listen({0: lambda _: web.Response(200, "yes")}, "127.0.0.1")
    relay = Relay(lambda: "http://127.0.0.1:1")
    for port in (served.server_address[1], relay.port):
        for begun in (b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nb:"):
            assert exchange(port, begun) == b""
    assert exchange(served.server_address[1], b"") == b""
    served.server_close()
    relay.close()


def test_a_body_that_ends_too_early_or_comes_too_late_says_so() -> None:
    with pair(b"abc") as incoming, pytest.raises(FramingError) as caught:
        read_body(incoming, 5, 10)
    assert (caught.value.status, caught.value.words) == (400, "the body was cut off")
    with pair(b"abc", open_=True) as incoming, pytest.raises(TimeoutError, match="the request did not come in time"):
        read_body(incoming, 5, 10, seconds=0)
