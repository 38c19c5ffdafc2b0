# SPDX-License-Identifier: Apache-2.0
"""Jaeger's API v3: traces as OpenTelemetry's JSON has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from meshbox.images.jaeger.parameters import BadQueryError, duration, first, hexadecimal, moment, truth, whole
from meshbox.images.jaeger.spans import Json
from meshbox.images.jaeger.store import Query, TraceStore
from meshbox.images.otlp.spans import Span, from_zipkin, grouped

__all__ = ["answer", "has_v3", "resource_spans"]

_SINCE = (1, 24)
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_DEPTH, _MAX_DEPTH = 100, 10_000

_Read = TypeVar("_Read")


def has_v3(version: str) -> bool:
    """Whether a Jaeger of this version has it: "1.9" has not."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return match is None or (int(match[1]), int(match[2])) >= _SINCE


def answer(store: TraceStore, path: str, values: Mapping[str, list[str]]) -> tuple[int, Json]:
    """Answer a GET below /api/v3/.

    Args:
        store: Where the traces are.
        path: What follows "/api/v3/", e.g. "traces/4bf92f3577b34da6".
        values: The query parameters, as `urllib.parse.parse_qs` gives them.

    Returns:
        Status code and body, as Jaeger's gateway answers.
    """
    try:
        return _answer(store, path, values)
    except BadQueryError as error:
        return _error(400, str(error))


def _error(code: int, message: str) -> tuple[int, Json]:
    return code, {"error": {"httpCode": code, "message": message}}


def _answer(store: TraceStore, path: str, values: Mapping[str, list[str]]) -> tuple[int, Json]:
    if path == "services":
        return 200, {"services": store.services()}
    if path == "operations":
        kind = first(values, "span_kind")
        named = [(name, of or "internal") for name, of in store.operations(first(values, "service"))]
        return 200, {"operations": [{"name": name, "spanKind": of} for name, of in named if kind in ("", of)]}
    if path == "traces":
        return _traces(store, [trace["traceID"] for trace in store.find(_query(values))])
    if match := re.fullmatch(r"traces/([^/]+)", path):
        wanted = _read({"trace_id": [unquote(match[1])]}, "trace_id", hexadecimal)
        for name in ("start_time", "end_time"):
            _read(values, name, moment)
        _read(values, "raw_traces", truth)
        return _traces(store, [wanted or ""])
    return _error(404, "Not Found")


def _read(values: Mapping[str, list[str]], name: str, read: Callable[[str], _Read]) -> _Read | None:
    text = first(values, name)
    if not text:
        return None
    try:
        return read(text)
    except BadQueryError as error:
        raise BadQueryError(f"malformed parameter {name}: {error}") from None


def _query(values: Mapping[str, list[str]]) -> Query:
    times = "query.start_time_min", "query.start_time_max"
    start, end = (_read(values, name, moment) if all(first(values, one) for one in times) else None for name in times)
    if start is None or end is None:
        raise BadQueryError(f"{times[0]} and {times[1]} are required")
    # The older name counts where the newer one says nothing.
    depth = "query.search_depth" if first(values, "query.search_depth") else "query.num_traces"
    limit = _read(values, depth, lambda text: whole(text, "Atoi")) or _DEPTH
    least, most = (_read(values, f"query.duration_{end}", duration) or 0 for end in ("min", "max"))
    _read(values, "query.raw_traces", truth)
    return Query(
        service=first(values, "query.service_name"),
        operation=first(values, "query.operation_name"),
        start=start,
        end=end,
        min_duration=least,
        max_duration=most,
        limit=min(limit if limit > 0 else _DEPTH, _MAX_DEPTH),
    )


def _traces(store: TraceStore, ids: Iterable[str]) -> tuple[int, Json]:
    posted = [one for wanted in ids for one in store.posted(wanted) or ()]
    if not posted:
        return _error(404, "No traces found")
    return 200, {"result": {"resourceSpans": resource_spans(from_zipkin(one) for one in posted)}}


def resource_spans(spans: Iterable[Span]) -> list[Json]:
    """Spans in OpenTelemetry's JSON: ids in hexadecimal, times and whole numbers as texts, kinds as numbers."""
    return [
        {
            "resource": {"attributes": _attributes(resource)} if resource else {},
            "scopeSpans": [
                {"scope": _without_empty(name=name, version=version), "spans": [_span(one) for one in inside]}
                for (name, version), inside in scopes
            ],
        }
        for resource, scopes in grouped(spans)
    ]


def _span(span: Span) -> Json:
    events = [
        _without_empty(timeUnixNano=str(one.time), name=one.name, attributes=_attributes(one.attributes))
        for one in span.events
    ]
    return {
        "traceId": span.trace,
        "spanId": span.id,
        "parentSpanId": span.parent,
        "name": span.name,
        "kind": _KINDS.index(span.kind),
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        **_without_empty(traceState=span.state, attributes=_attributes(span.attributes), events=events),
        "status": _without_empty(code=span.status, message=span.message),
    }


def _without_empty(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value}


def _attributes(found: Mapping[str, Any]) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in found.items()]


def _value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
