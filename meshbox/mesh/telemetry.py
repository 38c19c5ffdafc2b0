# SPDX-License-Identifier: Apache-2.0
"""What proxies report of each request: Istio's metrics with the release's labels, and access logs.

Stock Envoy has no Istio filter. Its stats access logger counts with tags taken from log operators instead; what the
server's side must know of its caller, the caller's proxy says: see `meshbox.mesh.peers`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from meshbox.images.proxy.constants import HTTP_VARIABLE, UNKNOWN_VARIABLE
from meshbox.mesh.attributes import first
from meshbox.mesh.envoy import Json, extension, typed
from meshbox.mesh.metric_overrides import STANDARD, Override, tags_of
from meshbox.mesh.model import Workload
from meshbox.mesh.peers import PEER_SPACE, Inbound, peer_keys
from meshbox.mesh.tracing import Collector, SpanTag

__all__ = [
    "PROTOCOL",
    "STDOUT",
    "FileLog",
    "Reporting",
    "access_logs",
    "http_stats",
    "tcp_stats",
]


UNKNOWN = "unknown"
STDOUT = "/dev/stdout"

_STATS = "envoy.extensions.access_loggers.stats.v3.Config"
_CEL_FILTER = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
_CEL_FILTER_NAME = "envoy.access_loggers.extension_filters.cel"

TEXT_LEGACY = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '"%DYNAMIC_METADATA(istio.mixer:status)%" "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% '
    '%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME%\n"
)
TEXT_CURRENT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


class FileLog(Struct, frozen=True):
    """The log of a provider that Telemetry objects name.

    Args:
        path: "/dev/stdout" or "/dev/stderr".
        text: The format of a line; empty for the release's own.
        labels: The format of each field of a line of JSON, as JSON; empty for lines of text.
        omit_empty: Whether nothing is written for what has no value.
        filter: Which requests are logged, in CEL; empty for all.
    """

    path: str
    text: str = ""
    labels: str = ""
    omit_empty: bool = False
    filter: str = ""

    @classmethod
    def of(cls, settings: Mapping[str, Any], expression: str = "") -> FileLog:
        """As it is written below `envoyFileAccessLog`."""
        written = settings.get("logFormat")
        written = written if isinstance(written, dict) else {}
        labels = written.get("labels")
        told = json.dumps(labels, sort_keys=True) if isinstance(labels, dict) and labels else ""
        omit = settings.get("omitEmptyValues") is True
        return cls(str(settings.get("path")), str(written.get("text") or ""), told, omit, expression)


class Reporting(Struct, frozen=True):
    """What one side of a proxy reports, once mesh settings and Telemetry objects are taken together.

    Args:
        access_log: Whether requests are logged.
        access_log_path: Where; "/dev/stdout" or "/dev/stderr".
        access_log_format: The text of a line; empty for the release's own.
        access_log_json: Whether lines are JSON.
        access_log_filter: Which requests are logged, in CEL; empty for all.
        files: The logs of other providers.
        metrics: Whether metrics are emitted.
        overrides: What is changed of them: Istio's name of a metric, and how.
        collector: Where spans are sent; None for nowhere.
        sampling: Percentage of requests traced.
        tags: More tags of each span.
    """

    access_log: bool = False
    access_log_path: str = STDOUT
    access_log_format: str = ""
    access_log_json: bool = False
    access_log_filter: str = ""
    files: tuple[FileLog, ...] = ()
    metrics: bool = True
    overrides: tuple[tuple[str, Override], ...] = ()
    collector: Collector | None = None
    sampling: float = 100.0
    tags: tuple[SpanTag, ...] = ()


@functools.cache
def _format(operator: str, *, legacy: bool, otherwise: str = "") -> str:
    """The value of one of Envoy's log operators, else of another one, "unknown" where none has any.

    In Istio 1.2 Mixer makes "unknown" of the "-" that Envoy writes for nothing. In Istio 1.30 nobody stands between a
    proxy and Prometheus, and Envoy itself has to choose: that makes a sidecar's listeners half as long again.
    """
    if legacy:
        return f"%{operator}%"
    asked: list[tuple[str, str]] = []
    for one in filter(None, (operator, otherwise)):
        command, _, parameter = one.rstrip(")").partition("(")
        asked.append((command, parameter))
    return first(*asked, ("ENVIRONMENT", UNKNOWN_VARIABLE))


def _known(name: str, operator: str, *, legacy: bool, otherwise: str = "") -> Json:
    return {"name": name, "value_format": _format(operator, legacy=legacy, otherwise=otherwise)}


def _literal(name: str, value: str) -> Json:
    return {"name": name, "value_format": value.replace("%", "%%") or UNKNOWN}


_REQUEST_SPACE = "istio.request"

PROTOCOL = extension(
    "istio.request_protocol",
    "envoy.extensions.filters.http.header_to_metadata.v3.Config",
    request_rules=[
        {
            "header": "content-type",
            "on_header_present": {
                "metadata_namespace": _REQUEST_SPACE,
                "key": "protocol",
                # Of another type nothing is left, which is not kept.
                "regex_value_rewrite": {
                    "pattern": {"regex": r"^application/(grpc)(\+.*)?$|^.*$"},
                    "substitution": r"\1",
                },
            },
        }
    ],
)
"""The filter that keeps of a request that it is gRPC: by what it says it is, as in Istio, and not by a port's name.

