# SPDX-License-Identifier: Apache-2.0
"""Where a proxy's spans go and what carries them there: Envoy's own tracers for Zipkin and for OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshbox.mesh.envoy import Json, extension
from meshbox.mesh.model import Workload

__all__ = ["OPENTELEMETRY", "ZIPKIN", "Collector", "collector_of", "tracing"]

ZIPKIN, OPENTELEMETRY = "zipkin", "opentelemetry"
"""The forms that spans leave in; also the names of the clusters behind which they are taken."""
_ZIPKIN_PORT = 9411
_TIMEOUT = "10s"


@dataclass(frozen=True)
class Collector:
    """Who takes spans.

    Args:
        form: `ZIPKIN` or `OPENTELEMETRY`.
        where: "host:port".
        path: Below which path, over HTTP; empty for the form's own: Zipkin's, or OpenTelemetry's gRPC.
        timeout: How long a request may take.
        headers: What requests carry besides.
    """

    form: str
    where: str
    path: str = ""
    timeout: str = _TIMEOUT
    headers: tuple[tuple[str, str], ...] = ()


def collector_of(provider: Mapping[str, Any]) -> Collector | None:
    """Who takes the spans of an extension provider of the mesh's settings; None where it takes none."""
    for form in (ZIPKIN, OPENTELEMETRY):
        settings = provider.get(form)
        if not isinstance(settings, dict) or not settings:
            continue
        written = str(settings.get("service") or "")
        host = written.partition("/")[2] or written
        if form == ZIPKIN:
            path = str(settings.get("path") or "")
            return Collector(form, f"{host}:{settings.get('port') or _ZIPKIN_PORT}", path)
        http = settings.get("http")
        http = http if isinstance(http, dict) else {}
        given = (http.get("headers") if http else (settings.get("grpc") or {}).get("initialMetadata")) or []
        headers = tuple((str(one.get("name")), str(one.get("value") or "")) for one in given if isinstance(one, dict))
        timeout = str((http or settings.get("grpc") or {}).get("timeout") or _TIMEOUT)
        return Collector(form, f"{host}:{settings.get('port')}", str(http.get("path") or ""), timeout, headers)
    return None


def tracing(collector: Collector | None, sampling: float, tags: Mapping[str, str], workload: Workload) -> Json | None:
    """The tracing of a connection manager; None where spans are not sent.

    Args:
        collector: Who takes them.
        sampling: Percentage of requests traced.
        tags: More tags of each span.
        workload: Whose they are.
    """
    if collector is None:
        return None
    found = {
        "istio.canonical_service": workload.canonical_service,
        "istio.canonical_revision": workload.canonical_revision,
        "istio.namespace": workload.namespace,
        "istio.mesh_id": "cluster.local",
        "istio.cluster_id": "Kubernetes",
        **tags,
    }
    return {
        "random_sampling": {"value": sampling},
        "overall_sampling": {"value": 100},
        "client_sampling": {"value": 100},
        "provider": _zipkin(collector) if collector.form == ZIPKIN else _opentelemetry(collector, workload),
        "custom_tags": [{"tag": name, "literal": {"value": value}} for name, value in found.items()],
    }


def _zipkin(collector: Collector) -> Json:
    return extension(
        "envoy.tracers.zipkin",
        "envoy.config.trace.v3.ZipkinConfig",
        collector_cluster=ZIPKIN,
        collector_endpoint=collector.path or "/api/v2/spans",
        collector_endpoint_version="HTTP_JSON",
        trace_id_128bit=True,
        shared_span_context=False,
    )


def _opentelemetry(collector: Collector, workload: Workload) -> Json:
    headers = [{"key": key, "value": value} for key, value in collector.headers]
    if collector.path:
        way: Json = {
            "http_service": {
                "http_uri": {
                    "uri": f"http://{collector.where}{collector.path}",
                    "cluster": OPENTELEMETRY,
                    "timeout": collector.timeout,
                },
                "request_headers_to_add": [{"header": header} for header in headers],
            }
        }
    else:
        grpc = {"cluster_name": OPENTELEMETRY, "authority": collector.where}
        way = {"grpc_service": {"envoy_grpc": grpc, "timeout": collector.timeout, "initial_metadata": headers}}
    kind = "envoy.config.trace.v3.OpenTelemetryConfig"
    return extension("envoy.tracers.opentelemetry", kind, service_name=_service(workload), **way)


def _service(workload: Workload) -> str:
    """The name that spans carry: the same as the node's cluster, which Zipkin's have."""
    name = workload.labels.get("app") or workload.labels.get("service.istio.io/canonical-name") or workload.pod
    return f"{name}.{workload.namespace}"
