"""The stand-in's process: listens where the release's Jaeger listens, until SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from labkit.sandbox.images.guarded import GuardedHandler, GuardedServer
from labkit.sandbox.images.jaeger.query import answer
from labkit.sandbox.images.jaeger.spans import BadSpanError
from labkit.sandbox.images.jaeger.store import TraceStore

__all__ = ["COLLECTOR_PORTS", "HEALTH_PORTS", "QUERY_PORT", "main", "serve"]

QUERY_PORT = 16686
COLLECTOR_PORTS = (9411,)
HEALTH_PORTS = (14269, 13133, 8888)
"""Jaeger 1's admin port; Jaeger 2's health check and its own metrics."""

_PAGE = Path(__file__).with_name("page.html")


class _Collector(GuardedHandler):
    store: TraceStore

    def answer(self) -> None:
        path = urlsplit(self.path).path
        if self.command != "POST" or path not in ("/api/v2/spans", "/api/v1/spans"):
            self.send(HTTPStatus.NOT_FOUND, "this is the Zipkin collector: POST /api/v2/spans\n", "text/plain")
            return
        try:
            data = self.body()
            spans = json.loads(data)
            if path.endswith("v1/spans") or not isinstance(spans, list):
                raise BadSpanError("a list of spans in Zipkin's v2 JSON is expected")
            self.store.add(spans, len(data))
        except ValueError as error:
            self.send(HTTPStatus.BAD_REQUEST, f"{error}\n", "text/plain")
        else:
            self.send(HTTPStatus.ACCEPTED, b"", "text/plain")


class _QueryPage(GuardedHandler):
    store: TraceStore

    def answer(self) -> None:
        url = urlsplit(self.path)
        path = url.path.removeprefix("/jaeger") or "/"
        if self.command not in ("GET", "HEAD"):
            self.send(HTTPStatus.METHOD_NOT_ALLOWED, "only GET here\n", "text/plain")
        elif url.path == "/jaeger":
            self.redirect("/jaeger/search")
        elif path.startswith("/api/"):
            status, content = answer(self.store, path.removeprefix("/api/"), parse_qs(url.query))
            self.send_json(content, status)
        elif path in ("/", "/search") or path.startswith("/trace/"):
            self.send(HTTPStatus.OK, _PAGE.read_bytes(), "text/html")
        else:
            self.send(HTTPStatus.NOT_FOUND, f"no such page: {url.path}\n", "text/plain")


class _Health(GuardedHandler):
    store: TraceStore

    def answer(self) -> None:
        if urlsplit(self.path).path == "/metrics":
            lines = (
                f"labkit_jaeger_spans_accepted_total {self.store.accepted}",
                f"labkit_jaeger_traces_forgotten_total {self.store.forgotten}",
                f"labkit_jaeger_traces {len(self.store)}",
                f"labkit_jaeger_span_bytes {self.store.bytes}",
            )
            self.send(HTTPStatus.OK, "\n".join(lines) + "\n", "text/plain")
        else:
            self.send_json({"status": "StatusOK", "healthy": True, "about": "the workshop's stand-in for Jaeger"})


def serve(address: str, store: TraceStore, ports: dict[str, tuple[int, ...]]) -> list[GuardedServer]:
    """Start the servers in threads.

    Args:
        address: Where to listen.
        store: Shared by all of them.
        ports: "query", "collector" and "health" → ports.
    """
    handlers = {"query": _QueryPage, "collector": _Collector, "health": _Health}
    servers = []
    for role, numbers in ports.items():
        handler = type(role, (handlers[role],), {"store": store})
        for port in numbers:
            server = GuardedServer((address, port), handler)
            threading.Thread(target=server.serve_forever, daemon=True, name=f"{role}-{port}").start()
            servers.append(server)
    return servers


def main() -> int:
    """Entry of the jaeger images; `LABKIT_BIND` says which address is the pod's."""
    limit = int(os.environ.get("MEMORY_MAX_TRACES") or 50_000)
    store = TraceStore(max_traces=limit)
    ports = {"query": (QUERY_PORT,), "collector": COLLECTOR_PORTS, "health": HEALTH_PORTS}
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    serve(os.environ["LABKIT_BIND"], store, ports)
    print("the workshop's stand-in for Jaeger: Zipkin collector on 9411, query API and page on 16686", flush=True)
    ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