Once for all of its metrics, and at its beginning, so that it counts whatever becomes of it. Each metric could ask by
itself (CEL), for a tenth of what the proxy does for a request.
"""
_PROTOCOL = {
    "name": "request_protocol",
    "value_format": first(("DYNAMIC_METADATA", f"{_REQUEST_SPACE}:protocol"), ("ENVIRONMENT", HTTP_VARIABLE)),
}


def _tags(workload: Workload, inbound: Inbound | None, *, legacy: bool, raw: bool = False) -> list[Json]:
    """The labels that HTTP and TCP metrics share; of `raw` connections the caller is told in a PROXY header."""
    tags = [_literal("reporter", "destination" if inbound else "source")]
    tags += _source(workload, legacy=legacy) if inbound is None else _source_of_peer(inbound, legacy=legacy, raw=raw)
    tags += _destination_of_host(legacy=legacy) if inbound is None else _destination(workload, inbound, legacy=legacy)
    policy = UNKNOWN if inbound is None else "mutual_tls" if inbound.mtls else "none"
    flags = {"name": "response_flags", "value_format": "%RESPONSE_FLAGS%"}
    return [*tags, _literal("connection_security_policy", policy), flags]


def _source(workload: Workload, *, legacy: bool) -> list[Json]:
    return [
        *_workload_tags("source", workload, legacy=legacy),
        _known("source_principal", "UPSTREAM_LOCAL_URI_SAN", legacy=legacy),
    ]


def _workload_tags(side: str, workload: Workload, *, legacy: bool) -> list[Json]:
    tags = [
        _literal(f"{side}_workload", workload.name),
        _literal(f"{side}_workload_namespace", workload.namespace),
        _literal(f"{side}_app", workload.app),
        _literal(f"{side}_version", workload.version),
    ]
    if not legacy:
        tags += [
            _literal(f"{side}_canonical_service", workload.canonical_service),
            _literal(f"{side}_canonical_revision", workload.canonical_revision),
            _literal(f"{side}_cluster", "Kubernetes"),
        ]
    return tags


def _source_of_peer(inbound: Inbound, *, legacy: bool, raw: bool) -> list[Json]:
    keys = peer_keys(legacy=legacy)
    where = f"DYNAMIC_METADATA({PEER_SPACE}:{{}})" if raw else "FILTER_STATE(istio.peer.{}:PLAIN)"
    if raw and not inbound.mtls and not legacy:
        tags = [_literal(f"source_{label}", UNKNOWN) for label in keys]
    else:
        tags = [_known(f"source_{label}", where.format(key), legacy=legacy) for label, key in keys.items()]
    principal = _known("source_principal", "DOWNSTREAM_PEER_URI_SAN", legacy=legacy)
    return [*tags, principal if inbound.mtls else _literal("source_principal", UNKNOWN)]


def _destination_of_host(*, legacy: bool) -> list[Json]:
    tags = [
        _known(f"destination_{label}", f"METADATA(UPSTREAM_HOST:istio:{key})", legacy=legacy)
        for label, key in peer_keys(legacy=legacy).items()
    ]
    return [
        *tags,
        _known("destination_principal", "UPSTREAM_PEER_URI_SAN", legacy=legacy),
        # Of what is no host of the mesh today's release tells the name that was asked for, and what became of it; a
        # request that is refused gets to no cluster, its route has that word.
        _known("destination_service", "METADATA(CLUSTER:istio:service)", legacy=legacy, otherwise="REQ(:AUTHORITY)"),
        _known(
            "destination_service_name",
            "METADATA(CLUSTER:istio:service_name)",
            legacy=legacy,
            otherwise="METADATA(ROUTE:istio:service_name)",
        ),
        _known("destination_service_namespace", "METADATA(CLUSTER:istio:service_namespace)", legacy=legacy),
    ]


def _destination(workload: Workload, inbound: Inbound, *, legacy: bool) -> list[Json]:
    service = inbound.service[0] if inbound.service else None
    return [
        *_workload_tags("destination", workload, legacy=legacy),
        _literal("destination_principal", workload.principal if inbound.mtls else UNKNOWN),
        _literal("destination_service", service.host if service else UNKNOWN),
        _literal("destination_service_name", service.name if service else "InboundPassthroughCluster"),
        _literal("destination_service_namespace", service.namespace if service else workload.namespace),
    ]


def _metrics(reporting: Reporting, tags: list[Json], values: Mapping[str, Json]) -> list[Json]:
    """Metrics with these tags and values, by Istio's names, without those that a Telemetry object drops."""
    overrides = dict(reporting.overrides)
    return [
        {"stat": {"name": STANDARD[name], "tags": tags_of(tags, overrides.get(name))}, **value}
        for name, value in values.items()
        if not overrides.get(name, Override()).dropped
    ]


