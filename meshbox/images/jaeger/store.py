# SPDX-License-Identifier: Apache-2.0
"""Traces in bounded memory: recent ones as they came, older ones compressed, the oldest forgotten.

At 200 requests a second BookInfo makes 1600 spans a second, about 1.5 MB of JSON. A trace's spans come from several
sidecars within a few seconds, so a trace is kept open for a while and then packed to about a tenth of its size.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from meshbox.images.jaeger.spans import Json, process_of, span_of, trace_id_of

__all__ = ["Query", "TraceStore"]

OPEN_SECONDS = 4.0
"""How long a trace is kept unpacked after its last span."""


_EACH = 800
"""Bytes that a trace takes beside its spans."""


@dataclass(slots=True)
class _Trace:
    """One trace: either `spans` (as posted), or `packed`. Its first span begins at `start`, its last one at `last`."""

    spans: list[Json] = field(default_factory=list)
    packed: bytes = b""
    touched: float = 0.0
    services: frozenset[str] = frozenset()
    start: int = 0
    last: int = 0
    size: int = _EACH

    def read(self) -> list[Json]:
        return json.loads(zlib.decompress(self.packed)) + self.spans if self.packed else list(self.spans)

    def pack(self) -> None:
        self.packed = zlib.compress(json.dumps(self.read(), separators=(",", ":")).encode(), 3)
        self.spans = []
        self.size = len(self.packed) + _EACH


@dataclass(frozen=True)
class Query:
    """What `TraceStore.find` looks for, in the words of Jaeger's API.

    Args:
        service: Traces with a span of this service; empty for all.
        operation: … whose name is this.
        tags: … that carries all of these, compared as text.
        start: Not before, microseconds since 1970; 0 for no bound.
        end: Not after, microseconds since 1970; 0 for no bound.
        min_duration: … and lasted at least this many microseconds.
        max_duration: … and at most this many; 0 for no bound.
        limit: At most this many traces, newest first, 1 to 10 000.
    """

    service: str = ""
    operation: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    start: int = 0
    end: int = 0
    min_duration: int = 0
    max_duration: int = 0
    limit: int = 20

    def matches(self, span: Json, service: str) -> bool:
        """Whether one span (in Jaeger's form) of `service` is looked for."""
        if (self.service and service != self.service) or (self.operation and span["operationName"] != self.operation):
            return False
        if span["duration"] < self.min_duration or (self.max_duration and span["duration"] > self.max_duration):
            return False
        if (self.start and span["startTime"] < self.start) or (self.end and span["startTime"] > self.end):
            return False
        present = {tag["key"]: _text(tag["value"]) for tag in span["tags"]}
        return all(present.get(key) == value for key, value in self.tags)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class TraceStore:
    """All traces, safe to use from several threads.

    Args:
        max_bytes: Memory for spans, in bytes; the oldest traces go first. Default 48 MiB, at least 1 MiB.
        max_traces: At most this many traces, default 50 000 (Jaeger's MEMORY_MAX_TRACES).
        clock: Seconds, monotonic.
    """

    def __init__(
        self, max_bytes: int = 48 << 20, max_traces: int = 50_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._max_traces = max_traces
        self._clock = clock
        self._lock = threading.Lock()
        self._traces: OrderedDict[str, _Trace] = OrderedDict()
        self._open: OrderedDict[str, None] = OrderedDict()
        self._bytes = 0
        self._operations: dict[str, set[tuple[str, str]]] = {}
        self._together: dict[frozenset[str], frozenset[str]] = {}
        self.accepted = 0
        self.forgotten = 0

    def add(self, spans: list[Json], size: int = 0) -> int:
        """Keep spans in Zipkin's form; all of them or, if one is bad, none.

        Args:
            spans: As posted.
            size: Bytes they took as JSON; 0 to have it estimated.

        Returns:
            How many were kept.

        Raises:
            BadSpanError: one of them cannot be understood.
        """
        # Translating each once finds what is wrong with it while the sender can still be told.
        keyed = [(trace_id_of(span), span, span_of(span, "p1"), process_of(span)["serviceName"]) for span in spans]
        each = max(200, size // len(spans) if spans else 0)
        with self._lock:
            now = self._clock()
            for trace_id, span, jaeger, service in keyed:
                trace = self._traces.get(trace_id)
                if trace is None:
                    trace = self._traces[trace_id] = _Trace(start=jaeger["startTime"])
                    self._bytes += _EACH
                trace.spans.append(span)
                if service not in trace.services:
                    # Most traces touch the same services: they share one set.
                    together = trace.services | {service}
                    trace.services = self._together.setdefault(together, together)
                trace.start = min(trace.start, jaeger["startTime"])
                trace.last = max(trace.last, jaeger["startTime"])
                trace.touched = now
                trace.size += each
                self._bytes += each
                self._open[trace_id] = None
                self._open.move_to_end(trace_id)
                kind = str(span.get("kind") or "").lower()
                self._operations.setdefault(service, set()).add((jaeger["operationName"], kind))
            self.accepted += len(keyed)
            self._tidy(now)
        return len(keyed)

    def _tidy(self, now: float) -> None:
        while self._open:
            trace_id = next(iter(self._open))
            trace = self._traces.get(trace_id)
            full = self._bytes > self._max_bytes
            if trace is not None and now - trace.touched < OPEN_SECONDS and not full:
                break
            del self._open[trace_id]
            if trace is not None:
                self._bytes -= trace.size
                trace.pack()
                self._bytes += trace.size
        while self._traces and (len(self._traces) > self._max_traces or self._bytes > self._max_bytes):
            trace_id, trace = self._traces.popitem(last=False)
            self._open.pop(trace_id, None)
            self._bytes -= trace.size
            self.forgotten += 1

    @property
    def bytes(self) -> int:
        """Bytes that the spans take, about."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._traces)

    def services(self) -> list[str]:
        """The services seen, sorted."""
        with self._lock:
            return sorted(self._operations)

    def operations(self, service: str) -> list[tuple[str, str]]:
        """Name and span kind of each operation of `service`, sorted."""
        with self._lock:
            return sorted(self._operations.get(service, ()))

    def trace(self, trace_id: str) -> Json | None:
        """One trace in Jaeger's form, spans by start; None if it is not (or no longer) known."""
        spans = self.posted(trace_id)
        return None if spans is None else _assemble(trace_id_of(spans[0]), spans)

    def posted(self, trace_id: str) -> list[Json] | None:
        """The spans of one trace as they were posted; None if it is not (or no longer) known."""
        with self._lock:
            for known in (trace_id.zfill(16), trace_id.zfill(32)):
                if known in self._traces:
                    return self._traces[known].read()
        return None

    def find(self, query: Query) -> list[Json]:
        """The newest traces that have a span that `query` looks for, newest first."""
        found = []
        for trace_id, spans in self._newest(query.service, query.start, query.end):
            trace = _assemble(trace_id, spans)
            names = {key: process["serviceName"] for key, process in trace["processes"].items()}
            if any(query.matches(span, names[span["processID"]]) for span in trace["spans"]):
                found.append(trace)
                if len(found) >= query.limit:
                    break
        return found

    def _newest(self, service: str, start: int, end: int) -> Iterator[tuple[str, list[Json]]]:
        """The traces of a service that may have a span which begins in this time, microseconds; 0 for no bound.

        The others stay packed: to read one takes a millisecond, and a lesson asks for the last minute of many.
        """
        with self._lock:
            order = [
                (trace_id, trace)
                for trace_id, trace in self._traces.items()
                if trace.last >= start and not 0 < end < trace.start and (not service or service in trace.services)
            ]
        order.sort(key=lambda item: item[1].start, reverse=True)
        for trace_id, trace in order:
            with self._lock:
                spans = trace.read()
            yield trace_id, spans

    def dependencies(self, start: int, end: int) -> list[Json]:
        """Who called whom how often, from spans whose parent belongs to another service.

        Args:
            start: Microseconds since 1970.
            end: Microseconds since 1970.

        Returns:
            Objects with parent, child and callCount, sorted.
        """
        counts: dict[tuple[str, str], int] = {}
        for _, spans in self._newest("", start, end):
            if not any(start <= span.get("timestamp", 0) <= end for span in spans):
                continue
            by_id = {str(span["id"]).zfill(16): process_of(span)["serviceName"] for span in spans}
            for span in spans:
                parent = by_id.get(str(span.get("parentId") or "").zfill(16))
                child = process_of(span)["serviceName"]
                if parent is not None and parent != child:
                    counts[parent, child] = counts.get((parent, child), 0) + 1
        return [{"parent": p, "child": c, "callCount": count} for (p, c), count in sorted(counts.items())]


def _assemble(trace_id: str, zipkin: list[Json]) -> Json:
    processes: dict[str, Json] = {}
    keys: dict[str, str] = {}
    spans = []
    for one in zipkin:
        process = process_of(one)
        mark = json.dumps(process, sort_keys=True)
        key = keys.setdefault(mark, f"p{len(keys) + 1}")
        processes[key] = process
        spans.append(span_of(one, key))
    spans.sort(key=lambda span: (span["startTime"], bool(span["references"])))
    return {"traceID": trace_id, "spans": spans, "processes": processes, "warnings": None}
