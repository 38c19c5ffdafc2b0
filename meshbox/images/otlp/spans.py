# SPDX-License-Identifier: Apache-2.0
"""Spans as OpenTelemetry has them: read from OTLP's protobuf, written as such, and to and from Zipkin's JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from meshbox.images.grpc import wire

__all__ = ["Event", "Span", "from_request", "from_zipkin", "grouped", "to_request", "to_zipkin"]

Json = dict[str, Any]

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_ERROR = 2
_SERVICE = "service.name"


@dataclass(frozen=True)
class Event:
    """Something that happened in a span.

    Args:
        time: Nanoseconds since 1970.
        name: What.
        attributes: More of it.
    """

    time: int
    name: str
    attributes: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """One span.

    Args:
        trace: The trace's id, 32 hexadecimal digits.
        id: Its own, 16.
        parent: Its parent's; empty for none.
        name: Its name.
        kind: "SERVER", "CLIENT" …
        start: Nanoseconds since 1970.
        end: The same.
        attributes: Its attributes.
        events: What happened.
        status: 0 (unset), 1 (ok) or 2 (error).
        message: Of the status.
        resource: Whose it is.
        scope: What made it: name and version.
        state: Its trace state.
    """

    trace: str
    id: str
    parent: str = ""
    name: str = ""
    kind: str = "UNSPECIFIED"
    start: int = 0
    end: int = 0
    attributes: Json = field(default_factory=dict, hash=False)
    events: tuple[Event, ...] = ()
    status: int = 0
    message: str = ""
    resource: Json = field(default_factory=dict, hash=False)
    scope: tuple[str, str] = ("", "")
    state: str = ""

    @property
    def service(self) -> str:
        """The name of the service that made it."""
        return str(self.resource.get(_SERVICE) or "unknown_service")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise wire.WireError("a number in place of a text or a message")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode(errors="replace")


def _fixed(value: int | bytes) -> int:
    # Who has a whole number there instead sends the same one.
    return value if isinstance(value, int) else int.from_bytes(value, "little")


def _value(message: bytes) -> Any:
    for number, value in wire.fields(message):
        if number == 1:
            return _text(value)
        if number == 2:
            return bool(value)
        if number == 3:
            return wire.signed(_fixed(value))
        if number == 4:
            return struct.unpack("<d", _bytes(value))[0]
        if number == 5:
            return [_value(_bytes(one)) for n, one in wire.fields(_bytes(value)) if n == 1]
        if number == 6:
            return _attributes(_bytes(one) for n, one in wire.fields(_bytes(value)) if n == 1)
        if number == 7:
            return _bytes(value)
    return ""


def _attributes(pairs: Iterable[bytes]) -> Json:
    found: Json = {}
    for pair in pairs:
        key, held = "", b""
        for number, value in wire.fields(pair):
            if number == 1:
                key = _text(value)
            elif number == 2:
                held = _bytes(value)
        found[key] = _value(held)
    return found


def from_request(message: bytes) -> list[Span]:
    """The spans of an ExportTraceServiceRequest.

    Raises:
        WireError: it is none.
    """
    return [span for number, one in wire.fields(message) if number == 1 for span in _of_resource(_bytes(one))]


def _of_resource(message: bytes) -> Iterator[Span]:
    parts = list(wire.fields(message))
    resource: Json = {}
    for number, value in parts:
        if number == 1:
            resource = _attributes(_bytes(one) for n, one in wire.fields(_bytes(value)) if n == 1)
    for number, value in parts:
        if number != 2:
            continue
        inner = list(wire.fields(_bytes(value)))
        named = {n: _text(one) for k, about in inner if k == 1 for n, one in wire.fields(_bytes(about)) if n in (1, 2)}
        for kind, one in inner:
            if kind == 2:
                yield _span(_bytes(one), resource, (named.get(1, ""), named.get(2, "")))


def _span(message: bytes, resource: Json, scope: tuple[str, str]) -> Span:
    found: Json = {}
    pairs, events = [], []
    for number, value in wire.fields(message):
        if number == 9:
            pairs.append(_bytes(value))
        elif number == 11:
            events.append(_event(_bytes(value)))
        elif number == 15:
            for n, one in wire.fields(_bytes(value)):
                found |= {"message": _text(one)} if n == 2 else {"status": _fixed(one)} if n == 3 else {}
        elif number in (1, 2, 4):
            found[("", "trace", "id", "", "parent")[number]] = _bytes(value).hex()
        elif number in (7, 8):
            found["start" if number == 7 else "end"] = _fixed(value)
        elif number in (3, 5):
            found["state" if number == 3 else "name"] = _text(value)
        elif number == 6:
            kind = _fixed(value)
            found["kind"] = _KINDS[kind] if kind < len(_KINDS) else _KINDS[0]
    if len(found.get("trace", "")) != 32 or len(found.get("id", "")) != 16:
        raise wire.WireError("a span without the ids of a trace and a span")
    return Span(**found, attributes=_attributes(pairs), events=tuple(events), resource=resource, scope=scope)


def _event(message: bytes) -> Event:
    time, name, pairs = 0, "", []
    for number, value in wire.fields(message):
        if number == 1:
            time = _fixed(value)
        elif number == 2:
            name = _text(value)
        elif number == 3:
            pairs.append(_bytes(value))
    return Event(time, name, _attributes(pairs))


def _any(value: Any) -> bytes:
    if isinstance(value, bool):
        return wire.number(2, value)
    if isinstance(value, int):
        return wire.number(3, value)
    if isinstance(value, float):
        return wire.double(4, value)
    if isinstance(value, list):
        return wire.length(5, b"".join(wire.length(1, _any(one)) for one in value))
    if isinstance(value, dict):
        return wire.length(6, b"".join(_pairs(1, value)))
    return wire.length(7, value) if isinstance(value, bytes) else wire.length(1, str(value).encode())


def _pairs(field_number: int, attributes: Json) -> Iterator[bytes]:
    for key, value in attributes.items():
        yield wire.length(field_number, wire.text(1, key) + wire.length(2, _any(value)))


def to_request(spans: Iterable[Span]) -> bytes:
    """An ExportTraceServiceRequest."""
    return b"".join(
        wire.length(1, wire.length(1, b"".join(_pairs(1, resource))) + b"".join(wire.length(2, s) for s in scopes))
        for resource, scopes in _by_resource(spans)
    )


def _by_resource(spans: Iterable[Span]) -> Iterator[tuple[Json, list[bytes]]]:
    for resource, scopes in grouped(spans):
        made = []
        for (name, version), inside in scopes:
            about = wire.length(1, wire.text(1, name) + wire.text(2, version))
            made.append(about + b"".join(wire.length(2, _written(span)) for span in inside))
        yield resource, made


def grouped(spans: Iterable[Span]) -> list[tuple[Json, list[tuple[tuple[str, str], list[Span]]]]]:
    """Spans by resource, and there by what made them, in the order of the first of each."""
    found: dict[str, tuple[Json, dict[tuple[str, str], list[Span]]]] = {}
    for span in spans:
        key = json.dumps(span.resource, sort_keys=True, default=str)
        found.setdefault(key, (span.resource, {}))[1].setdefault(span.scope, []).append(span)
    return [(resource, list(scopes.items())) for resource, scopes in found.values()]


def _written(span: Span) -> bytes:
    parts = [
        wire.length(1, bytes.fromhex(span.trace)) + wire.length(2, bytes.fromhex(span.id)) + wire.text(3, span.state),
        wire.length(4, bytes.fromhex(span.parent)) if span.parent else b"",
        wire.text(5, span.name) + wire.number(6, _KINDS.index(span.kind)),
        wire.fixed64(7, span.start) + wire.fixed64(8, span.end),
        *_pairs(9, span.attributes),
        *(
            wire.length(11, wire.fixed64(1, one.time) + wire.text(2, one.name) + b"".join(_pairs(3, one.attributes)))
            for one in span.events
        ),
    ]
    if span.status or span.message:
        parts.append(wire.length(15, wire.text(2, span.message) + wire.number(3, span.status)))
    return b"".join(parts)


def to_zipkin(span: Span) -> Json:
    """A span in Zipkin's JSON (v2)."""
    tags = {key: _shown(value) for key, value in span.attributes.items()}
    if span.status == _ERROR:
        tags.setdefault("error", span.message or "true")
    if span.scope[0]:
        tags["otel.scope.name"] = span.scope[0]
    found: Json = {
        "traceId": span.trace,
        "id": span.id,
        "name": span.name,
        "timestamp": span.start // 1000,
        "duration": max(span.end - span.start, 0) // 1000,
        "localEndpoint": {"serviceName": span.service},
        "tags": tags,
        "annotations": [{"timestamp": one.time // 1000, "value": one.name} for one in span.events],
    }
    if span.parent:
        found["parentId"] = span.parent
    if span.kind not in ("UNSPECIFIED", "INTERNAL"):
        found["kind"] = span.kind
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def from_zipkin(posted: Json) -> Span:
    """A span from Zipkin's JSON (v2); its form was looked at before (`meshbox.images.jaeger.spans`)."""
    kind = str(posted.get("kind") or "").upper()
    local = posted.get("localEndpoint")
    name = (local if isinstance(local, dict) else {}).get("serviceName")
    start = int(posted.get("timestamp") or 0) * 1000
    tags = dict(posted.get("tags") or {})
    return Span(
        trace=str(posted["traceId"]).lower().zfill(32),
        id=str(posted["id"]).lower().zfill(16),
        parent=str(posted["parentId"]).lower().zfill(16) if posted.get("parentId") else "",
        name=str(posted.get("name") or ""),
        kind=kind if kind in _KINDS else "UNSPECIFIED",
        start=start,
        end=start + int(posted.get("duration") or 0) * 1000,
        attributes={str(key): value for key, value in tags.items()},
        events=tuple(
            Event(int(one.get("timestamp") or 0) * 1000, str(one.get("value") or ""))
            for one in posted.get("annotations") or []
            if isinstance(one, dict)
        ),
        status=_ERROR if "error" in tags else 0,
        resource={_SERVICE: str(name or "")},
    )
