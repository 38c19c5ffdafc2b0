"""Prometheus' HTTP API with the standard library alone: the drawing also runs in a pod that has to stay small."""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from labkit.ground.duration import PROMETHEUS_UNITS
from labkit.ground.errors import ClusterError

__all__ = ["Api", "Sample", "Window", "seconds"]

_FRESH = 5.0
"""Seconds for which a list of metrics is believed."""


def seconds(text: str, default: float = 0.0) -> float:
    """Seconds of a duration such as "15s", "1min" or ">5m"; `default` if it is none."""
    number = text.strip().lstrip("><").strip()
    unit = number.lstrip("0123456789.")
    factor = PROMETHEUS_UNITS.get({"min": "m", "hour": "h", "day": "d"}.get(unit, unit))
    try:
        return float(number[: len(number) - len(unit)]) * factor / 1000 if factor else default
    except ValueError:
        return default


@dataclass(frozen=True)
class Window:
    """The time that a dashboard shows.

    Args:
        start: First moment, in seconds since 1970.
        end: Last moment, likewise.
    """

    start: float
    end: float

    @property
    def length(self) -> float:
        """Seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Sample:
    """One series of an answer.

    Args:
        labels: Its labels, `__name__` among them if it has one.
        points: Time in seconds since 1970, and value; None stands for NaN and infinities, which JSON cannot carry.
    """

    labels: Mapping[str, str]
    points: tuple[tuple[float, float | None], ...]


class Api:
    """A connection per thread to Prometheus.

    Args:
        url: Where it is, e.g. "http://127.0.0.1:9090"; a path before /api is kept.
        timeout: Seconds without a byte.
    """

    def __init__(self, url: str, timeout: float = 20.0) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ClusterError(
                f"{url!r} is no address of Prometheus", next_step="give http://HOST:PORT, e.g. of a port-forward"
            )
        self._host, self._port, self._path = parts.hostname, parts.port or 80, parts.path
        self._timeout = timeout
        self._local = threading.local()
        self._names: frozenset[str] = frozenset()
        self._names_until = 0.0

    def names(self) -> frozenset[str]:
        """Every metric that Prometheus knows, as it was at most a few seconds ago; raises as `query`."""
        if time.monotonic() > self._names_until:
            self._names = frozenset(self.get("label/__name__/values"))
            self._names_until = time.monotonic() + _FRESH
        return self._names

    def query(self, expression: str, at: float) -> list[Sample]:
        """An instant query.

        Raises:
            ClusterError: no answer, or the PromQL is refused; the message carries Prometheus' own words.
        """
        data = self.get("query", [("query", expression), ("time", f"{at:.3f}")])
        if data["resultType"] in ("scalar", "string"):
            return [Sample({}, (_point(data["result"]),))]
        return [Sample(one["metric"], (_point(one["value"]),)) for one in data["result"] if "value" in one]

    def range(self, expression: str, start: float, end: float, step: float) -> list[Sample]:
        """A range query; raises as `query`."""
        given = [("query", expression), ("start", f"{start:.3f}"), ("end", f"{end:.3f}"), ("step", f"{step:g}")]
        return [
            Sample(one["metric"], tuple(map(_point, one.get("values", ()))))
            for one in self.get("query_range", given)["result"]
        ]

    def get(self, path: str, parameters: list[tuple[str, str]] | None = None) -> Any:
        """The `data` of an answer of /api/v1.

        Raises:
            ClusterError: as `query`.
        """
        # POST, as Grafana does: an expression may be longer than a request line may be.
        post = path in ("query", "query_range")
        body = urlencode(parameters or [])
        target = f"{self._path}/api/v1/{path}" + ("" if post or not body else f"?{body}")
        status, answer = self._send("POST" if post else "GET", target, body if post else None)
        try:
            content = json.loads(answer)
        except ValueError:
            raise ClusterError(
                f"{self.url} answers {status} without JSON: is that Prometheus?",
                next_step="forward a port to it: kubectl -n istio-system port-forward svc/prometheus 9090",
            ) from None
        if content.get("status") != "success":
            raise ClusterError(f"Prometheus refuses ({content.get('errorType')}): {content.get('error')}")
        return content["data"]

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _send(self, method: str, target: str, body: str | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        for fresh in (False, True):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                fresh = True
                connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
                self._local.connection = connection
            try:
                connection.request(method, target, body, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # A kept connection may have been closed meanwhile by the other side; a new one may not.
                if fresh:
                    raise ClusterError(
                        f"no answer from Prometheus at {self.url}: {error or type(error).__name__}",
                        next_step="is its pod ready? kubectl -n istio-system get pods -l app=prometheus",
                    ) from None
        raise AssertionError("unreachable")


def _point(pair: list[Any]) -> tuple[float, float | None]:
    value = float(pair[1])
    return float(pair[0]), value if math.isfinite(value) else None
