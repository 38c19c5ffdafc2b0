# SPDX-License-Identifier: Apache-2.0
"""Where a proxy's spans go and what carries them there: Envoy's own tracers for Zipkin and for OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from meshbox.mesh.envoy import Json, extension
from meshbox.mesh.model import Workload

__all__ = ["OPENTELEMETRY", "ZIPKIN", "Collector", "SpanTag", "collector_of", "tracing"]

ZIPKIN, OPENTELEMETRY = "zipkin", "opentelemetry"
"""The forms that spans leave in; the first is also the name of the cluster that a proxy starts with."""
_ZIPKIN_PORT = 9411
_TIMEOUT = "10s"


class Collector(Struct, frozen=True):
    """Who takes spans.

    Args:
        form: `ZIPKIN` or `OPENTELEMETRY`.
        where: "host:port".
        cluster: Behind which cluster: one of the mesh's, where an extension provider names it; else one of its own.
        path: Below which path, over HTTP; empty for the form's own: Zipkin's, or OpenTelemetry's gRPC.
        timeout: How long a request may take.
        headers: What requests carry besides.
        long_ids: Whether a trace's id has 128 bits.
        longest_path: How much of a request's path a span has, in bytes; 0 for Envoy's own 256.
    """

    form: str
    where: str
    cluster: str = ""
    path: str = ""
    timeout: str = _TIMEOUT
    headers: tuple[tuple[str, str], ...] = ()
    long_ids: bool = True
    longest_path: int = 0


class SpanTag(Struct, frozen=True):
    """A tag that a Telemetry object, or a proxy's own settings, add to each span.

    Args:
        name: Its name.
        kind: "literal", "header", "environment" or "formatter".
        value: The text itself; the name of a header or of a variable of the proxy; a log format.
        otherwise: What a span has where there is no such header or variable; empty: it has no such tag.
    """

    name: str
    kind: str
    value: str
    otherwise: str = ""

    @classmethod
    def of(cls, name: str, tag: Mapping[str, Any]) -> SpanTag | None:
        """As it is written below `customTags`; None where it says nothing."""
        for kind, value in (tag or {}).items():
            if kind in _TAGS and isinstance(value, dict):
                told = str(value.get("value") or value.get("name") or "")
                return cls(name, kind, told, str(value.get("defaultValue") or value.get("default_value") or ""))
        return None

    def told(self) -> Json:
        """For Envoy."""
        if self.kind == "formatter":
            return {"tag": self.name, "value": self.value}
        if self.kind == "literal":
            return {"tag": self.name, "literal": {"value": self.value}}
        return {"tag": self.name, _TAGS[self.kind]: {"name": self.value, "default_value": self.otherwise}}


_TAGS = {"literal": "literal", "header": "request_header", "environment": "environment", "formatter": "value"}


def collector_of(provider: Mapping[str, Any]) -> Collector | None:
    """Who takes the spans of an extension provider of the mesh's settings; None where it takes none."""
    for form in (ZIPKIN, OPENTELEMETRY):
        settings = provider.get(form)
        if not isinstance(settings, dict) or not settings:
            continue
        host = str(settings.get("service") or "").rpartition("/")[2]
        port = settings.get("port") or (_ZIPKIN_PORT if form == ZIPKIN else 0)
        longest = settings.get("maxTagLength")
        longest = longest if isinstance(longest, int) and longest > 0 else 0
        found = Collector(form, f"{host}:{port}", f"outbound|{port}||{host}", longest_path=longest)
        if form == ZIPKIN:
            short = settings.get("enable64bitTraceId") is True
            return replace(found, path=str(settings.get("path") or ""), long_ids=not short)
        http = settings.get("http")
        http = http if isinstance(http, dict) else {}
        way = http or settings.get("grpc")
        way = way if isinstance(way, dict) else {}
        given = way.get("headers" if http else "initialMetadata")
        headers = tuple(
            (str(one.get("name")), str(one.get("value") or ""))
            for one in (given if isinstance(given, list) else [])
            if isinstance(one, dict)
        )
        timeout = str(way.get("timeout") or _TIMEOUT)
        return replace(found, path=str(http.get("path") or ""), timeout=timeout, headers=headers)
    return None


def tracing(collector: Collector | None, sampling: float, tags: Iterable[SpanTag], workload: Workload) -> Json | None:
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
    }
    more = {tag.name: tag.told() for tag in tags}
    own = {name: {"tag": name, "literal": {"value": value}} for name, value in found.items()}
    longest = {"max_path_tag_length": collector.longest_path} if collector.longest_path else {}
    return {
        "random_sampling": {"value": sampling},
        "overall_sampling": {"value": 100},
        "client_sampling": {"value": 100},
        "provider": _zipkin(collector) if collector.form == ZIPKIN else _opentelemetry(collector, workload),
        "custom_tags": list({**own, **more}.values()),
        **longest,
    }


def _zipkin(collector: Collector) -> Json:
    return extension(
        "envoy.tracers.zipkin",
        "envoy.config.trace.v3.ZipkinConfig",
        collector_cluster=collector.cluster or ZIPKIN,
        collector_endpoint=collector.path or "/api/v2/spans",
        collector_endpoint_version="HTTP_JSON",
        trace_id_128bit=collector.long_ids,
        shared_span_context=False,
    )


def _opentelemetry(collector: Collector, workload: Workload) -> Json:
    headers = [{"key": key, "value": value} for key, value in collector.headers]
    if collector.path:
        way: Json = {
            "http_service": {
                "http_uri": {
                    "uri": f"http://{collector.where}{collector.path}",
                    "cluster": collector.cluster,
                    "timeout": collector.timeout,
                },
                "request_headers_to_add": [{"header": header} for header in headers],
            }
        }
    else:
        grpc = {"cluster_name": collector.cluster, "authority": collector.where}
        way = {"grpc_service": {"envoy_grpc": grpc, "timeout": collector.timeout, "initial_metadata": headers}}
    kind = "envoy.config.trace.v3.OpenTelemetryConfig"
    return extension("envoy.tracers.opentelemetry", kind, service_name=_service(workload), **way)


def _service(workload: Workload) -> str:
    """The name that spans carry: the same as the node's cluster, which Zipkin's have."""
    name = workload.labels.get("app") or workload.labels.get("service.istio.io/canonical-name") or workload.pod
    return f"{name}.{workload.namespace}"
