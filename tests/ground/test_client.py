# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of our own processes: what it keeps, bounds and refuses."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from labkit.ground.client import Connections, send

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Seen: yes\r\n\r\nok"
Script = Callable[[int, int], bytes | None]


class Server:
    """Answers the requests of each connection as `script(connection, request)` says; None ends the connection."""

    def __init__(self, script: Script) -> None:
        self.seen: list[tuple[int, bytes]] = []
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()
            number += 1

    def _serve(self, connection: socket.socket, number: int) -> None:
        request = 0
        with connection:
            while head := self._head(connection):
                self.seen.append((number, head))
                answer = self._script(number, request)
                request += 1
                if answer is None:
                    return
                connection.sendall(answer)
                if b"Connection: close" in answer:
                    return

    def _head(self, connection: socket.socket) -> bytes:
        head = b""
        try:
            while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
                head += more
        except OSError:
            return b""
        return head

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            connection.close()
        self._thread.join()


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    server = Server(script)
    try:
        yield server
    finally:
        server.close()


def test_a_connection_is_kept_and_its_answers_are_whole():
    with serving(lambda *_: OK) as server, Connections("127.0.0.1", server.port, 120) as api:
        answers = [api.request("GET", f"/{number}") for number in range(3)]
    assert [(one.status, one.text, one.header("x-SEEN"), one.header("none")) for one in answers] == [
        (200, "ok", "yes", "")
    ] * 3
    assert [(number, head.split()[1]) for number, head in server.seen] == [(0, b"/0"), (0, b"/1"), (0, b"/2")]


def test_one_that_lay_idle_and_was_closed_is_replaced_for_what_may_be_sent_again():
    # Of each connection but the last the second request is not answered any more.
    once = serving(lambda _, request: OK if request == 0 else None)
    with once as server, Connections("127.0.0.1", server.port, 120) as api:
        assert [api.request("GET", "/").text for _ in range(2)] == ["ok", "ok"]
        with pytest.raises(ConnectionError):
            api.request("POST", "/", body="x")
        assert api.request("POST", "/").text == "ok"
        assert api.request("POST", "/", again=True).text == "ok"
        with pytest.raises(ConnectionError):
            api.request("GET", "/", again=False)


def test_nothing_is_sent_again_on_a_new_connection():
    with serving(lambda *_: None) as server, pytest.raises(ConnectionError):
        Connections("127.0.0.1", server.port, 120).request("GET", "/")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 101\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",
        b"Connection: close\r\n\r\n" + b"x" * 101,
    ],
)
def test_a_longer_answer_than_is_wanted_is_refused(head):
    with serving(lambda *_: b"HTTP/1.1 200 OK\r\n" + head) as server:
        with pytest.raises(ConnectionError, match="an answer of more than 100 bytes"):
            send(f"http://127.0.0.1:{server.port}/", timeout=120, most=100)
        assert send(f"http://127.0.0.1:{server.port}/", "HEAD", timeout=120, most=100).body == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: Connection: close\r\n\r\n5\r\nx",
        b"SSH-2.0-OpenSSH Connection: close\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"Connection: close\r\n\r\n",
        None,
    ],
)
def test_what_is_no_whole_answer_is_an_error_of_the_connection(answer):
    with serving(lambda *_: answer) as server, pytest.raises(ConnectionError) as raised:
        send(f"http://127.0.0.1:{server.port}/", timeout=120)
    assert str(raised.value)


def test_silence_ends_with_the_time():
    with serving(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n") as server, pytest.raises(TimeoutError):
        send(f"http://127.0.0.1:{server.port}/", timeout=0.2)


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:1")
    with serving(lambda *_: OK) as server:
        assert send(f"http://127.0.0.1:{server.port}/a?b=c#d", headers={"Host": "x"}, timeout=120).text == "ok"
    request, *headers = server.seen[0][1].decode().splitlines()
    assert request == "GET /a?b=c HTTP/1.1"
    assert "Host: x" in headers
    assert "Connection: close" in headers


def test_lines_come_as_they_are_sent():
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nb\n\r\n0\r\n\r\n"
    server = serving(lambda *_: body)
    with server as one, Connections("127.0.0.1", one.port, 120).stream("/watch") as (status, readline):
        assert (status, readline(), readline(), readline()) == (200, b"a\n", b"b\n", b"")


@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: 100\r\n\r\n" + b"x" * 100,
        b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n",
        b"Connection: close\r\n\r\n" + b"x" * 100,
    ],
)
def test_an_answer_just_as_long_as_is_wanted_is_whole(framed):
    with serving(lambda *_: b"HTTP/1.1 200 OK\r\n" + framed) as server:
        assert send(f"http://127.0.0.1:{server.port}/", timeout=120, most=100).body == b"x" * 100


def test_by_itself_it_takes_a_long_answer_and_shows_what_is_no_text():
    body = b"\xff" + b"x" * 1_000_000
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with serving(lambda *_: answer) as server, Connections("127.0.0.1", server.port, 120) as api:
        found = api.request("GET", "")
        with api.stream("/watch") as (status, _):
            assert status == 200
    assert [head.splitlines()[0] for _, head in server.seen] == [b"GET / HTTP/1.1", b"GET /watch HTTP/1.1"]
    assert found.text == "\ufffd" + "x" * 1_000_000
    # Neither what a server keeps secret nor a megabyte belongs into a message.
    assert repr(found) == "Answer(status=200)"


def test_what_was_cut_off_says_how_much_came():
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nx"
    with serving(lambda *_: cut) as server, pytest.raises(ConnectionError, match="1 bytes read, 4 more expected"):
        send(f"http://127.0.0.1:{server.port}/", timeout=120)


def test_without_a_port_it_is_80(monkeypatch):
    asked = []

    def refused(address, *_):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refused)
    with pytest.raises(ConnectionRefusedError):
        send("http://127.0.0.1/", timeout=1)
    assert asked == [("127.0.0.1", 80)]


def test_who_is_interrupted_leaves_no_connection_with_half_an_answer(monkeypatch):
    with serving(lambda *_: OK) as server, Connections("127.0.0.1", server.port, 120) as api:
        with monkeypatch.context() as patched:
            patched.setattr(Connections, "_content", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                api.request("GET", "/")
        assert api.request("GET", "/").text == "ok"
    assert [number for number, _ in server.seen] == [0, 1]


def test_at_the_end_idle_connections_are_closed_though_somebody_holds_them():
    with serving(lambda *_: OK) as server:
        with Connections("127.0.0.1", server.port, 120) as api:
            api.request("GET", "/")
            (kept,) = api._idle
        assert kept.sock is None
        assert api.request("GET", "/").text == "ok"
    assert [number for number, _ in server.seen] == [0, 1]