def http_stats(workload: Workload, inbound: Inbound | None, reporting: Reporting, *, legacy: bool) -> Json:
    """The logger that turns each request into Istio's HTTP metrics."""
    tags = _tags(workload, inbound, legacy=legacy)
    tags += [_PROTOCOL, {"name": "response_code", "value_format": "%RESPONSE_CODE%"}]
    if legacy:
        tags += [_literal("permissive_response_code", "none"), _literal("permissive_response_policyid", "none")]
    else:
        # Empty for what is no gRPC, which Prometheus takes for no label at all.
        tags.append({"name": "grpc_response_status", "value_format": "%GRPC_STATUS_NUMBER%"})
    # Mixer took a body's size; Istio's own filter counts what is on the wire, with headers and framing.
    bytes_of = "BYTES" if legacy else "DOWNSTREAM_WIRE_BYTES"
    histograms: dict[str, Json] = {
        "REQUEST_DURATION": {"unit": "Milliseconds", "value_format": "%DURATION%"},
        "REQUEST_SIZE": {"unit": "Bytes", "value_format": f"%{bytes_of}_RECEIVED%"},
        "RESPONSE_SIZE": {"unit": "Bytes", "value_format": f"%{bytes_of}_SENT%"},
    }
    logged = extension(
        "envoy.access_loggers.stats",
        _STATS,
        stats_scope={"prefix": "istio"},
        counters=_metrics(reporting, tags, {"REQUEST_COUNT": {"value_fixed": 1}}),
        histograms=_metrics(reporting, tags, histograms),
    )
    if legacy and inbound is not None:
        # Mixer's rule: what the kubelet asks is no traffic.
        kubelet = {"name": "user-agent", "string_match": {"prefix": "kube-probe"}, "invert_match": True}
        logged["filter"] = {"header_filter": {"header": {**kubelet, "treat_missing_header_as_empty": True}}}
    return logged


