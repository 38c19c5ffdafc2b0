# SPDX-License-Identifier: Apache-2.0
"""Who sent what to whom: Istio's metrics read as flows between workloads.

A request is counted twice, by the proxy of its sender and that of its receiver. The sender's count also has requests
that nobody answered, so it is the one taken, except where the sender has no proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labkit.ground.duration import from_prometheus
from labkit.ground.hosts import fqdn
from meshbox.images.kiali.sources import Labels, Prometheus

__all__ = [
    "UNKNOWN",
    "Flow",
    "Party",
    "Secured",
    "TrafficQuery",
    "classified",
    "flows",
    "mutual_tls",
    "response_times",
    "seconds_of",
    "selectors",
]

UNKNOWN = "unknown"

_SOURCE = ("source_workload_namespace", "source_workload", "source_app", "source_version")
_DESTINATION = (
    "destination_service_namespace",
    "destination_service",
    "destination_service_name",
    "destination_workload_namespace",
    "destination_workload",
    "destination_app",
    "destination_version",
)
_PAIR = ", ".join((*_SOURCE, *_DESTINATION))
_HTTP = f"reporter, {_PAIR}, request_protocol, response_code, grpc_response_status, response_flags"
_TCP = f"reporter, {_PAIR}, response_flags"


@dataclass(frozen=True)
class TrafficQuery:
    """Which traffic is looked at.

    Args:
        namespaces: Traffic from, to and within these.
        duration: Seconds over which rates are taken.
        at: The end, in seconds since 1970; None for now.
        idle: Whether what had no request in that time counts as well, with the rate 0.
    """

    namespaces: tuple[str, ...]
    duration: int = 60
    at: float | None = None
    idle: bool = False


@dataclass(frozen=True)
class Party:
    """One side of a flow; "unknown" where its proxy did not say.

    Args:
        namespace: Its namespace.
        workload: Its workload's name.
        app: Its label app.
        version: Its label version.
    """

    namespace: str
    workload: str
    app: str
    version: str

    @property
    def known(self) -> bool:
        """Whether anything is known of it."""
        return self.workload != UNKNOWN or self.app != UNKNOWN


@dataclass(frozen=True)
class Flow:
    """Traffic of one kind between two parties.

    Args:
        source: Who sent.
        target: Who received; unknown if nobody did.
        service: Namespace and name of the Service asked for.
        host: That Service's full host name.
        protocol: "http", "grpc" or "tcp".
        code: The response's code; "-" without a response.
        flags: Envoy's response flags; "-" for none.
        rate: Requests a second; bytes a second for "tcp".
    """

    source: Party
    target: Party
    service: tuple[str, str]
    host: str
    protocol: str
    code: str
    flags: str
    rate: float


@dataclass(frozen=True)
class Secured:
    """How requests between two parties were secured, as the receiver saw it.

    Args:
        source: Who sent.
        target: Who received.
        service: Namespace and name of the Service asked for.
        policy: "mutual_tls", "none", …
        principals: The sender's and the receiver's, by their certificates; "" where there is none.
        rate: Requests, or bytes, a second.
    """

    source: Party
    target: Party
    service: tuple[str, str]
    policy: str
    principals: tuple[str, str]
    rate: float


def seconds_of(text: str) -> int:
    """Whole seconds of a duration in a query: "10m", or "600".

    Raises:
        ValueError: it is none.
    """
    plain = text.isascii() and text.isdigit()
    try:
        return from_prometheus(f"{text}s" if plain else text) // 1000
    except ValueError:
        raise ValueError(f"{text!r} is no duration") from None


def _pattern(namespaces: Iterable[str]) -> str:
    """These namespaces as a regular expression within a PromQL string."""
    return "|".join(re.escape(name).replace("\\", "\\\\") for name in sorted(set(namespaces)))


def selectors(namespaces: Iterable[str]) -> tuple[str, str, str]:
    """The label matchers of three sets of series that together hold each request from or to `namespaces` once."""
    names = _pattern(namespaces)
    return (
        f'reporter="destination", source_workload="unknown", destination_workload_namespace=~"{names}"',
        f'reporter="source", source_workload_namespace!~"{names}", source_workload!="unknown", '
        f'destination_service_namespace=~"{names}"',
        f'reporter="source", source_workload_namespace=~"{names}"',
    )


def _rates(metric: str, query: TrafficQuery, by: str) -> str:
    window = f"[{query.duration}s]"
    return " or ".join(f"sum(rate({metric}{{{chosen}}}{window})) by ({by})" for chosen in selectors(query.namespaces))


def _party(labels: Labels, side: str) -> Party:
    names = (f"{side}_workload_namespace", f"{side}_workload", f"{side}_app", f"{side}_version")
    namespace, workload, app, version = (labels.get(name) or UNKNOWN for name in names)
    return Party(namespace, workload, app, version)


def _service(labels: Labels) -> tuple[tuple[str, str], str]:
    host = labels.get("destination_service") or UNKNOWN
    namespace = labels.get("destination_service_namespace") or UNKNOWN
    name = labels.get("destination_service_name") or UNKNOWN
    if name == fqdn(name.split(".")[0], namespace):
        name = name.split(".")[0]
    return (namespace, name), host


_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+(:\d+)?", re.ASCII)


def _usable(labels: Labels) -> bool:
    """Whether a series names both ends: what was counted while a pod came or went may not."""
    source, (service, host) = _party(labels, "source"), _service(labels)
    if source.namespace != UNKNOWN and not source.known:
        return False
    nobody = (labels.get("destination_workload") or UNKNOWN) == UNKNOWN
    return not (nobody and host == service[1] and _ADDRESS.fullmatch(host))


def flows(prometheus: Prometheus, query: TrafficQuery) -> Iterator[Flow]:
    """All traffic of `query`.

    Raises:
        SourceError: Prometheus cannot be reached.
    """
    for labels, rate in prometheus.query(_rates("istio_requests_total", query, _HTTP), query.at):
        if (rate > 0 or query.idle) and _usable(labels):
            yield _flow(labels, rate, "grpc" if labels.get("request_protocol") == "grpc" else "http")
    for labels, rate in prometheus.query(_rates("istio_tcp_sent_bytes_total", query, _TCP), query.at):
        if (rate > 0 or query.idle) and _usable(labels):
            yield _flow(labels, rate, "tcp")


def classified(prometheus: Prometheus, query: TrafficQuery, label: str) -> Iterator[tuple[Flow, str]]:
    """The requests of `query` that have a value of `label`, each with that value, as receivers count them.

    Raises:
        SourceError: Prometheus cannot be reached.
    """
    names = _pattern(query.namespaces)
    expression = " or ".join(
        f'sum(rate(istio_requests_total{{reporter="destination", {side}=~"{names}", {label}!~"|unknown"}}'
        f"[{query.duration}s])) by ({_HTTP}, {label})"
        for side in ("source_workload_namespace", "destination_service_namespace")
    )
    for labels, rate in prometheus.query(expression, query.at):
        if rate > 0 and labels.get(label) and _usable(labels):
            yield _flow(labels, rate, "grpc" if labels.get("request_protocol") == "grpc" else "http"), labels[label]


def _flow(labels: Labels, rate: float, protocol: str) -> Flow:
    code = labels.get("response_code") or "-"
    if protocol == "grpc" and code == "200":
        code = labels.get("grpc_response_status") or "0"
    elif code in ("0", UNKNOWN):
        code = "-"
    flags = labels.get("response_flags") or "-"
    service, host = _service(labels)
    return Flow(_party(labels, "source"), _party(labels, "destination"), service, host, protocol, code, flags, rate)


def response_times(
    prometheus: Prometheus, query: TrafficQuery, quantile: str = "0.95"
) -> Iterator[tuple[Party, Party, tuple[str, str], float]]:
    """How long answers took, in milliseconds: source, target, service, value.

    Args:
        prometheus: Where to ask.
        query: Which traffic.
        quantile: "0.5", "0.95" or "0.99"; "avg" for the mean.

    Raises:
        SourceError: Prometheus cannot be reached.
    """
    metric, milliseconds = prometheus.duration_metric()
    if quantile == "avg":
        total, count = (_rates(f"{metric}_{part}", query, _PAIR) for part in ("sum", "count"))
        expression = f"({total}) / ({count})"
    else:
        expression = f"histogram_quantile({quantile}, {_rates(f'{metric}_bucket', query, f'le, {_PAIR}')})"
    for labels, value in prometheus.query(expression, query.at):
        yield _party(labels, "source"), _party(labels, "destination"), _service(labels)[0], value * milliseconds


def mutual_tls(prometheus: Prometheus, query: TrafficQuery) -> Iterator[Secured]:
    """How connections were secured. Only the receiver knows; both sides' namespaces are looked at.

    Raises:
        SourceError: Prometheus cannot be reached.
    """
    names = _pattern(query.namespaces)
    sides = ("source_workload_namespace", "destination_workload_namespace")
    for metric in ("istio_requests_total", "istio_tcp_sent_bytes_total"):
        expression = " or ".join(
            f'sum(rate({metric}{{reporter="destination", {side}=~"{names}"}}[{query.duration}s])) '
            f"by ({_PAIR}, source_principal, destination_principal, connection_security_policy)"
            for side in sides
        )
        for labels, rate in prometheus.query(expression, query.at):
            if rate > 0 and _usable(labels):
                yield Secured(
                    _party(labels, "source"),
                    _party(labels, "destination"),
                    _service(labels)[0],
                    labels.get("connection_security_policy") or UNKNOWN,
                    (labels.get("source_principal") or "", labels.get("destination_principal") or ""),
                    rate,
                )
