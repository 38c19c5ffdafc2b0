# SPDX-License-Identifier: Apache-2.0
"""How spans come in: OTLP over gRPC and over HTTP, and Zipkin's JSON. For whoever takes them: Jaeger, the collector."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labkit.ground import reading
from labkit.ground.web import App, Request, Response
from meshbox.images.grpc import wire
from meshbox.images.grpc.server import INVALID_ARGUMENT, UNAVAILABLE, Call, CallError, Method, unzipped
from meshbox.images.jaeger.spans import BadSpanError, span_of
from meshbox.images.otel.spans import Span, from_request, from_zipkin

__all__ = ["EXPORT", "RefusedError", "otlp_http", "otlp_methods", "zipkin_http"]

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_PROTOBUF = "application/x-protobuf"

Take = Callable[[list[Span], str, int], None]
"""Takes spans, told how they came ("grpc" or "http") and how many bytes they were."""


class RefusedError(Exception):
    """Whoever takes spans can take none for now; the message is what the sender is told."""


def otlp_methods(take: Take) -> Mapping[str, Method]:
    """The methods of OTLP over gRPC."""

    def export(call: Call) -> bytes:
        try:
            take(from_request(call.message), "grpc", len(call.message))
        except ValueError as error:
            raise CallError(INVALID_ARGUMENT, str(error)) from error
        except RefusedError as error:
            raise CallError(UNAVAILABLE, str(error)) from error
        return b""

    return {EXPORT: export}


def otlp_http(take: Take) -> App:
    """OTLP over HTTP: POST /v1/traces, in protobuf."""

    def app(request: Request) -> Response:
        if request.path != "/v1/traces":
            return Response(404, "404 page not found\n", content_type="text/plain")
        if request.method != "POST":
            return Response(405, "405 method not allowed, supported: [POST]", content_type="text/plain")
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != _PROTOBUF:
            words = f"415 unsupported media type, the sandbox takes [{_PROTOBUF}]"
            return Response(415, words, content_type="text/plain")
        try:
            body = request.body
            if request.headers.get("content-encoding") == "gzip":
                body = unzipped(body)
            take(from_request(body), "http", len(body))
        except ValueError as error:
            return Response(400, wire.text(2, str(error)), content_type=_PROTOBUF)
        except RefusedError as error:
            return Response(503, wire.number(1, UNAVAILABLE) + wire.text(2, str(error)), content_type=_PROTOBUF)
        return Response(200, b"", content_type=_PROTOBUF)

    return app


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
