"""A small threaded HTTP server for pages that a browser may open: it answers its own addresses only.

A web page from elsewhere can make a browser send requests to loopback addresses. Such a request shows itself: its
`Host` is a foreign name (DNS rebinding), or its `Origin` is another site. Both are refused before anything is read.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["GuardedHandler", "GuardedServer", "own_host", "refusal"]

MAX_BODY = 32 << 20
"""Bytes that a request's body may have."""


def own_host(host: str) -> bool:
    """Whether a `Host` header names an address that only this machine or cluster answers to.

    Args:
        host: The header, with or without a port. An IP address, "localhost" and a Service's name ("tracing",
            "tracing.istio-system", "tracing.istio-system.svc…") are our own; any other name could have been pointed
            here by somebody else's DNS.
    """
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        labels = name.split(".")
        return len(labels) == 1 or labels[1:] == ["istio-system"] or labels[2:3] == ["svc"]
    return True


def refusal(method: str, host: str, origin: str) -> str:
    """Why a request must not be answered; empty if it may.

    Args:
        method: "GET", "POST", …
        host: The Host header.
        origin: The Origin header, empty if there is none.
    """
    if not own_host(host):
        return f"this server does not answer to the name {host!r}"
    if origin and urlsplit(origin).netloc != host and (method not in ("GET", "HEAD") or origin == "null"):
        return f"requests from {origin} are refused"
    return ""


class GuardedHandler(BaseHTTPRequestHandler):
    """Answers JSON, HTML and text; subclasses write `answer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "labkit"
    sys_version = ""

    def answer(self) -> None:
        """Answer one request that passed the guard; `self.command` and `self.path` say which."""
        raise NotImplementedError

    def _guarded(self) -> None:
        reason = refusal(self.command, self.headers.get("Host", ""), self.headers.get("Origin", ""))
        if reason:
            self.close_connection = True
            self.send(HTTPStatus.FORBIDDEN, reason + "\n", "text/plain")
            return
        self.answer()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _guarded  # noqa: N815 - http.server's names

    def body(self) -> bytes:
        """The request's body, of a known length or chunked (as Envoy sends it).

        Raises:
            ValueError: it is larger than MAX_BODY, or its chunks are damaged.
        """
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 <= length <= MAX_BODY:
                self.close_connection = True
                raise ValueError(f"a body of {length} bytes is larger than {MAX_BODY}")
            return self.rfile.read(length)
        parts: list[bytes] = []
        while size := int(self.rfile.readline(100).split(b";")[0].strip() or b"0", 16):
            if size < 0 or size + sum(map(len, parts)) > MAX_BODY:
                self.close_connection = True
                raise ValueError(f"a chunked body is larger than {MAX_BODY} bytes")
            parts.append(self.rfile.read(size))
            self.rfile.readline(10)
        while self.rfile.readline(1000).strip():
            pass
        return b"".join(parts)

    def send(self, status: int, body: str | bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        kind = f"{content_type}; charset=utf-8" if content_type.startswith("text/") else content_type
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_json(self, content: object, status: int = HTTPStatus.OK) -> None:
        """Send `content` as JSON."""
        self.send(status, json.dumps(content, separators=(",", ":")), "application/json")

    def redirect(self, target: str) -> None:
        """Send the browser to `target`."""
        self.send(HTTPStatus.FOUND, "", "text/plain", {"Location": target})

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line for every probe would hide what a learner looks for in `kubectl logs`."""


class GuardedServer(ThreadingHTTPServer):
    """Threads a connection, ends with the process."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[GuardedHandler]) -> None:
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for our own name, which HTTPServer would do."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nobody's error; anything else is logged."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
