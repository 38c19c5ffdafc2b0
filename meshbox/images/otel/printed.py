# SPDX-License-Identifier: Apache-2.0
"""Spans as the collector's debug exporter prints them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from meshbox.images.otlp.spans import Span, grouped

__all__ = ["summary", "whole"]

_STATUS = {0: "Unset", 1: "Ok", 2: "Error"}


def summary(spans: Iterable[Span]) -> str:
    """A line a span."""
    return "\n".join(
        " ".join([span.name, span.trace, span.id, *(f"{key}={value}" for key, value in span.attributes.items())])
        for span in spans
    )


def whole(spans: Iterable[Span]) -> str:
    """All there is to say."""
    return "\n".join(_lines(spans))


def _lines(spans: Iterable[Span]) -> Iterator[str]:
    for number, (resource, scopes) in enumerate(grouped(spans)):
        yield from (f"ResourceSpans #{number}", "Resource SchemaURL: ", "Resource attributes:")
        yield from _listed(resource)
        for place, ((name, version), inside) in enumerate(scopes):
            yield from (f"ScopeSpans #{place}", "ScopeSpans SchemaURL: ", f"InstrumentationScope {name} {version}")
            for index, span in enumerate(inside):
                yield f"Span #{index}"
                yield from _span(span)


def _span(span: Span) -> Iterator[str]:
    facts = {
        "Trace ID": span.trace,
        "Parent ID": span.parent,
        "ID": span.id,
        "Name": span.name,
        "Kind": span.kind.capitalize(),
        "Start time": _moment(span.start),
        "End time": _moment(span.end),
        "Status code": _STATUS.get(span.status, "Unset"),
        "Status message": span.message,
    }
    for name, value in facts.items():
        yield f"    {name:<14} : {value}"
    if span.attributes:
        yield "Attributes:"
        yield from _listed(span.attributes)
    if span.events:
        yield "Events:"
    for index, event in enumerate(span.events):
        yield from (f"SpanEvent #{index}", f"     -> Name: {event.name}", f"     -> Timestamp: {_moment(event.time)}")
        if event.attributes:
            yield "     -> Attributes::"
            yield from (f"     {line}" for line in _listed(event.attributes))


def _listed(attributes: dict[str, Any]) -> Iterator[str]:
    for key, value in attributes.items():
        yield f"     -> {key}: {_typed(value)}"


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return f"Bool({str(value).lower()})"
    names = ((int, "Int"), (float, "Double"), (bytes, "Bytes"), (list, "Slice"), (dict, "Map"))
    name = next((name for kind, name in names if isinstance(value, kind)), "Str")
    return f"{name}({value.hex() if isinstance(value, bytes) else value})"


def _moment(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest:09d} +0000 UTC"
