# SPDX-License-Identifier: Apache-2.0
"""How spans come in by OTLP, over gRPC and over HTTP. For whoever takes them: Jaeger, the collector."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labkit.ground.web import App, Request, Response
from meshbox.images.grpc import wire
from meshbox.images.grpc.server import INVALID_ARGUMENT, UNAVAILABLE, Call, CallError, Method, unzipped
from meshbox.images.otlp.spans import Span, from_request

__all__ = ["EXPORT", "RefusedError", "Take", "otlp_http", "otlp_methods"]

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_PROTOBUF = "application/x-protobuf"

_UNAUTHENTICATED = 16
Gate = Callable[[Mapping[str, str]], str]
"""Says of a caller's headers why it is not let in; "" where it is."""
Take = Callable[[list[Span], str, int], None]
"""Takes spans, told how they came ("grpc" or "http") and how many bytes they were."""


class RefusedError(Exception):
    """Whoever takes spans can take none for now; the message is what the sender is told."""


def otlp_methods(take: Take, gate: Gate = lambda _: "") -> Mapping[str, Method]:
    """The methods of OTLP over gRPC."""

    def export(call: Call) -> bytes:
        if problem := gate(call.headers):
            raise CallError(_UNAUTHENTICATED, problem)
        try:
            take(from_request(call.message), "grpc", len(call.message))
        except ValueError as error:
            raise CallError(INVALID_ARGUMENT, str(error)) from error
        except RefusedError as error:
            raise CallError(UNAVAILABLE, str(error)) from error
        return b""

    return {EXPORT: export}


def otlp_http(take: Take, gate: Gate = lambda _: "") -> App:
    """OTLP over HTTP: POST /v1/traces, in protobuf."""

    def app(request: Request) -> Response:
        if request.path != "/v1/traces":
            return Response(404, "404 page not found\n", content_type="text/plain")
        if request.method != "POST":
            return Response(405, "405 method not allowed, supported: [POST]", content_type="text/plain")
        if problem := gate(request.headers):
            return Response(401, problem, content_type="text/plain")
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
