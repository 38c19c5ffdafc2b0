# SPDX-License-Identifier: Apache-2.0
"""Who sends what to whom, from the mesh's counters: Istio's metrics of both releases, read as calls of services.

A request between two sidecars is counted by both. The caller's count also has what nobody answered, so it is the one
taken, save where the caller has no sidecar. How the connection was secured only the callee's side knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OUTSIDE", "Call", "calls", "frame"]

OUTSIDE = "unknown"
"""What Istio calls a caller without a sidecar, and a callee that was never reached."""

_CALLER = ("source_workload_namespace", "source_workload")
_CALLED = ("destination_service_namespace", "destination_service_name", "destination_workload")
_ENDS = (*_CALLER, *_CALLED)
_HTTP = ("response_code", "grpc_response_status")
_SECURITY = "connection_security_policy"
_METRICS = {"istio_requests_total": _HTTP, "istio_tcp_sent_bytes_total": (), "istio_tcp_received_bytes_total": ()}


class _Queries(Protocol):
    """As `Prometheus` has it."""

    def instant(self, expression: str) -> Iterable[tuple[dict[str, str], list[tuple[float, float]]]]: ...


@dataclass
class Call:
    """What one workload sends to a service, as far as one workload of it answers.

    Args:
        caller: The workload that sends; "unknown" where it has no sidecar.
        caller_namespace: Its namespace.
        service: The Service that is asked for.
        workload: The workload that answers; "unknown" where none was reached.
        protocol: "http" or "tcp".
        rate: Requests a second; of "tcp" bytes a second, both ways.
        codes: Requests a second of each code that is an error: 400 and above, "0" without an answer, of gRPC "grpc 14".
        secured: Requests (bytes) a second that came by mutual TLS.
        told: Requests (bytes) a second of which the callee's side has told how they came.
    """

    caller: str
    caller_namespace: str
    service: str
    workload: str
    protocol: str
    rate: float = 0.0
    codes: dict[str, float] = field(default_factory=dict)
    secured: float = 0.0
    told: float = 0.0

    @property
    def errors(self) -> float:
        """The share of it that is an error, 0 to 1."""
        return min(1.0, sum(self.codes.values()) / self.rate) if self.rate else 0.0

    @property
    def mutual_tls(self) -> bool | None:
        """Whether all of it came by mutual TLS; None where nobody has told."""
        return self.secured >= 0.999 * self.told if self.told else None


def calls(prometheus: _Queries, namespace: str, window: str = "1m") -> list[Call]:
    """All calls of a namespace's services, and those that its workloads make, that are not zero.

    Args:
        prometheus: Where to ask.
        namespace: The namespace.
        window: Over which rates are taken; it has to hold two scrapes.

    Raises:
        ClusterError: Prometheus cannot be reached, or refuses.
    """
    found: dict[tuple[str, ...], Call] = {}
    for metric, more in _METRICS.items():
        for labels, points in prometheus.instant(_expression(metric, namespace, window, more)):
            if not (rate := points[-1][1]) > 0:
                continue
            protocol = "http" if more else "tcp"
            namespace_, caller, _, service, workload = (labels.get(name) or OUTSIDE for name in _ENDS)
            # Of a host that is no Service, the name is the whole host.
            service = service.split(".")[0] if service.endswith(".svc.cluster.local") else service
            key = namespace_, caller, service, workload, protocol
            one = found.setdefault(key, Call(caller, namespace_, service, workload, protocol))
            if labels.get("reporter") == "destination":
                one.told += rate
                one.secured += rate if labels.get(_SECURITY) == "mutual_tls" else 0.0
            if (labels.get("reporter") == "destination") == (caller == OUTSIDE):
                one.rate += rate
                if code := _error(labels):
                    one.codes[code] = one.codes.get(code, 0.0) + rate
    return sorted((one for one in found.values() if one.rate), key=lambda one: (one.caller, one.service, one.workload))


def _expression(metric: str, namespace: str, window: str, more: tuple[str, ...]) -> str:
    name = re.escape(namespace).replace("\\", "\\\\")
    by = ", ".join(("reporter", *_ENDS, *more, _SECURITY))
    ways = (
        f'reporter="source", source_workload_namespace=~"{name}"',
        f'reporter="source", source_workload_namespace!~"{name}", destination_service_namespace=~"{name}"',
        f'reporter="destination", destination_workload_namespace=~"{name}"',
    )
    return " or ".join(f"sum by ({by}) (rate({metric}{{{way}}}[{window}]))" for way in ways)


def _error(labels: dict[str, str]) -> str:
    code, status = labels.get("response_code", ""), labels.get("grpc_response_status", "")
    if status.isdigit() and status != "0":
        return f"grpc {status}"
    return code if code == "0" or (code.isdigit() and int(code) >= 400) else ""


def frame(found: Iterable[Call]) -> pd.DataFrame:
    """Calls as a DataFrame, a row each: `caller`, `caller_namespace`, `service`, `workload`, `protocol` (str), `rate`,
    `error_percent` (float64), `mutual_tls` (boolean, <NA> if unknown).
    """  # fmt: skip
    import pandas as pd

    return pd.DataFrame(list(_rows(found)), columns=list(_TYPES)).astype(_TYPES)


_TYPES = {
    "caller": "object",
    "caller_namespace": "object",
    "service": "object",
    "workload": "object",
    "protocol": "object",
    "rate": "float64",
    "error_percent": "float64",
    "mutual_tls": "boolean",
}


def _rows(found: Iterable[Call]) -> Iterator[tuple[object, ...]]:
    for one in found:
        ends = one.caller, one.caller_namespace, one.service, one.workload, one.protocol
        yield *ends, one.rate, 100 * one.errors, one.mutual_tls
