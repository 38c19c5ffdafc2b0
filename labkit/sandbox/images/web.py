"""A small HTTP/1.1 server and client for the stand-ins: the standard library's sockets and threads, nothing else.

`http.server` parses headers with the e-mail package, which costs more than all that these services do.
"""

from __future__ import annotations

import contextlib
import http.client
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
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["App", "Request", "Response", "Server", "fetch", "json_response", "listen", "real_port", "serve"]

MOST_BODY = 64 * 1024 * 1024
_MOST_HEADERS = 200
_LONGEST_LINE = 64 * 1024
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
    """An answer; a body that is neither bytes nor str is sent in chunks as it comes."""

    status: int = 200
    body: bytes | str | Iterable[bytes] = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str = "text/html; charset=utf-8"


App = Callable[[Request], Response]


def json_response(content: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """An answer with `content` as JSON."""
    return Response(status, json.dumps(content), list(headers), "application/json")


class _BadRequestError(Exception):
    """What came is not HTTP."""


class _Handler(socketserver.StreamRequestHandler):
    server: Server
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self._one():
                pass

    def _one(self) -> bool:
        """Take one request and answer it; whether another may follow."""
        try:
            request, keep = self._read()
        except _BadRequestError as error:
            self._write(Response(400, f"{error}\n", content_type="text/plain"), "GET", keep=False)
            return False
        if request is None:
            return False
        with self.server.busy():
            try:
                response = self.server.app(request)
            except Exception:
                # One request's failure is answered; the next may go well.
                import traceback

                traceback.print_exc()
                response = Response(500, "Internal Server Error\n", content_type="text/plain")
            keep = keep and not self.server.ending
            self._write(response, request.method, keep)
        return keep

    def _read(self) -> tuple[Request | None, bool]:
        line = self.rfile.readline(_LONGEST_LINE)
        if not line.strip():
            return None, False
        parts = line.decode("latin-1").split()
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise _BadRequestError("malformed request line")
        items: list[tuple[str, str]] = []
        while (line := self.rfile.readline(_LONGEST_LINE)) not in (b"\r\n", b"\n", b""):
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or len(items) > _MOST_HEADERS:
                raise _BadRequestError("malformed headers")
            items.append((name, value.strip()))
        headers: dict[str, str] = {}
        for name, value in items:
            key = name.lower()
            headers[key] = f"{headers[key]},{value}" if key in headers else value
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(headers)
        connection = headers.get("connection", "").lower()
        keep = "close" not in connection if parts[2] != "HTTP/1.0" else "keep-alive" in connection
        return Request(parts[0], parts[1], headers, body, self.client_address[0], items), keep

    def _body(self, headers: Mapping[str, str]) -> bytes:
        try:
            if "chunked" in headers.get("transfer-encoding", "").lower():
                return self._chunks()
            length = int(headers.get("content-length") or 0)
        except ValueError as error:
            raise _BadRequestError("malformed body") from error
        if not 0 <= length <= MOST_BODY:
            raise _BadRequestError(f"a body of {length} bytes")
        return self.rfile.read(length) if length else b""

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline(1024).split(b";")[0], 16):
            if size < 0 or len(body) + size > MOST_BODY:
                raise _BadRequestError("the body is too large")
            body += self.rfile.read(size)
            self.rfile.readline(16)
        while self.rfile.readline(_LONGEST_LINE).strip():
            pass
        return bytes(body)

    def _write(self, response: Response, method: str, keep: bool) -> None:
        try:
            phrase = HTTPStatus(response.status).phrase
        except ValueError:
            phrase = "Unknown"
        body = response.body.encode() if isinstance(response.body, str) else response.body
        no_body = method == "HEAD" or response.status in (204, 304)
        lines = [f"HTTP/1.1 {response.status} {phrase}", f"Date: {_date()}"]
        names = {name.lower() for name, _ in response.headers}
        if response.content_type and "content-type" not in names and response.status != 204:
            lines.append(f"Content-Type: {response.content_type}")
        if isinstance(body, bytes):
            if response.status != 204:
                lines.append(f"Content-Length: {len(body)}")
        else:
            lines.append("Transfer-Encoding: chunked")
        lines += [f"{name}: {value}" for name, value in response.headers]
        if not keep:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")
        if no_body:
            self.wfile.write(head)
        elif isinstance(body, bytes):
            self.wfile.write(head + body)
        else:
            self.wfile.write(head)
            for chunk in filter(None, body):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")


_date_now: tuple[int, str] = (0, "")


def _date() -> str:
    global _date_now
    second = int(time.time())
    if _date_now[0] != second:
        _date_now = second, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
    return _date_now[1]


class Server(socketserver.ThreadingTCPServer):
    """A listening app; made by `listen`."""

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
                self.process_request(connection, client)
            except OSError:
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


def serve(apps: Mapping[int, App], address: str | None = None) -> int:
    """Serve each app on its port until SIGTERM; then finish what is in flight.

    Args:
        apps: Port → app.
        address: Where to listen; LABKIT_BIND by default.

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


def fetch(
    host: str,
    port: int,
    path: str,
    headers: Mapping[str, str],
    timeout: float,
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """Send a request on a connection of its own; status and body of the answer.

    Args:
        host: Name or address.
        port: The port.
        path: Path and query.
        headers: To send besides Host.
        timeout: Seconds that connecting, and each wait for more of the answer, may take.

    Raises:
        OSError: no answer, in time or at all.
    """
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, body, dict(headers) | {"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    finally:
        connection.close()
