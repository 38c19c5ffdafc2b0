# SPDX-License-Identifier: Apache-2.0
"""From Zipkin's span JSON (v2, what Envoy posts) to Jaeger's, as Jaeger's own collector translates it."""

from __future__ import annotations

from typing import Any

__all__ = ["BadSpanError", "Json", "process_of", "sent_from", "span_of", "trace_id_of"]

Json = dict[str, Any]

_INTEGER_TAGS = {"http.status_code", "response_size", "request_size"}


class BadSpanError(ValueError):
    """A span that cannot be understood; the message says which and why."""


def _identifier(value: object, what: str) -> str:
    text = str(value).lower() if isinstance(value, str) else ""
    if not 1 <= len(text) <= 32 or any(character not in "0123456789abcdef" for character in text):
        raise BadSpanError(f"{what} {value!r} is not a hexadecimal id of 1 to 32 digits")
    return text


def trace_id_of(zipkin: Json) -> str:
    """The trace's id, 16 or 32 lower-case hexadecimal digits.

    Raises:
        BadSpanError: the span has none, or is not an object.
    """
    if not isinstance(zipkin, dict):
        raise BadSpanError(f"a span must be an object, not {type(zipkin).__name__}")
    identifier = _identifier(zipkin.get("traceId"), "traceId")
    return identifier.zfill(16 if len(identifier) <= 16 else 32)


def _microseconds(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadSpanError(f"{what} {value!r} is not a number of microseconds")
    return int(value)


def _tag(key: str, value: object) -> Json:
    if key in _INTEGER_TAGS and isinstance(value, str) and value.isascii() and value.isdigit():
        return {"key": key, "type": "int64", "value": int(value)}
    if isinstance(value, str) and value in ("true", "false") and key == "error":
        return {"key": key, "type": "bool", "value": value == "true"}
    return {"key": key, "type": "string", "value": value if isinstance(value, str) else str(value)}


def sent_from(zipkin: Any, client: str) -> Any:
    """A span as posted, with the address of the pod that sent it where its Envoy could not know that.

    An Envoy takes the machine's first address for its own. In a pod that is the pod's; here all pods share a machine,
    and each connects from its own address.

    Args:
        zipkin: What was posted, whatever it is.
        client: Where the connection comes from.
    """
    local = zipkin.get("localEndpoint") if isinstance(zipkin, dict) else None
    told = local.get("ipv4") if isinstance(local, dict) else None
    if not isinstance(told, str) or _of_a_pod(told) or not _of_a_pod(client):
        return zipkin
    return {**zipkin, "localEndpoint": {**local, "ipv4": client}} if isinstance(local, dict) else zipkin


def _of_a_pod(address: str) -> bool:
    return address.startswith("127.") and address != "127.0.0.1"


def process_of(zipkin: Json) -> Json:
    """The process that reported the span: its service name and, where known, its address."""
    local = zipkin.get("localEndpoint")
    local = local if isinstance(local, dict) else {}
    address = local.get("ipv4") or local.get("ipv6")
    tags = [{"key": "ip", "type": "string", "value": str(address)}] if address else []
    return {"serviceName": str(local.get("serviceName") or "unknown-service-name"), "tags": tags}


def span_of(zipkin: Json, process_id: str) -> Json:
    """One span in Jaeger's form.

    Args:
        zipkin: The span as it was posted.
        process_id: Key of its process in the trace, e.g. "p1".

    Raises:
        BadSpanError: an id, the timestamp or the duration is not what it must be.
    """
    trace_id = trace_id_of(zipkin)
    span_id = _identifier(zipkin.get("id"), "id").zfill(16)
    tags_in = zipkin.get("tags", {})
    if not isinstance(tags_in, dict):
        raise BadSpanError(f"tags of span {span_id} must be an object")
    tags = [_tag(str(key), value) for key, value in tags_in.items()]
    kind = str(zipkin.get("kind") or "").lower()
    if kind:
        tags.append({"key": "span.kind", "type": "string", "value": kind})
    remote = zipkin.get("remoteEndpoint")
    if isinstance(remote, dict):
        for key, value in (("peer.service", remote.get("serviceName")), ("peer.ipv4", remote.get("ipv4"))):
            if value:
                tags.append({"key": key, "type": "string", "value": str(value)})
    parent = zipkin.get("parentId")
    references = []
    if parent:
        parent_id = _identifier(parent, "parentId").zfill(16)
        references = [{"refType": "CHILD_OF", "traceID": trace_id, "spanID": parent_id}]
    logs = [
        {
            "timestamp": _microseconds(note.get("timestamp", 0), "annotation timestamp"),
            "fields": [{"key": "event", "type": "string", "value": str(note.get("value", ""))}],
        }
        for note in zipkin.get("annotations") or []
        if isinstance(note, dict)
    ]
    return {
        "traceID": trace_id,
        "spanID": span_id,
        "flags": 1,
        "operationName": str(zipkin.get("name") or ""),
        "references": references,
        "startTime": _microseconds(zipkin.get("timestamp", 0), "timestamp"),
        "duration": _microseconds(zipkin.get("duration", 0), "duration"),
        "tags": tags,
        "logs": logs,
        "processID": process_id,
        "warnings": None,
    }
