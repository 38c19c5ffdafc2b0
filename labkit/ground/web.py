# SPDX-License-Identifier: Apache-2.0
"""The HTTP/1.1 server of all pages here, a pod's, Grafana's and the relays': sockets and threads, nothing else.

`http.server` parses headers with the e-mail package, which costs more than all that these services do.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from labkit.ground import framing
from labkit.ground.framing import FramingError, Head, Incoming, LimitedThreads

__all__ = ["App", "Request", "Response", "Server", "json_response", "listen", "real_port", "serve"]

MOST_BODY = 8 * 1024 * 1024
"""Bytes of a request's body; none of the services here is asked anything so long."""

_SMALL = 64 * 1024
_IDLE_SECONDS = 300.0
_LAME_DUCK = 0.2
"""Seconds for which requests are still taken after SIGTERM: proxies learn only then that this endpoint is gone."""

_LAST_REQUESTS = 5.0


@dataclass
class Request:
    """A request.

    Args:
        method: "GET", …
        target: As sent: path and query.
        headers: By lower-case name; repeated ones joined with a comma.
        body: Its content.
        client: The IP address it came from.
        items: The headers as sent.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    client: str = ""
    items: list[tuple[str, str]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(urlsplit(self.target).path) or "/"

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's names and values."""
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    def form(self) -> dict[str, str]:
        """The fields of a posted form."""
        return dict(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))

    def cookies(self) -> dict[str, str]:
        """The cookies sent."""
        pairs = (part.strip().partition("=") for part in self.headers.get("cookie", "").split(";"))
        return {name: value.strip('"') for name, found, value in pairs if found}


@dataclass
class Response:
    """An answer. A file is sent without being read whole, an iterable in chunks as they come.

    Args:
        status: HTTP status code.
        body: Its content.
        headers: Header fields besides those that follow from the others.
        content_type: Of the body.
        upgrade: With status 101: speaks another protocol on the connection until it ends, given what comes in and a
            way to send.
    """

    status: int = 200
    body: bytes | str | Path | Iterable[bytes] = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str = "text/html; charset=utf-8"
    upgrade: Callable[[Incoming, Callable[[bytes], None]], None] | None = None


App = Callable[[Request], Response]


