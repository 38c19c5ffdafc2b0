# SPDX-License-Identifier: Apache-2.0
"""The stand-in's process: listens where the release's Jaeger listens, until SIGTERM."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from labkit.ground import reading
from labkit.ground.web import App, Request, Response, json_response, serve
from meshbox.exposition import CONTENT_TYPE, exposition, gauge, process
from meshbox.images.grpc import server as grpc
from meshbox.images.guarded import guarded
from meshbox.images.jaeger import api_v3
from meshbox.images.jaeger.query import answer
from meshbox.images.jaeger.spans import BadSpanError, sent_from
from meshbox.images.jaeger.store import TraceStore
from meshbox.images.otlp.receiving import otlp_http, otlp_methods
from meshbox.images.otlp.spans import Span, to_zipkin

__all__ = [
    "COLLECTOR_PORT",
    "HEALTH_PORTS",
    "OTLP_GRPC_PORT",
    "OTLP_HTTP_PORT",
    "QUERY_PORT",
    "collector",
    "health",
    "main",
    "query",
    "taking",
]

QUERY_PORT = 16686
COLLECTOR_PORT = 9411
OTLP_GRPC_PORT, OTLP_HTTP_PORT = 4317, 4318
HEALTH_PORTS = (14269, 13133, 8888)
"""Jaeger 1's admin port; Jaeger 2's health check and its own metrics."""

_PAGE = Path(__file__).with_name("page.html")


def _plain(status: int, text: str) -> Response:
    return Response(status, f"{text}\n", content_type="text/plain; charset=utf-8")


def _held(store: TraceStore) -> tuple[str, ...]:
    return (
        f"labkit_jaeger_spans_accepted_total {store.accepted}",
        f"labkit_jaeger_traces_forgotten_total {store.forgotten}",
        f"labkit_jaeger_traces {len(store)}",
        f"labkit_jaeger_span_bytes {store.bytes}",
    )


def _metrics(store: TraceStore) -> Response:
    """What was taken in, under Jaeger's own name; how much the store holds, under names of our own."""
    received = [({"format": "zipkin", "transport": "http"}, float(store.accepted))]
    text = "Number of spans received by the collector"
    page = exposition(
        gauge("jaeger_collector_spans_received_total", text, received, "counter"), process(), _held(store)
    )
    return Response(200, page, content_type=CONTENT_TYPE)


def taking(store: TraceStore) -> Callable[[list[Span], str, int], None]:
    """What takes spans that come by OTLP."""

    def take(spans: list[Span], _transport: str, size: int) -> None:
        store.add([to_zipkin(span) for span in spans], size)

    return take


def collector(store: TraceStore) -> App:
    """The Zipkin collector: POST /api/v2/spans."""

    def app(request: Request) -> Response:
        if request.method != "POST" or request.path != "/api/v2/spans":
            return _plain(404, "this is the Zipkin collector: POST /api/v2/spans")
        try:
            spans = reading.json_value(request.body)
            if not isinstance(spans, list):
                raise BadSpanError("a list of spans in Zipkin's v2 JSON is expected")
            store.add([sent_from(span, request.client) for span in spans], len(request.body))
        except ValueError as error:
            return _plain(400, str(error))
        return Response(202)

    return guarded(app)


def _api_v3(store: TraceStore, path: str, query: str, version: str) -> Response:
    if not api_v3.has_v3(version):
        return _plain(404, f"Jaeger {version} has no API v3; its own pages ask for /api/traces")
    status, content = api_v3.answer(store, path, parse_qs(query))
    found = json_response(content, status)
    # Go's http.Error, by which Jaeger says them, calls all errors text.
    return found if status == 200 else replace(found, content_type="text/plain; charset=utf-8")


def query(store: TraceStore, base: str = "", version: str = "") -> App:
    """The query APIs, the page and metrics.

    Args:
        store: What was sent.
        base: The path that all is below, such as "/jaeger"; "" for none.
        version: Which Jaeger is played, such as "1.9"; "" for today's.
    """

    def app(request: Request) -> Response:
        url = urlsplit(request.target)
        if request.method not in ("GET", "HEAD"):
            return _plain(405, "only GET here")
        if base and url.path in ("/", base):
            # Kubernetes' probes ask for /, and so does who forwards to the pod.
            return Response(302, headers=[("Location", f"{base}/search")])
        if not url.path.startswith(f"{base}/"):
            return _plain(404, f"no such page: {url.path}; all is below {base}/")
        path = url.path.removeprefix(base)
        if path == "/metrics":
            return _metrics(store)
        if path.startswith("/api/v3/"):
            return _api_v3(store, path.removeprefix("/api/v3/"), url.query, version)
        if path.startswith("/api/"):
            status, content = answer(store, path.removeprefix("/api/"), parse_qs(url.query))
            return json_response(content, status)
        if path in ("/", "/search") or path.startswith("/trace/"):
            return Response(200, _PAGE.read_bytes())
        return _plain(404, f"no such page: {url.path}")

    return guarded(app)


def health(store: TraceStore) -> App:
    """Health checks, and how much the store holds at /metrics."""

    def app(request: Request) -> Response:
        if request.path != "/metrics":
            return json_response({"status": "StatusOK", "healthy": True, "about": "the workshop's stand-in for Jaeger"})
        return Response(200, "\n".join(_held(store)) + "\n", content_type=CONTENT_TYPE)

    return guarded(app)


def main() -> int:
    """Entry of the jaeger images; `LABKIT_BIND` says which address is the pod's, `LABKIT_BASE_PATH` where pages are."""
    store = TraceStore(max_traces=int(os.environ.get("MEMORY_MAX_TRACES") or 50_000))
    print(
        "the workshop's stand-in for Jaeger: spans at 9411 (Zipkin), 4317 and 4318 (OTLP), pages at 16686", flush=True
    )
    pages = query(store, os.environ.get("LABKIT_BASE_PATH", ""), os.environ.get("LABKIT_IMAGE", "").rpartition(":")[2])
    apps = {QUERY_PORT: pages, COLLECTOR_PORT: collector(store)}
    apps[OTLP_HTTP_PORT] = guarded(otlp_http(taking(store)))
    try:
        grpc.listen(OTLP_GRPC_PORT, otlp_methods(taking(store)), os.environ.get("LABKIT_BIND", "127.0.0.1"))
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    return serve(apps | dict.fromkeys(HEALTH_PORTS, health(store)))


if __name__ == "__main__":
    sys.exit(main())
