"""Where Kiali's answers come from: the Kubernetes API and Prometheus, each over connections that are kept open."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

__all__ = ["Kubernetes", "Prometheus", "Sample", "Series", "SourceError"]

Json = dict[str, Any]
Labels = dict[str, str]
Sample = tuple[Labels, float]
Series = tuple[Labels, list[tuple[float, float]]]

_FRESH = 1.0
"""Seconds for which a list is used again: one page of the console asks for the same lists many times."""

_DISCOVERY_FRESH = 10.0


class SourceError(Exception):
    """A source cannot be reached or refuses; the message is for the console's reader.

    Args:
        message: What was seen.
        status: The HTTP status to answer with.
    """

    def __init__(self, message: str, status: int = 503) -> None:
        super().__init__(message)
        self.status = status


class _Connections:
    """Keeps connections to one server open between requests."""

    def __init__(self, host: str, port: int, timeout: float, authority: str = "") -> None:
        self._address = (host, port)
        self._authority = authority
        self._timeout = timeout
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        host, port = self._address
        if not self._authority:
            return http.client.HTTPConnection(host, port, timeout=self._timeout), False
        # Read each time, as the token is: a sandbox whose keys were damaged has new ones.
        context = ssl.create_default_context(cafile=self._authority)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context), False

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        while True:
            try:
                connection, used = self._take()
            except OSError as error:
                raise SourceError(f"no certificate in {self._authority}: {error}") from error
            try:
                connection.request(method, path, body, dict(headers))
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # A connection that lay idle may have been closed by the other side; nothing was answered on it.
                if used and method == "GET":
                    continue
                raise SourceError(f"{self._address[0]}:{self._address[1]} does not answer: {error}") from error
            if answer.will_close:
                connection.close()
            else:
                with self._lock:
                    self._idle.append(connection)
            return answer.status, content

    def close(self) -> None:
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()


class Kubernetes:
    """The Kubernetes API, with a pod's own token.

    Args:
        host: The API server's host.
        port: Its port.
        token: The file of a bearer token, read for each request: the kubelet renews it.
        authority: File of the CA that signed its certificate; "" for plain HTTP, as tests use.
    """

    def __init__(self, host: str, port: int, token: Path, authority: str = "") -> None:
        self._connections = _Connections(host, port, 20.0, authority)
        self._token = token
        self._lists: dict[str, tuple[float, list[Json]]] = {}
        self._groups: dict[str, tuple[float, dict[str, str]]] = {}

    @property
    def _headers(self) -> dict[str, str]:
        try:
            token = self._token.read_text().strip()
        except OSError as error:
            raise SourceError(f"no token in {self._token}: {error.strerror}") from error
        return {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def close(self) -> None:
        """Close its connections."""
        self._connections.close()

    def get(self, path: str) -> Json | None:
        """The object at `path`; None if there is none.

        Raises:
            SourceError: the API server cannot be reached or refuses.
        """
        status, content = self._connections.request("GET", path, self._headers)
        if status == 404:
            return None
        return self._checked(status, content)

    def text(self, path: str) -> str:
        """What is at `path`, e.g. a log.

        Raises:
            SourceError: the API server cannot be reached or refuses.
        """
        status, content = self._connections.request("GET", path, self._headers)
        if status != 200:
            self._checked(status, content)
        return content.decode(errors="replace")

    def patch(self, path: str, body: bytes) -> Json:
        """Merge `body` into the object at `path`.

        Raises:
            SourceError: the API server refuses; the message is its own.
        """
        headers = self._headers | {"Content-Type": "application/merge-patch+json"}
        status, content = self._connections.request("PATCH", path, headers, body)
        self._lists.clear()
        return self._checked(status, content)

    def delete(self, path: str) -> None:
        """Delete the object at `path`.

        Raises:
            SourceError: the API server refuses.
        """
        status, content = self._connections.request("DELETE", path, self._headers)
        self._lists.clear()
        self._checked(status, content)

    def list(self, path: str) -> list[Json]:
        """The objects listed at `path`; none if the API has no such kind. At most a second old.

        Raises:
            SourceError: the API server cannot be reached or refuses.
        """
        known = self._lists.get(path)
        if known and time.monotonic() - known[0] < _FRESH:
            return known[1]
        found: list[Json] = (self.get(path) or {}).get("items") or []
        self._lists[path] = time.monotonic(), found
        return found

    def resources(self, group: str) -> dict[str, str]:
        """The resources of an API group: plural → path below which they are listed; empty if there is no such group."""
        known = self._groups.get(group)
        if known and time.monotonic() - known[0] < _DISCOVERY_FRESH:
            return known[1]
        found: dict[str, str] = {}
        versions = (self.get(f"/apis/{group}") or {}).get("versions") or []
        for version in versions:
            base = f"/apis/{version['groupVersion']}"
            for resource in (self.get(base) or {}).get("resources") or []:
                if "/" not in resource["name"]:
                    found.setdefault(resource["name"], base)
        self._groups[group] = time.monotonic(), found
        return found

    @staticmethod
    def _checked(status: int, content: bytes) -> Json:
        try:
            answer: Json = json.loads(content)
        except ValueError:
            raise SourceError(f"the API server answers {status} without JSON") from None
        if status >= 300:
            raise SourceError(str(answer.get("message") or f"the API server answers {status}"), status)
        return answer


class Prometheus:
    """Prometheus' query API.

    Args:
        url: Its address, e.g. "http://prometheus:9090"; a path in it is kept.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._base = parts.path.rstrip("/")
        self._connections = _Connections(parts.hostname or "prometheus", parts.port or 80, 20.0)
        self._duration = ("", 1.0)

    def close(self) -> None:
        """Close its connections."""
        self._connections.close()

    def _get(self, path: str, **given: str) -> Any:
        target = f"{self._base}/api/v1/{path}?{urlencode(given)}"
        status, content = self._connections.request("GET", target, {"Accept": "application/json"})
        try:
            answer = json.loads(content)
        except ValueError:
            raise SourceError(f"Prometheus answers {status} without JSON") from None
        if answer.get("status") != "success":
            raise SourceError(f"Prometheus refused a query: {answer.get('error')}")
        return answer["data"]["result"]

    def query(self, expression: str, at: float | None = None) -> Iterator[Sample]:
        """The samples of an instant vector that are numbers.

        Raises:
            SourceError: Prometheus cannot be reached or refuses.
        """
        given = {"query": expression} | ({"time": f"{at:.3f}"} if at else {})
        for one in self._get("query", **given):
            value = float(one["value"][1])
            if value == value:  # NaN is not equal to itself: a quantile of nothing
                yield one["metric"], value

    def range(self, expression: str, start: float, end: float, step: float) -> Iterator[Series]:
        """The series of a range query, points that are no numbers left out.

        Raises:
            SourceError: Prometheus cannot be reached or refuses.
        """
        given = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        for one in self._get("query_range", **given):
            points = ((float(when), float(value)) for when, value in one["values"])
            yield one["metric"], [(when, value) for when, value in points if value == value]

    def duration_metric(self) -> tuple[str, float]:
        """The name of Istio's request duration without its suffix, and what one of its units is in milliseconds.

        Istio 1.2 counts seconds, today's milliseconds; which it is only Prometheus knows.
        """
        if not self._duration[0]:
            names = ("istio_request_duration_milliseconds", "istio_request_duration_seconds")
            query = 'count by (__name__) ({__name__=~"istio_request_duration_(milliseconds|seconds)_count"})'
            with contextlib.suppress(SourceError):
                for labels, _ in self.query(query):
                    name = labels["__name__"].removesuffix("_count")
                    self._duration = name, 1.0 if name == names[0] else 1000.0
            if not self._duration[0]:
                return names[0], 1.0
        return self._duration
