# SPDX-License-Identifier: Apache-2.0
"""port-forward, as real kubectl does it: SPDY in a WebSocket, and native SPDY as up to version 1.29."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import http.server
import os
import re
import socket
import socketserver
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.streams.streams_server import Server, eventually

BODY = os.urandom(3_000_000)


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        digest = hashlib.sha256(body).hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(digest)))
        self.end_headers()
        self.wfile.write(digest)

    def log_message(self, *_: Any) -> None: ...


class Echo(socketserver.BaseRequestHandler):
    """Reads until the client sends no more, and only then answers: works only where one half can be closed alone."""

    def handle(self) -> None:
        text = b""
        while data := self.request.recv(65536):
            text += data
        self.request.sendall(b"you said " + text)


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[misc]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def pages() -> Iterator[int]:
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)) as port:
        yield port


@pytest.fixture
def echo() -> Iterator[int]:
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)) as port:
        yield port


class Forward:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        match = re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", line)
        assert match, (line, process.stderr.read() if process.stderr else b"")
        self.port = int(match[1])
        self.url = f"http://127.0.0.1:{self.port}/"


@pytest.fixture
def forward(
    kubectl_path: str, environment: dict[str, str], transport: dict[str, str]
) -> Iterator[Callable[[int], Forward]]:
    with contextlib.ExitStack() as stack:

        def start(port: int) -> Forward:
            process = stack.enter_context(
                subprocess.Popen(
                    [kubectl_path, "port-forward", "one", f":{port}"],
                    env=environment | transport,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            stack.callback(process.kill)
            return Forward(process)

        yield start


def test_ten_downloads_at_once(forward: Any, pages: int) -> None:
    url = forward(pages).url

    def download(_: int) -> bytes:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return bytes(answer.read())

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert all(body == BODY for body in pool.map(download, range(10)))


def test_a_big_upload(forward: Any, pages: int) -> None:
    with urllib.request.urlopen(forward(pages).url, data=BODY, timeout=120) as answer:
        assert answer.read().decode() == hashlib.sha256(BODY).hexdigest()


def test_one_half_is_closed_alone(forward: Any, echo: int) -> None:
    with socket.create_connection(("127.0.0.1", forward(echo).port), timeout=120) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        text = b""
        while data := client.recv(65536):
            text += data
    assert text == b"you said hello"


def test_connections_that_end_leave_nothing_behind(server: Server, forward: Any, pages: int) -> None:
    url = forward(pages).url
    for _ in range(5):
        urllib.request.urlopen(url, timeout=120).close()
    connections = server.runtime.connections
    assert len(connections) == 5
    assert eventually(lambda: all(c.writer.transport.is_closing() for c in connections))


def test_a_refused_connection_is_told_in_the_kubelets_words(forward: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        running = forward(port)
        with socket.create_connection(("127.0.0.1", running.port), timeout=120) as client:
            assert client.recv(1) == b""
        assert running.process.wait(120) == 1
    said = running.process.stderr.read().decode()
    assert f"error forwarding port {port} to pod one, uid uid-of-one: dial tcp4 127.0.0.1:{port}: connect:" in said
    assert "lost connection to pod" in said


def test_a_vanished_client_closes_its_connections(server: Server, forward: Any, echo: int) -> None:
    running = forward(echo)
    with socket.create_connection(("127.0.0.1", running.port), timeout=120):
        assert eventually(lambda: len(server.runtime.connections) == 1)
        running.process.kill()
        assert eventually(lambda: server.runtime.connections[0].writer.transport.is_closing())
    assert eventually(lambda: server.open_requests == 0)


def test_one_stalled_reader_keeps_no_more_than_buffers(server: Server, forward: Any, pages: int) -> None:
    running = forward(pages)
    with socket.create_connection(("127.0.0.1", running.port), timeout=120) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1) == b"H"
    # Closed with most of the page unread: the forward must go on to work.
    with urllib.request.urlopen(running.url, timeout=120) as answer:
        assert answer.read() == BODY
