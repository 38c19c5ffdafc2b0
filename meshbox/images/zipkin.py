# SPDX-License-Identifier: Apache-2.0
"""Zipkin: its collector and its query API (v2), and a plain page that lists the newest traces."""

from __future__ import annotations

from html import escape
from typing import Any

from labkit.ground import reading
from labkit.ground.web import Request, Response, json_response, serve
from meshbox.images.context import Image
from meshbox.images.guarded import guarded
from meshbox.images.jaeger.spans import BadSpanError
from meshbox.images.jaeger.store import Query, TraceStore

__all__ = ["IMAGES", "Zipkin", "main"]

_PORT = 9411
_MOST, _DEFAULT = 1000, 10


class Zipkin:
    """The server.

    Args:
        store: What was sent.
    """

    def __init__(self, store: TraceStore) -> None:
        self._store = store

    def answer(self, request: Request) -> Response:
        """One request."""
        path = request.path.rstrip("/") or "/"
        if request.method == "POST":
            return self._take(request) if path == "/api/v2/spans" else Response(404)
        if request.method not in ("GET", "HEAD"):
            return Response(405)
        if path == "/":
            return Response(302, headers=[("Location", "/zipkin/")])
        if path == "/health":
            return json_response({"status": "UP", "about": "the workshop's stand-in for Zipkin"})
        if path == "/zipkin":
            return self._page()
        try:
            found = self._asked(path, dict(request.query))
        except ValueError as error:
            return Response(400, f"{error}\n", content_type="text/plain")
        return json_response(found) if found is not None else Response(404, "not found\n", content_type="text/plain")

    def _take(self, request: Request) -> Response:
        try:
            spans = reading.json_value(request.body)
            if not isinstance(spans, list):
                raise BadSpanError("a list of spans in Zipkin's v2 JSON is expected")
            self._store.add(spans, len(request.body))
        except ValueError as error:
            return Response(400, f"{error}\n", content_type="text/plain")
        return Response(202)

    def _asked(self, path: str, query: dict[str, str]) -> Any:
        if path == "/api/v2/services":
            return self._store.services()
        if path == "/api/v2/spans":
            return sorted({name for name, _ in self._store.operations(query.get("serviceName", ""))})
        if path == "/api/v2/traces":
            return self._traces(query)
        if path == "/api/v2/dependencies":
            end = int(query["endTs"])
            return self._store.dependencies((end - int(query.get("lookback", "86400000"))) * 1000, end * 1000)
        if path.startswith("/api/v2/trace/"):
            return self._store.posted(path.removeprefix("/api/v2/trace/"))
        return None

    def _traces(self, query: dict[str, str]) -> list[list[dict[str, Any]]]:
        end = int(query["endTs"]) * 1000 if "endTs" in query else 0
        start = end - int(query["lookback"]) * 1000 if end and "lookback" in query else 0
        tags = []
        for part in (query.get("annotationQuery") or "").split(" and "):
            key, _, value = part.partition("=")
            if key:
                tags.append((key.strip(), value.strip()))
        wanted = Query(
            service=query.get("serviceName", ""),
            operation="" if query.get("spanName") in (None, "all") else query["spanName"],
            tags=tuple(tags),
            start=max(start, 0),
            end=end,
            min_duration=int(query.get("minDuration") or 0),
            max_duration=int(query.get("maxDuration") or 0),
            limit=min(max(int(query.get("limit") or _DEFAULT), 1), _MOST),
        )
        return [self._store.posted(trace["traceID"]) or [] for trace in self._store.find(wanted)]

    def _page(self) -> Response:
        rows = []
        for trace in self._store.find(Query(limit=50)):
            first = trace["spans"][0]
            service = trace["processes"][first["processID"]]["serviceName"]
            end = max(span["startTime"] + span["duration"] for span in trace["spans"])
            took = (end - first["startTime"]) / 1000
            link = f"<a href='/api/v2/trace/{trace['traceID']}'>{trace['traceID']}</a>"
            cells = (link, escape(f"{service}: {first['operationName']}"), str(len(trace["spans"])), f"{took:.1f} ms")
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        head = "<tr><th>trace</th><th>root</th><th>spans</th><th>took</th></tr>"
        return Response(
            200,
            "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Zipkin (stand-in)</title></head><body>"
            "<h1>Zipkin</h1><p>The workshop's stand-in: the newest traces, each as Zipkin's own API gives it.</p>"
            f"<table>{head}{''.join(rows)}</table></body></html>",
        )


def main() -> int:
    """The program."""
    print(f"the workshop's stand-in for Zipkin on port {_PORT}", flush=True)
    return serve({_PORT: guarded(Zipkin(TraceStore()).answer)})


IMAGES = (
    Image(
        repositories=("openzipkin/zipkin", "openzipkin/zipkin-slim"),
        entrypoint=("start-zipkin",),
        programs={"start-zipkin": f"{__name__}:main"},
        size=170_000_000,
        stands_in="collector, query API and a plain page",
    ),
)
