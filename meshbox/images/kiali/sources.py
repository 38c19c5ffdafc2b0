# SPDX-License-Identifier: Apache-2.0
"""Where Kiali's answers come from: the Kubernetes API and Prometheus, each over connections that are kept open."""

from __future__ import annotations

import contextlib
import json
import math
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labkit.ground.client import Connections
from labkit.ground.errors import ClusterError
from labkit.ground.prometheus import PrometheusApi
from meshbox.images.kiali import forward

__all__ = ["Kubernetes", "Prometheus", "Sample", "Series", "SourceError"]

Json = dict[str, Any]
Labels = dict[str, str]
Sample = tuple[Labels, float]
Series = tuple[Labels, list[tuple[float, float]]]

_FRESH = 1.0
"""Seconds for which a list is used again: one page of the console asks for the same lists many times."""

_DISCOVERY_FRESH = 10.0
_PROXY_ADMIN = 15000
"""Where each of Istio's proxies has its own pages."""


class SourceError(Exception):
    """A source cannot be reached or refuses; the message is for the console's reader.

    Args:
        message: What was seen.
        status: The HTTP status to answer with.
    """

    def __init__(self, message: str, status: int = 503) -> None:
        super().__init__(message)
        self.status = status


class Kubernetes:
    """The Kubernetes API, with a pod's own token.

    Args:
        host: The API server's host.
        port: Its port.
        token: The file of a bearer token, read for each request: the kubelet renews it.
        authority: File of the CA that signed its certificate; "" for plain HTTP, as tests use.
    """

    def __init__(self, host: str, port: int, token: Path, authority: str = "") -> None:
        self._address = host, port
        self._where = f"{host}:{port}"
        self._authority = authority
        self._connections = Connections(host, port, 20.0, trust=self._trust if authority else None)
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

    def _trust(self) -> ssl.SSLContext:
        # Read each time, as the token is: a sandbox whose keys were damaged has new ones.
        try:
            return ssl.create_default_context(cafile=self._authority)
        except OSError as error:
            raise SourceError(f"no certificate in {self._authority}: {error}") from error

    def _send(self, method: str, path: str, headers: Labels, body: bytes | None = None) -> tuple[int, bytes]:
        try:
            # Also what writes: done twice it is refused, merged or gone; and idle connections are closed soon.
            answer = self._connections.request(method, path, headers, body, again=True)
        except OSError as error:
            raise SourceError(f"{self._where} does not answer: {error}") from error
        return answer.status, answer.body

    def close(self) -> None:
        """Close its connections."""
        self._connections.close()

    def get(self, path: str) -> Json | None:
        """The object at `path`; None if there is none.

        Raises:
            SourceError: the API server cannot be reached or refuses.
        """
        status, content = self._send("GET", path, self._headers)
        if status == 404:
            return None
        return self._checked(status, content)

    def text(self, path: str) -> str:
        """What is at `path`, e.g. a log.

        Raises:
            SourceError: the API server cannot be reached or refuses.
        """
        status, content = self._send("GET", path, self._headers)
        if status != 200:
            self._checked(status, content)
        return content.decode(errors="replace")

    def post(self, path: str, body: bytes) -> Json:
        """Create what `body` says, or ask what it asks; the API server's answer.

        Raises:
            SourceError: the API server refuses; the message is its own.
        """
        return self._write("POST", path, body, "application/json")

    def patch(self, path: str, body: bytes) -> Json:
        """Merge `body` into the object at `path`.

        Raises:
            SourceError: the API server refuses; the message is its own.
        """
        return self._write("PATCH", path, body, "application/merge-patch+json")

    def _write(self, method: str, path: str, body: bytes, content_type: str) -> Json:
        status, content = self._send(method, path, self._headers | {"Content-Type": content_type}, body)
        self._lists.clear()
        return self._checked(status, content)

    def delete(self, path: str) -> None:
        """Delete the object at `path`.

        Raises:
            SourceError: the API server refuses.
        """
        status, content = self._send("DELETE", path, self._headers)
        self._lists.clear()
        self._checked(status, content)

    def proxy_page(self, namespace: str, pod: str, path: str) -> Json:
        """What a pod's proxy has at `path` of its own pages, as JSON.

        Raises:
            SourceError: the API server does not lead there, or the proxy does not answer.
        """
        where = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}"
        trust = self._trust if self._authority else None
        try:
            content = forward.ask(self._address, trust, self._headers, where, _PROXY_ADMIN, path)
        except forward.RefusedError as refused:
            return self._checked(refused.status, refused.body)
        except OSError as error:
            raise SourceError(f"the proxy of pod {namespace}/{pod} does not answer: {error}") from error
        return self._checked(200, content)

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


class Prometheus(PrometheusApi):
    """Prometheus' query API.

    Args:
        url: Its address, e.g. "http://prometheus:9090"; a path in it is kept.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._duration = ("", 1.0)

    def get(self, path: str, parameters: Mapping[str, str] | list[tuple[str, str]] | None = None) -> Any:
        """The `data` of one answer of /api/v1.

        Raises:
            SourceError: Prometheus cannot be reached or refuses.
        """
        try:
            return super().get(path, parameters)
        except ClusterError as error:
            raise SourceError(error.message) from None

    def query(self, expression: str, at: float | None = None) -> Iterator[Sample]:
        """The samples of an instant vector that are numbers.

        Raises:
            SourceError: Prometheus cannot be reached or refuses.
        """
        for labels, ((_, value),) in self.instant(expression, at or None):
            if not math.isnan(value):  # a quantile of nothing
                yield labels, value

    def range(self, expression: str, start: float, end: float, step: float) -> Iterator[Series]:
        """The series of a range query, points that are no numbers left out.

        Raises:
            SourceError: Prometheus cannot be reached or refuses.
        """
        for labels, points in self.over(expression, start, end, step):
            yield labels, [(when, value) for when, value in points if not math.isnan(value)]

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
