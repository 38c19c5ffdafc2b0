# SPDX-License-Identifier: Apache-2.0
"""What a release's manifests bring to look at a mesh with: its standard metrics, and Grafana's dashboards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A metric of the mesh.

    Args:
        name: Its name in Prometheus, without the suffixes of a histogram.
        type: "counter" or "histogram".
        unit: "requests", "seconds", "milliseconds", "bytes", "messages" or "connections".
        labels: Its labels, in the release's order.
    """

    name: str
    type: Literal["counter", "histogram"]
    unit: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Dashboard:
    """A Grafana dashboard.

    Args:
        title: Its title.
        file: Its key in a ConfigMap.
        config_map: That ConfigMap's name, in namespace istio-system.
        uid: Its uid; "" where the release gives it none, and Grafana makes one up.
    """

    title: str
    file: str
    config_map: str
    uid: str = ""


_SOURCE = "source_{}"
_DESTINATION = "destination_{}"
_END_1_2_2 = ("app", "principal", "workload", "workload_namespace", "version")
_SERVICE = ("destination_service", "destination_service_name", "destination_service_namespace")
_SECURITY = "connection_security_policy"

_COMMON_1_2_2 = (
    "reporter",
    *(_SOURCE.format(name) for name in _END_1_2_2),
    *(_DESTINATION.format(name) for name in _END_1_2_2),
    *_SERVICE,
)
_HTTP_1_2_2 = (
    *_COMMON_1_2_2,
    "request_protocol",
    "response_code",
    "response_flags",
    "permissive_response_code",
    "permissive_response_policyid",
    _SECURITY,
)
_TCP_1_2_2 = (*_COMMON_1_2_2, _SECURITY, "response_flags")


def _tcp(labels: tuple[str, ...]) -> tuple[Metric, ...]:
    names = (
        ("sent_bytes", "bytes"),
        ("received_bytes", "bytes"),
        ("connections_opened", "connections"),
        ("connections_closed", "connections"),
    )
    return tuple(Metric(f"istio_tcp_{name}_total", "counter", unit, labels) for name, unit in names)


_END_1_30_3 = (
    "workload",
    "canonical_service",
    "canonical_revision",
    "workload_namespace",
    "principal",
    "app",
    "version",
)
_TCP_1_30_3 = (
    "reporter",
    *(_SOURCE.format(name) for name in (*_END_1_30_3, "cluster")),
    *(_DESTINATION.format(name) for name in (*_END_1_30_3, "cluster")),
    *_SERVICE,
    "request_protocol",
    "response_flags",
    _SECURITY,
)
_HTTP_1_30_3 = (*_TCP_1_30_3, "response_code", "grpc_response_status")

METRICS: dict[str, tuple[Metric, ...]] = {
    "1.2.2": (
        Metric("istio_requests_total", "counter", "requests", _HTTP_1_2_2),
        Metric("istio_request_duration_seconds", "histogram", "seconds", _HTTP_1_2_2),
        Metric("istio_request_bytes", "histogram", "bytes", _HTTP_1_2_2),
        Metric("istio_response_bytes", "histogram", "bytes", _HTTP_1_2_2),
        *_tcp(_TCP_1_2_2),
    ),
    "1.30.3": (
        Metric("istio_requests_total", "counter", "requests", _HTTP_1_30_3),
        Metric("istio_request_duration_milliseconds", "histogram", "milliseconds", _HTTP_1_30_3),
        Metric("istio_request_bytes", "histogram", "bytes", _HTTP_1_30_3),
        Metric("istio_response_bytes", "histogram", "bytes", _HTTP_1_30_3),
        Metric("istio_request_messages_total", "counter", "messages", _HTTP_1_30_3),
        Metric("istio_response_messages_total", "counter", "messages", _HTTP_1_30_3),
        *_tcp(_TCP_1_30_3),
    ),
}
"""Release → its standard metrics."""

DASHBOARDS: dict[str, tuple[Dashboard, ...]] = {
    "1.2.2": tuple(
        Dashboard(f"Istio {title} Dashboard", f"{file}.json", f"istio-grafana-configuration-dashboards-{file}", uid)
        for title, file, uid in (
            ("Mesh", "istio-mesh-dashboard", ""),
            ("Service", "istio-service-dashboard", "LJ_uJAvmk"),
            ("Workload", "istio-workload-dashboard", "UbsSZTDik"),
            ("Performance", "istio-performance-dashboard", "vu8e0VWZk"),
            ("Galley", "galley-dashboard", "TSEY6jLmk"),
            ("Mixer", "mixer-dashboard", ""),
            ("Pilot", "pilot-dashboard", "3--MLVZZk"),
        )
    ),
    "1.30.3": tuple(
        Dashboard(f"Istio {title} Dashboard", f"{file}-dashboard.json", f"{prefix}-grafana-dashboards", uid)
        for title, file, prefix, uid in (
            ("Mesh", "istio-mesh", "istio-services", "1a9a8ea49444aae205c7737573e894f9"),
            ("Service", "istio-service", "istio-services", ""),
            ("Workload", "istio-workload", "istio-services", ""),
            ("Performance", "istio-performance", "istio", ""),
            ("Wasm Extension", "istio-extension", "istio-services", ""),
            ("Control Plane", "pilot", "istio", "1813f692a8e4ac77155348d4c7d2fba8"),
            ("Ztunnel", "ztunnel", "istio", "12c58766acc81a1c835dd5059eaf2741"),
        )
    ),
}
"""Release → Grafana's dashboards."""