def json_response(content: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """An answer with `content` as JSON."""
    return Response(status, json.dumps(content), list(headers), "application/json")


class _Arriving(Request):
    """A request whose body is still on its way: it is read when it is first asked for, or not at all."""

    def __init__(self, head: Head, client: str, read: Callable[[], bytes]) -> None:
        headers: dict[str, str] = {}
        for name, value in head.items:
            key = name.lower()
            headers[key] = f"{headers[key]},{value}" if key in headers else value
        self._read = functools.cache(read)
        super().__init__(head.method, head.target, headers, client=client, items=head.items)

    @property
    def body(self) -> bytes:
        """Its content."""
        return self._read()

    @body.setter
    def body(self, _: bytes) -> None:
        """The constructor's default."""


class _Handler(socketserver.BaseRequestHandler):
    server: Server

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.settimeout(_IDLE_SECONDS)
        self._incoming = Incoming(self.request)
        self._unread = False

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            # Who connects and then says nothing may not stay as long as one who has asked for something.
            patience = framing.HEAD_SECONDS
            while self._came(patience) and self._one():
                patience = _IDLE_SECONDS
        if self._unread:
            self._incoming.discard()

    def _came(self, patience: float) -> bool:
        with self.server.idling(self.request):
            return self._incoming.wait(patience)

    def _one(self) -> bool:
        """Take one request and answer it; whether another may follow."""
        head = None
        try:
            head = framing.read_head(self._incoming)
            if head is None:
                return False
            length = framing.body_length(head.values("content-length"), head.values("transfer-encoding"), head.version)
            self._unread = length != 0
            keep, response = self._answered(head, length)
        except FramingError as error:
            self._unread = True
            keep, response = False, Response(error.status, f"{error.words}\n", content_type="text/plain")
        self._write(response, head.method if head else "GET", keep)
        if response.upgrade is not None:
            with self.server.busy():
                response.upgrade(self._incoming, self.request.sendall)
            return False
        return keep

    def _answered(self, head: Head, length: int | None) -> tuple[bool, Response]:
        def read() -> bytes:
            if length != 0 and "100-continue" in [value.lower() for value in head.values("expect")]:
                self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = framing.read_body(self._incoming, length, self.server.most_body)
            self._unread = False
            return body

        request = _Arriving(head, self.client_address[0], read)
        with self.server.busy():
            try:
                response = self.server.app(request)
                if self._unread and length is not None and length <= _SMALL:
                    # Not asked for, but so short that the connection is worth more.
                    request.body  # noqa: B018
            except (FramingError, TimeoutError):
                raise
            except Exception:
                # One request's failure is answered; the next may go well.
                import traceback

                traceback.print_exc()
                response = Response(500, "Internal Server Error\n", content_type="text/plain")
        connection = request.headers.get("connection", "").lower()
        keep = "close" not in connection if head.version != "HTTP/1.0" else "keep-alive" in connection
        return keep and not self._unread and not self.server.ending, response

    def _write(self, response: Response, method: str, keep: bool) -> None:
        try:
            phrase = HTTPStatus(response.status).phrase
        except ValueError:
            phrase = "Unknown"
        body = response.body.encode() if isinstance(response.body, str) else response.body
        bare = response.status in (101, 204)
        no_body = method == "HEAD" or bare or response.status == 304
        lines = [f"HTTP/1.1 {response.status} {phrase}", f"Date: {_date()}"]
        names = {name.lower() for name, _ in response.headers}
        if response.content_type and "content-type" not in names and not bare:
            lines.append(f"Content-Type: {response.content_type}")
        if isinstance(body, bytes):
            if not bare:
                lines.append(f"Content-Length: {len(body)}")
        elif isinstance(body, Path):
            lines.append(f"Content-Length: {body.stat().st_size}")
        else:
            lines.append("Transfer-Encoding: chunked")
        lines += [f"{name}: {value}" for name, value in response.headers]
        if not keep and response.upgrade is None:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")
        if no_body:
            self.request.sendall(head)
        elif isinstance(body, bytes):
            self.request.sendall(head + body)
        elif isinstance(body, Path):
            self.request.sendall(head)
            with body.open("rb") as file:
                self.request.sendfile(file)
        else:
            self.request.sendall(head)
            for chunk in filter(None, body):
                self.request.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.request.sendall(b"0\r\n\r\n")


_date_now: tuple[int, str] = (0, "")


def _date() -> str:
    global _date_now
    second = int(time.time())
    if _date_now[0] != second:
        _date_now = second, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
    return _date_now[1]


class Server(LimitedThreads, socketserver.TCPServer):
    """A listening app; made by `listen`."""

    most_connections = 512
    most_body = MOST_BODY

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], app: App) -> None:
        self.app = app
        self.ending = False
        self._closed = False
        self._active = 0
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def run(self) -> None:
        """Take connections until the server is closed, by whichever thread."""
        while not self._closed:
            try:
                connection, client = self.get_request()
            except OSError:
                # Closed, or out of file descriptors for a moment.
                time.sleep(0.01)
                continue
            try:
                if self.verify_request(connection, client):
                    self.process_request(connection, client)
                else:
                    self.shutdown_request(connection)
            except (OSError, RuntimeError):
                # A RuntimeError says that this user may start no more threads for now.
                self.shutdown_request(connection)

    def server_close(self) -> None:
        """Stop listening; what is being answered goes on."""
        self._closed = True
        # Closing alone does not wake a thread that waits for a connection.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        super().server_close()

    @contextlib.contextmanager
    def busy(self) -> Any:
        """While a request is answered."""
        with self._lock:
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1

    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self._active == 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no fault of ours; anything else is told on stderr."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def real_port(port: int) -> int:
    """Where `port` is bound: shifted if it is below 1024 and this user may not bind those; 0 stays "any free one"."""
    return port + int(os.environ.get("LABKIT_LOW_PORT_SHIFT", "0")) if 0 < port < 1024 else port


def listen(apps: Mapping[int, App], address: str) -> list[Server]:
    """Serve each app on its port, in threads; close the servers to end that.

    Args:
        apps: Port → app; port 0 is a free one, see each server's `server_address`.
        address: Where to listen.

    Raises:
        OSError: a port cannot be bound; the message names it, and nothing listens.
    """
    servers: list[Server] = []
    for port, app in apps.items():
        try:
            servers.append(Server((address, real_port(port)), app))
        except OSError as error:
            for server in servers:
                server.server_close()
            raise OSError(error.errno, f"cannot listen on port {real_port(port)}: {error.strerror}") from error
    for server in servers:
        threading.Thread(target=server.run, daemon=True).start()
    return servers


def serve(apps: Mapping[int, App], address: str | None = None, *, started: Callable[[], None] = lambda: None) -> int:
    """Serve each app on its port until SIGTERM; then finish what is in flight.

    Args:
        apps: Port → app.
        address: Where to listen; LABKIT_BIND by default.
        started: Called once all ports are open.

    Returns:
        The exit code.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    bind = address or os.environ.get("LABKIT_BIND", "127.0.0.1")
    try:
        servers = listen(apps, bind)
    except OSError as error:
        print(f"{bind}: {error.strerror}", file=sys.stderr)
        return 1
    started()
    ended.wait()
    for server in servers:
        server.ending = True
    time.sleep(_LAME_DUCK)
    for server in servers:
        server.server_close()
    deadline = time.monotonic() + _LAST_REQUESTS
    while not all(server.idle() for server in servers) and time.monotonic() < deadline:
        time.sleep(0.05)
    return 0
