# SPDX-License-Identifier: Apache-2.0
"""What the four services share: where the others are, which headers travel on, and log lines."""

from __future__ import annotations

import os
import sys
import time

from labkit.ground.client import send
from labkit.ground.web import App, Request, Response, json_response, serve
from meshbox.images.context import ImageName

__all__ = ["PORT", "call", "forwarded", "health", "is_modern", "run"]

PORT = 9080

_B3 = ("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags")
_CLASSIC = ("x-request-id", *_B3, "x-ot-span-context")
_MODERN = (
    *_CLASSIC,
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "b3",
    "sw8",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
)


def is_modern() -> bool:
    """Whether the image is of the generation that came with today's Istio: 1.18 and later, or no number at all."""
    tag = ImageName.parse(os.environ.get("LABKIT_IMAGE", "bookinfo")).tag
    numbers = tag.split(".")
    if len(numbers) >= 2 and numbers[0].isdigit() and numbers[1].isdigit():
        return (int(numbers[0]), int(numbers[1])) >= (1, 18)
    return True


def forwarded(request: Request, *more: str) -> dict[str, str]:
    """The headers of `request` that travel on to the next service, so that Envoy's spans become one trace."""
    names = (*(_MODERN if is_modern() else _CLASSIC), *more)
    return {name: request.headers[name] for name in names if name in request.headers}


def call(service: str, path: str, headers: dict[str, str], timeout: float) -> tuple[int, bytes]:
    """GET `path` of another service: where its variables say, else by its name.

    Raises:
        OSError: no answer.
    """
    name = service.upper()
    domain = os.environ.get("SERVICES_DOMAIN", "")
    host = os.environ.get(f"{name}_HOSTNAME") or service
    port = int(os.environ.get(f"{name}_SERVICE_PORT") or PORT)
    answer = send(f"http://{f'{host}.{domain}' if domain else host}:{port}{path}", headers=headers, timeout=timeout)
    return answer.status, answer.body


def health(text: str) -> Response:
    """What /health answers."""
    return json_response({"status": text})


def run(app: App) -> int:
    """Serve `app`, with a line in the log for each request."""

    def logged(request: Request) -> Response:
        began = time.monotonic()
        response = app(request)
        if request.path not in ("/health", "/metrics"):
            took = (time.monotonic() - began) * 1000
            moment = time.strftime("%d/%b/%Y %H:%M:%S")
            line = f'{request.client} - - [{moment}] "{request.method} {request.target} HTTP/1.1" {response.status}'
            sys.stdout.write(f"{line} {took:.1f}ms\n")
        return response

    print(f"listening on port {PORT}", flush=True)
    return serve({PORT: logged})
