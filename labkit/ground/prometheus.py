# SPDX-License-Identifier: Apache-2.0
"""Prometheus' query API, for everybody here who asks it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from labkit.ground.client import Connections
from labkit.ground.errors import ClusterError

__all__ = ["PrometheusApi"]

Points = list[tuple[float, float]]
"""Times, in seconds since 1970, and values, NaN and infinities among them."""

_FORWARD = "forward a port to it: kubectl -n istio-system port-forward svc/prometheus 9090"


class PrometheusApi:
    """Asks one Prometheus, over connections that are kept open.

    Args:
        url: Where it is, e.g. "http://127.0.0.1:9090"; a path before /api is kept.
        timeout: Seconds without a byte.

    Raises:
        ClusterError: `url` is no address.
    """

    def __init__(self, url: str, timeout: float = 20.0) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ClusterError(
                f"{url!r} is no address of Prometheus", next_step="give http://HOST:PORT, e.g. of a port-forward"
            )
        self._path = parts.path
        self._connections = Connections(parts.hostname, parts.port or 80, timeout)

    def close(self) -> None:
        """Close the connections that lie idle."""
        self._connections.close()

    def get(self, path: str, parameters: Mapping[str, str] | list[tuple[str, str]] | None = None) -> Any:
        """The `data` of one answer of /api/v1.

        Raises:
            ClusterError: it cannot be reached or refuses; a mistake in PromQL carries Prometheus' own words.
        """
        # POST, as Grafana does: an expression may be longer than a request line may be.
        post = path in ("query", "query_range")
        given = urlencode(parameters or {})
        target = f"{self._path}/api/v1/{path}" + ("" if post or not given else f"?{given}")
        headers = {"Accept": "application/json"} | (
            {"Content-Type": "application/x-www-form-urlencoded"} if post else {}
        )
        try:
            answer = self._connections.request(
                "POST" if post else "GET", target, headers, given if post else None, again=True
            )
        except OSError as error:
            raise ClusterError(
                f"no answer from Prometheus at {self.url}: {error or type(error).__name__}",
                next_step=f"is its pod ready (kubectl -n istio-system get pods -l app=prometheus)? Then {_FORWARD}",
            ) from None
        try:
            content: Any = json.loads(answer.body)
        except ValueError:
            content = None
        if not isinstance(content, dict) or "status" not in content:
            raise ClusterError(
                f"{self.url} answers {answer.status} without JSON: is that Prometheus?", next_step=_FORWARD
            )
        if content["status"] != "success":
            raise ClusterError(
                f"Prometheus refused the query ({content.get('errorType')}): {content.get('error')}",
                next_step="a position such as 1:12 counts lines and characters of the PromQL",
            )
        return content.get("data")

    def instant(self, expression: str, at: float | None = None) -> Iterator[tuple[dict[str, str], Points]]:
        """The series of an instant query: labels, and one point.

        Args:
            expression: PromQL.
            at: When, in seconds since 1970; None for now.

        Raises:
            ClusterError: as `get`; or the result is a text.
        """
        data = self.get("query", {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"}))
        if data.get("resultType") == "string":
            raise ClusterError(f"{expression} returns a text, not numbers", next_step="ask for a metric")
        if data.get("resultType") == "scalar":
            data = {"result": [{"metric": {}, "value": data["result"]}]}
        for one in data["result"]:
            if "value" in one:
                yield one["metric"], [_point(one["value"])]

    def over(self, expression: str, start: float, end: float, step: float) -> Iterator[tuple[dict[str, str], Points]]:
        """The series of a range query, labels and points.

        Args:
            expression: PromQL.
            start: First moment, in seconds since 1970.
            end: Last moment, likewise.
            step: Seconds from point to point; Prometheus gives at most 11 000 of them.

        Raises:
            ClusterError: as `get`.
        """
        given = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        for one in self.get("query_range", given)["result"]:
            yield one["metric"], list(map(_point, one.get("values", ())))


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