def tcp_stats(workload: Workload, inbound: Inbound | None, reporting: Reporting, *, legacy: bool) -> list[Json]:
    """The loggers that turn each TCP connection into Istio's TCP metrics.

    Bytes are counted once, at a connection's end: a logger that also flushes in between would count them twice.
    """
    tags = _tags(workload, inbound, legacy=legacy, raw=True)
    if not legacy:
        tags.append(_literal("request_protocol", "tcp"))

    def logger(kind: str, values: Mapping[str, Json]) -> Json:
        counters = _metrics(reporting, tags, values)
        logged = extension("envoy.access_loggers.stats", _STATS, stats_scope={"prefix": "istio"}, counters=counters)
        return {**logged, "filter": {"log_type_filter": {"types": [kind]}}}

    return [
        logger("TcpUpstreamConnected", {"TCP_OPENED_CONNECTIONS": {"value_fixed": 1}}),
        logger(
            "TcpConnectionEnd",
            {
                "TCP_CLOSED_CONNECTIONS": {"value_fixed": 1},
                # Istio counts from the client: what it received is what the server sent.
                "TCP_SENT_BYTES": {"value_format": "%BYTES_SENT%"},
                "TCP_RECEIVED_BYTES": {"value_format": "%BYTES_RECEIVED%"},
            },
        ),
    ]


def access_logs(reporting: Reporting, *, legacy: bool) -> list[Json]:
    """The loggers to the container's own output, in the release's format or their own; none where logging is off."""
    logs = list(reporting.files)
    if reporting.access_log:
        labels = _fields(reporting.access_log_format, legacy=legacy) if reporting.access_log_json else ""
        path, text = reporting.access_log_path, reporting.access_log_format
        own = FileLog(path, text, labels, filter=reporting.access_log_filter)
        logs.insert(0, own)
    return [_logger(log, legacy=legacy) for log in logs]


def _fields(text: str, *, legacy: bool) -> str:
    """The fields of a line of JSON, as JSON: those of the mesh's format where that is JSON, else the release's own."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and found:
        return json.dumps(found, sort_keys=True)
    return json.dumps(_JSON_FIELDS if legacy else _JSON_FIELDS | _REASONS)


def _logger(log: FileLog, *, legacy: bool) -> Json:
    text = log.text or (TEXT_LEGACY if legacy else TEXT_CURRENT)
    fields: Json = {"text_format_source": {"inline_string": text if text.endswith("\n") else f"{text}\n"}}
    if log.labels:
        fields = {"json_format": json.loads(log.labels)}
    if log.omit_empty:
        fields["omit_empty_values"] = True
    if not legacy and _WITHOUT_QUERY in f"{text}{log.labels}":
        fields["formatters"] = [extension("envoy.formatter.req_without_query", f"{_FORMATTER}.ReqWithoutQuery")]
    kind = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
    logged = extension("envoy.access_loggers.file", kind, path=log.path, log_format=fields)
    if log.filter:
        told = typed(_CEL_FILTER, expression=log.filter)
        logged["filter"] = {"extension_filter": {"name": _CEL_FILTER_NAME, "typed_config": told}}
    return logged


_WITHOUT_QUERY, _FORMATTER = "%REQ_WITHOUT_QUERY(", "envoy.extensions.formatter.req_without_query.v3"

_REASONS = {
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""Istio 1.9 and later say why."""

_JSON_FIELDS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}
