# SPDX-License-Identifier: Apache-2.0
"""Time series for the side panels and the tabs of metrics."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from labkit.ground.duration import from_prometheus
from meshbox.images.kiali.parameters import Query, choice, flag, value_of, whole_number
from meshbox.images.kiali.sources import Labels, Prometheus, Series

__all__ = ["Asked", "Subject", "asked", "dashboard", "series"]

Json = dict[str, Any]
_LABEL = re.compile(r"[a-zA-Z_]\w*")


@dataclass(frozen=True)
class Subject:
    """Whose metrics.

    Args:
        kind: "namespace", "app", "workload", "service", or for an aggregate the name of its label.
        namespace: Its namespace.
        name: Its name, or the label's value; "" for a namespace.
    """

    kind: str
    namespace: str
    name: str = ""

    def matchers(self, direction: str, reporter: str, protocol: str) -> str:
        """The label matchers of its series."""
        side = "source" if direction == "outbound" else "destination"
        found = {"reporter": reporter}
        if self.kind not in ("namespace", "app", "workload", "service"):
            found |= {"destination_service_namespace": self.namespace, self.kind: self.name}
        elif self.kind == "service":
            found |= {"destination_service_namespace": self.namespace, "destination_service_name": self.name}
        else:
            found[f"{side}_workload_namespace"] = self.namespace
            if self.kind != "namespace":
                found[f"{side}_{self.kind}"] = self.name
        if protocol:
            found["request_protocol"] = protocol
        return ", ".join(f'{name}="{_quoted(value)}"' for name, value in found.items())


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True)
class Asked:
    """What a request for metrics asks.

    Args:
        filters: Names of metrics; empty for all.
        quantiles: "0.5", …
        average: Whether a mean is wanted of distributions.
        by: Labels to split by.
        direction: "inbound" or "outbound".
        reporter: "source" or "destination".
        protocol: "http", "grpc" or "".
        start: Seconds since 1970.
        end: Seconds since 1970.
        step: Seconds between points.
        interval: Window of the rates, e.g. "60s".
    """

    filters: tuple[str, ...]
    quantiles: tuple[str, ...]
    average: bool
    by: tuple[str, ...]
    direction: str
    reporter: str
    protocol: str
    start: float
    end: float
    step: float
    interval: str


def asked(query: Query) -> Asked:
    """Read a request's query.

    Raises:
        ValueError: Kiali refuses it; the words are its own.
    """
    bad = "bad request, "
    directions = f"{bad}query parameter 'direction' must be either 'inbound' or 'outbound'"
    reporters = f"{bad}query parameter 'reporter' must be either 'source' or 'destination'"
    choice(query, "rateFunc", ("rate", "irate"), f"{bad}query parameter 'rateFunc' must be either 'rate' or 'irate'")
    duration = whole_number(query, "duration", 1800, f"{bad}cannot parse query parameter 'duration'")
    step = whole_number(query, "step", 15, f"{bad}cannot parse query parameter 'step'")
    end = whole_number(query, "queryTime", 0, f"{bad}cannot parse query parameter 'queryTime'") or time.time()
    # Prometheus gives no more points of a series.
    if not (0 < duration <= 400 * 86400 and step >= 1 and duration / step <= 11_000):
        raise ValueError(f"{bad}'duration' or 'step' is out of range")
    return Asked(
        filters=tuple(query.get("filters[]", ())),
        quantiles=tuple(_quantile(text) for text in query.get("quantiles[]", ())),
        average=flag(query, "avg", True, f"{bad}cannot parse query parameter 'avg'"),
        by=tuple(name for name in query.get("byLabels[]", ()) if _LABEL.fullmatch(name)),
        direction=choice(query, "direction", ("outbound", "inbound"), directions),
        reporter=choice(query, "reporter", ("source", "destination"), reporters),
        protocol=re.sub(r"\W", "", value_of(query, "requestProtocol")),
        start=end - duration,
        end=end,
        step=step,
        interval=_interval(value_of(query, "rateInterval", "1m")),
    )


def _quantile(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("bad request, cannot parse query parameter 'quantiles', float expected") from None
    if not 0 <= value <= 1:
        raise ValueError("bad request, invalid quantile(s): should be between 0 and 1")
    return f"{value:g}"


def _interval(text: str) -> str:
    try:
        found = from_prometheus(text)
    except ValueError:
        found = 0
    if not found:
        raise ValueError(f"bad request, query parameter 'rateInterval' is no duration: {text!r}")
    return text


_RATES = {
    "request_count": ("istio_requests_total", ""),
    "request_error_count": ("istio_requests_total", 'response_code=~"^0$|^[4-5]\\\\d\\\\d$"'),
    "request_throughput": ("istio_request_bytes_sum", ""),
    "response_throughput": ("istio_response_bytes_sum", ""),
    "tcp_received": ("istio_tcp_received_bytes_total", ""),
    "tcp_sent": ("istio_tcp_sent_bytes_total", ""),
    "tcp_opened": ("istio_tcp_connections_opened_total", ""),
    "tcp_closed": ("istio_tcp_connections_closed_total", ""),
}
_DISTRIBUTIONS = {
    "request_duration_millis": "",
    "request_size": "istio_request_bytes",
    "response_size": "istio_response_bytes",
}


def _metric(name: str, stat: str, found: Series, factor: float) -> Json:
    labels: Labels = {key: value for key, value in found[0].items() if key != "__name__"}
    points = [[int(when), value * factor] for when, value in found[1]]
    return {"labels": labels, "datapoints": points, "name": name, "stat": stat}


def _rate(prometheus: Prometheus, name: str, subject: Subject, given: Asked) -> list[Json]:
    metric, more = _RATES[name]
    # Mixer and the sidecars count TCP without a protocol.
    matchers = subject.matchers(given.direction, given.reporter, "" if "tcp" in name else given.protocol)
    chosen = f"{matchers}, {more}" if more else matchers
    by = f" by ({', '.join(given.by)})" if given.by else ""
    expression = f"sum(rate({metric}{{{chosen}}}[{given.interval}])){by}"
    return [_metric(name, "", found, 1.0) for found in prometheus.range(expression, given.start, given.end, given.step)]


def _distribution(prometheus: Prometheus, name: str, subject: Subject, given: Asked) -> list[Json]:
    metric, factor = (_DISTRIBUTIONS[name], 1.0) if _DISTRIBUTIONS[name] else prometheus.duration_metric()
    matchers = subject.matchers(given.direction, given.reporter, given.protocol)
    by = ", ".join(given.by)

    def rate(suffix: str, labels: str) -> str:
        grouped = f" by ({labels})" if labels else ""
        return f"sum(rate({metric}{suffix}{{{matchers}}}[{given.interval}])){grouped}"

    found: list[Json] = []
    stats = [(quantile, "") for quantile in given.quantiles]
    wanted = {"avg": f"{rate('_sum', by)} / {rate('_count', by)}"} if given.average else {}
    wanted |= {
        quantile: f"histogram_quantile({quantile}, {rate('_bucket', ', '.join(('le', *given.by)))})"
        for quantile, _ in stats
    }
    for stat, expression in wanted.items():
        for one in prometheus.range(expression, given.start, given.end, given.step):
            found.append(_metric(name, stat, one, factor))
    return found


def series(prometheus: Prometheus, subject: Subject, given: Asked) -> dict[str, list[Json]]:
    """The metrics asked for, by name.

    Raises:
        SourceError: Prometheus cannot be reached.
    """
    names = given.filters or (*_RATES, *_DISTRIBUTIONS)
    found = {}
    for name in names:
        if name in _RATES:
            found[name] = _rate(prometheus, name, subject, given)
        elif name in _DISTRIBUTIONS:
            found[name] = _distribution(prometheus, name, subject, given)
    return found


_CHARTS = (
    ("Request volume", "ops", "request_count"),
    ("Request duration", "seconds", "request_duration_millis"),
    ("Request throughput", "bitrate", "request_throughput"),
    ("Request size", "bytes", "request_size"),
    ("Response throughput", "bitrate", "response_throughput"),
    ("Response size", "bytes", "response_size"),
    ("TCP received", "bytes", "tcp_received"),
    ("TCP sent", "bytes", "tcp_sent"),
)
_LOCAL = (("destination_version", "Local version"),)
_INBOUND = (("source_app", "Remote app"), ("source_version", "Remote version"))
_OUTBOUND = (("destination_service_name", "Remote service"), ("destination_app", "Remote app"))
_COMMON = (("response_code", "Response code"), ("grpc_response_status", "GRPC status"), ("response_flags", "Flags"))


def dashboard(prometheus: Prometheus, subject: Subject, given: Asked) -> Json:
    """The page of metrics of an app, workload or Service.

    Raises:
        SourceError: Prometheus cannot be reached.
    """
    found = series(prometheus, subject, given)
    charts = []
    for title, unit, name in _CHARTS:
        metrics = found.get(name, [])
        if unit == "seconds":
            metrics = [
                {**one, "datapoints": [[when, value / 1000] for when, value in one["datapoints"]]} for one in metrics
            ]
        shown = [{**one, "name": title} for one in metrics]
        charts.append({"name": title, "unit": unit, "spans": 3, "startCollapsed": False, "metrics": shown})
    inbound = given.direction == "inbound"
    labels = ((*(_LOCAL if inbound else ()), *(_INBOUND if inbound else _OUTBOUND)), _COMMON)
    aggregations = [
        {"label": label, "displayName": shown, "singleSelection": False} for group in labels for label, shown in group
    ]
    title = f"{'Inbound' if inbound else 'Outbound'} metrics"
    return {"title": title, "charts": charts, "aggregations": aggregations, "externalLinks": []}
