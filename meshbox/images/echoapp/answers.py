# SPDX-License-Identifier: Apache-2.0
"""What the echo application says of a request, a line for each thing it knows, over HTTP, gRPC and TCP."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from labkit.ground import duration
from labkit.ground.web import App, Request, Response
from meshbox.images import websocket
from meshbox.images.grpc import wire
from meshbox.images.grpc.server import INVALID_ARGUMENT, Call, CallError, Method

__all__ = ["ECHO", "HEALTH", "Settings", "bytes_answer", "echo_method", "health_method", "http_app"]

ECHO = "/proto.EchoTestService/Echo"
HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = wire.number(1, 1)


@dataclass(frozen=True)
class Settings:
    """What the command line says of the application itself.

    Args:
        version: Its version.
        cluster: Its cluster's name.
        istio_version: Istio's.
    """

    version: str = ""
    cluster: str = ""
    istio_version: str = ""


def http_app(settings: Settings, port: int, log: Callable[[str], None]) -> App:
    """Answers HTTP at `port`, and WebSockets with the same before each message."""

    def app(request: Request) -> Response:
        log(f"HTTP/1.1 Request method={request.method} url={request.target} remoteAddr={request.client}")
        known = _of_http(settings, port, request)
        if request.headers.get("upgrade", "").lower() == "websocket":
            return websocket.accept(request, lambda message, _text: f"{known}".encode() + message + b"StatusCode=200\n")
        asked = dict([*request.query, *(request.form().items() if request.method == "POST" else ())])
        problems: list[str] = []
        if asked.get("delay"):
            try:
                time.sleep(max(duration.from_go(asked["delay"]), 0) / 1e9)
            except ValueError as error:
                problems.append(f"error delaying response error: {error}")
        headers = []
        for one in filter(None, asked.get("headers", "").split(",")):
            name, _, value = one.partition(":")
            if one.count(":") != 1:
                problems.append(f'response headers error: invalid "{one}" (want name:value)')
                break
            headers.append((name, value))
        try:
            status = _status(asked.get("codes") or "200")
        except ValueError as error:
            status = 400
            problems.append(f"codes error: {error}")
        body = "".join(f"{problem}\n" for problem in problems) + known
        return Response(status, body, headers, "application/text")

    return app


def _of_http(settings: Settings, port: int, request: Request) -> str:
    facts = [
        ("ServiceVersion", settings.version),
        ("ServicePort", str(port)),
        ("Host", request.headers.get("host", "")),
        ("URL", request.target),
        ("Cluster", settings.cluster),
        ("IstioVersion", settings.istio_version),
        ("Method", request.method),
        ("Proto", "HTTP/1.1"),
        ("IP", request.client),
        ("Alpn", ""),
        *(
            ("RequestHeader", f"{'-'.join(part.capitalize() for part in name.split('-'))}:{value}")
            for name, value in sorted(request.items, key=lambda item: item[0].lower())
            if name.lower() != "host"
        ),
        ("Hostname", socket.gethostname()),
    ]
    return "".join(f"{name}={value}\n" for name, value in facts)


def _status(text: str) -> int:
    """A status by chance: "500:1,200:3" is one in four."""
    codes, weights = [], []
    for one in text.split(","):
        code, _, count = one.partition(":")
        if one.count(":") > 1 or not code.isdigit() or not (count or "1").isdigit():
            raise ValueError(f'invalid "{one}" (want code or code:count)')
        if not 200 <= int(code) < 600:
            raise ValueError(f"invalid HTTP response code {code}")
        codes.append(int(code))
        weights.append(int(count or 1))
    if not any(weights):
        raise ValueError("no code has a chance")
    return random.choices(codes, weights)[0]


def echo_method(settings: Settings, log: Callable[[str], None]) -> Method:
    """The method Echo of the application's gRPC service."""
    return partial(_echo, settings, log)


def _echo(settings: Settings, log: Callable[[str], None], call: Call) -> bytes:
    try:
        found = [value for number, value in wire.fields(call.message) if number == 1 and isinstance(value, bytes)]
    except wire.WireError as error:
        raise CallError(INVALID_ARGUMENT, str(error)) from error
    message = found[-1].decode(errors="replace") if found else ""
    log(f"GRPC Request message={message}")
    told = [(name, value) for name, value in call.items if not name.endswith("-bin")]
    facts = [
        *(("Host", value) for name, value in told if name == ":authority"),
        *(("RequestHeader", f"{name}:{value}") for name, value in told if name in (":authority",) or name[0] != ":"),
        ("StatusCode", "200"),
        ("ServiceVersion", settings.version),
        ("ServicePort", str(call.port)),
        *([("Cluster", settings.cluster)] if settings.cluster else []),
        ("IP", call.client),
        *([("IstioVersion", settings.istio_version)] if settings.istio_version else []),
        ("Proto", "GRPC"),
        ("Echo", message),
        ("Hostname", socket.gethostname()),
    ]
    return wire.text(1, "".join(f"{name}={value}\n" for name, value in facts))


def health_method(_: Call) -> bytes:
    """gRPC's own health check: what runs serves."""
    return _SERVING


def bytes_answer(settings: Settings, port: int) -> bytes:
    """What goes before the bytes that a TCP connection sent."""
    facts = {
        "StatusCode": "200",
        "Cluster": settings.cluster,
        "ServiceVersion": settings.version,
        "ServicePort": str(port),
    }
    return "".join(f"{name}={value}\n" for name, value in facts.items()).encode()
