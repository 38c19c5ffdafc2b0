# SPDX-License-Identifier: Apache-2.0
"""The one HTTP client of our own processes: no proxies, no redirects, kept connections, bounded answers.

It runs in pods' processes that start hundreds of times and have nothing but the standard library on their path.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Answer", "Connections", "send"]

MOST_BODY = 64 * 1024 * 1024
"""Bytes of an answer; a list of ten thousand pods has half of that."""

_BLOCK = 256 * 1024


@dataclass(frozen=True)
class Answer:
    """An answer.

    Args:
        status: HTTP status code.
        headers: Header fields as they came.
        body: Its content.
    """

    status: int
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: str) -> str:
        """The first value of a header, whatever its case; "" if there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 becomes U+FFFD."""
        return self.body.decode(errors="replace")


class Connections:
    """Connections to one server, kept open between requests; each is used by one request at a time.

    Args:
        host: Its name or address.
        port: Its port.
        timeout: Seconds that connecting, and each wait for more of an answer, may take.
        trust: Makes the TLS settings of each new connection, as certificates may be replaced; None for plain HTTP.
        most: Bytes of an answer's body, at most.
    """

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float,
        *,
        trust: Callable[[], ssl.SSLContext] | None = None,
        most: int = MOST_BODY,
    ) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._trust, self._most = trust, most
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Connections:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close those that lie idle; so does dropping the last reference."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        *,
        again: bool | None = None,
    ) -> Answer:
        """Send a request and read the whole answer.

        Args:
            method: "GET", …
            target: Path and query.
            headers: To send besides Host, or in its place.
            body: Its content.
            again: Whether it may be sent once more where a connection that lay idle turns out to be closed; None for
                a GET only.

        Raises:
            OSError: no answer, in time or at all, none in HTTP, or a longer one; the message says which.
        """
        again = method == "GET" if again is None else again
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            kept = connection is not None
            connection = connection or self._new()
            try:
                with _plainly():
                    connection.request(method, target or "/", body, dict(headers or {}))
                    answer = connection.getresponse()
                    content = self._content(answer)
            except OSError:
                connection.close()
                if kept and again:
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            if answer.will_close:
                connection.close()
            else:
                with self._lock:
                    self._idle.append(connection)
            return Answer(answer.status, answer.getheaders(), content)

    @contextlib.contextmanager
    def stream(
        self, target: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[tuple[int, Callable[[], bytes]]]:
        """GET over a connection of its own; the status, and what reads the next line of the body (b"" at its end).

        Raises:
            OSError: as `request`.
        """
        connection = self._new()
        try:
            with _plainly():
                connection.request("GET", target, headers=dict(headers or {}))
                answer = connection.getresponse()
                yield answer.status, answer.readline
        finally:
            connection.close()

    def _new(self) -> http.client.HTTPConnection:
        if self._trust is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._trust())

    def _content(self, answer: http.client.HTTPResponse) -> bytes:
        content = bytearray()
        if (answer.length or 0) <= self._most:
            if answer.length is not None:
                return answer.read()
            while len(content) <= self._most and (block := answer.read(_BLOCK)):
                content += block
            if len(content) <= self._most:
                return bytes(content)
        raise ConnectionError(f"an answer of more than {self._most} bytes")


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """What is no HTTP, or ends early, as an error of the connection."""
    try:
        yield
    except http.client.HTTPException as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def send(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    *,
    timeout: float,
    most: int = MOST_BODY,
) -> Answer:
    """Send a request on a connection of its own; arguments and errors as those of `Connections`.

    Args:
        url: http://HOST:PORT/PATH?QUERY.
        method: "GET", …
        headers: To send besides Host, or in its place.
        body: Its content.
        timeout: Seconds that connecting, and each wait for more of the answer, may take.
        most: Bytes of the answer's body, at most.

    Raises:
        OSError: as `Connections.request`.
    """
    parts = urlsplit(url)
    target = f"/{url.partition(parts.netloc)[2].partition('#')[0].removeprefix('/')}"
    with Connections(parts.hostname or "", parts.port or 80, timeout, most=most) as connections:
        return connections.request(method, target, {"Connection": "close", **(headers or {})}, body)
