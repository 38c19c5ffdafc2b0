# SPDX-License-Identifier: Apache-2.0
"""Zipkin's JSON, as the collector takes it."""

from __future__ import annotations

from labkit.ground import reading
from labkit.ground.web import App, Request, Response
from meshbox.images.jaeger.spans import BadSpanError, span_of
from meshbox.images.otlp.receiving import RefusedError, Take
from meshbox.images.otlp.spans import from_zipkin

__all__ = ["zipkin_http"]


def zipkin_http(take: Take) -> App:
    """Zipkin's collector: POST /api/v2/spans, in JSON."""

    def app(request: Request) -> Response:
        if request.method != "POST" or request.path != "/api/v2/spans":
            return Response(404, "404 page not found\n", content_type="text/plain")
        try:
            posted = reading.json_value(request.body)
            if not isinstance(posted, list):
                raise BadSpanError("a list of spans in Zipkin's v2 JSON is expected")
            for one in posted:
                span_of(one, "")
            take([from_zipkin(one) for one in posted], "http", len(request.body))
        except ValueError as error:
            return Response(400, f"{error}\n", content_type="text/plain")
        except RefusedError as error:
            return Response(503, f"{error}\n", content_type="text/plain")
        return Response(202)

    return app
