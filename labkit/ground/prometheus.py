# SPDX-License-Identifier: Apache-2.0
"""Prometheus' query API, for everybody here who asks it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from labkit.ground.client import Connections
from labkit.ground.errors import ClusterError

__all__ = ["PrometheusApi", "Result"]

Points = list[tuple[float, float]]
"""Times, in seconds since 1970, and values, NaN and infinities among them."""

Series = tuple[dict[str, str], Points]
"""Labels, and points."""

_FORWARD = "forward a port to it: kubectl -n istio-system port-forward svc/prometheus 9090"


@dataclass(frozen=True)
class Result:
    """What a query returns; to go through it is to go through its series.

    Args:
        series: Those that are numbers.
        warnings: What Prometheus says of the expression or of its answer, and what is left out here.
        histograms: Which series are native histograms: labels. They are no single numbers, so no points are told.
    """

    series: tuple[Series, ...]
    warnings: tuple[str, ...] = ()
    histograms: tuple[dict[str, str], ...] = ()

    def __iter__(self) -> Iterator[Series]:
        return iter(self.series)


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
        """The `data` of one answer of /api/v1; of a query with the answer's `warnings` (list of str) in it.

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
        data = content.get("data")
        if post and isinstance(data, dict):
            data["warnings"] = [str(one) for key in ("warnings", "infos") for one in content.get(key) or ()]
        return data

    def instant(self, expression: str, at: float | None = None) -> Result:
        """The series of an instant query: labels, and one point; of a range such as `up[1m]` all that it holds.

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
            data |= {"result": [{"metric": {}, "value": data["result"]}]}
        return _result(expression, data)

    def over(self, expression: str, start: float, end: float, step: float) -> Result:
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
        return _result(expression, self.get("query_range", given))


def _result(expression: str, data: Mapping[str, Any]) -> Result:
    series: list[Series] = []
    histograms: list[dict[str, str]] = []
    for one in data["result"]:
        if "histogram" in one or "histograms" in one:
            histograms.append(one["metric"])
        points = one.get("values") or ([one["value"]] if "value" in one else [])
        if points:
            series.append((one["metric"], list(map(_point, points))))
    warnings = [str(one) for one in data.get("warnings") or ()]
    if histograms:
        count = f"{len(histograms)} series" if len(histograms) > 1 else "one series"
        warnings.append(
            f"{count} of {expression}: native histograms, which are no single numbers and are left out; ask for "
            "histogram_quantile(0.9, …), histogram_avg(…) or histogram_count(…) of them"
        )
    return Result(tuple(series), tuple(warnings), tuple(histograms))


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
