"""A request handler of the standard library's server, within the bounds of `framing`.

Apart from `framing`, since what it needs takes longer to import than most pods' servers take to start.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer

from labkit.ground import framing
from labkit.ground.framing import FramingError, Incoming, LimitedThreads

__all__ = ["BoundedHandler", "BoundedServer"]


class BoundedServer(LimitedThreads, HTTPServer):
    """A server for `BoundedHandler`."""

    daemon_threads = True
    block_on_close = False


class BoundedHandler(BaseHTTPRequestHandler):
    """Takes requests as `framing` allows; `timeout` is for how many seconds a connection may lie idle."""

    protocol_version = "HTTP/1.1"
    timeout = 300
    server: BoundedServer

    def setup(self) -> None:
        """Read through `framing`."""
        super().setup()
        self.incoming = Incoming(self.connection)
        self.rfile = self.incoming  # type: ignore[assignment]

    def handle_one_request(self) -> None:
        """Take one request, if one comes."""
        with self.server.idling(self.connection):
            came = self.incoming.wait(self.timeout)
        if not came:
            self.close_connection = True
            return
        self.incoming.allow(framing.HEAD_SECONDS, framing.MOST_HEAD)
        try:
            super().handle_one_request()
        except FramingError as error:
            self.command, self.request_version, self.close_connection = "GET", "HTTP/1.1", True
            self.refuse(error)
        if self.close_connection:
            self.incoming.discard()

    def refuse(self, error: FramingError) -> None:
        """Answer what is no request that is taken."""
        self.wfile.write(f"HTTP/1.1 {error.status} {error.words}\r\nConnection: close\r\n\r\n".encode())

    def body_length(self) -> int | None:
        """The bytes of the request's body; None where it comes in chunks; raises FramingError."""
        lengths, encodings = (self.headers.get_all(name, []) for name in ("Content-Length", "Transfer-Encoding"))
        return framing.body_length(lengths, encodings, self.request_version)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: neither a notebook nor Grafana's log is a place for each request."""
