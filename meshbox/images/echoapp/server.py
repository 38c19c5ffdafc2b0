# SPDX-License-Identifier: Apache-2.0
"""The echo application's process: its ports, as the command line has them."""

from __future__ import annotations

import argparse
import os
import socketserver
import sys
import threading
import time
from functools import partial

from labkit.ground.web import App, Request, Response, real_port, serve
from meshbox.exposition import CONTENT_TYPE, exposition, process
from meshbox.images.echoapp.answers import (
    ECHO,
    HEALTH,
    Settings,
    bytes_answer,
    echo_method,
    health_method,
    http_app,
)
from meshbox.images.echoapp.forward import FORWARD, forward
from meshbox.images.grpc import server as grpc

__all__ = ["main"]

_PORTS = ("port", "grpc", "tcp", "server-first", "bind-ip", "bind-localhost", "instance-ip", "localhost-ip")
_NOT_HERE = ("tls", "udp", "hbone", "uds", "xds-grpc-server", "endpoint-picker")
_BLOCK = 4096


def _log(words: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}Z\tinfo\tepserver\t{words}", flush=True)


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="server", allow_abbrev=False)
    for name in (*_PORTS, *_NOT_HERE):
        parser.add_argument(f"--{name}", action="append", default=[])
    for name in ("metrics", "version", "cluster", "istio-version", "crt", "key", "namespace", "ca"):
        parser.add_argument(f"--{name}", default="")
    for name in ("disable-alpn",):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(words)


def _numbers(given: list[str]) -> list[int]:
    return [int(one) for words in given for one in words.split(",") if one.isdigit()]


class _Bytes(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def _raw(settings: Settings, port: int, first: bool) -> _Bytes:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                if first:
                    self.request.sendall(b"server-first-protocol\n")
                data = self.request.recv(_BLOCK)
                self.request.sendall(bytes_answer(settings, port) + data)
            except ConnectionError:
                # The client is gone, and with it whoever could be told.
                return

    return _Bytes((os.environ.get("LABKIT_BIND", ""), real_port(port)), Handler)


def _metrics(request: Request) -> Response:
    if request.path != "/metrics":
        return Response(404, "404 page not found\n", content_type="text/plain")
    return Response(200, exposition(process()), content_type=CONTENT_TYPE)


def main() -> int:
    """Entry of the image."""
    given = vars(_arguments(sys.argv[1:]))
    settings = Settings(given["version"], given["cluster"], given["istio_version"])
    for name in _NOT_HERE:
        for port in given[name.replace("-", "_")]:
            plain = "served as plain gRPC" if name == "xds-grpc-server" and port in given["grpc"] else "left out"
            _log(f"--{name} {port} is not played by the sandbox: it is {plain}")
    secured = set(_numbers(given["tls"]))
    apps: dict[int, App] = {
        port: http_app(settings, port, _log) for port in _numbers(given["port"]) if port not in secured
    }
    if given["metrics"].isdigit():
        apps[int(given["metrics"])] = _metrics
    methods = {ECHO: echo_method(settings, _log), HEALTH: health_method, FORWARD: forward}
    try:
        for port in _numbers(given["grpc"]):
            if port not in secured:
                grpc.listen(port, methods, os.environ.get("LABKIT_BIND", "127.0.0.1"))
                _log(f"Listening GRPC on {port}")
        for port in _numbers(given["tcp"]):
            if port not in secured:
                raw = _raw(settings, port, port in _numbers(given["server_first"]))
                threading.Thread(target=raw.serve_forever, daemon=True).start()
                _log(f"Listening TCP on {port}")
    except OSError as error:
        print(f"cannot listen: {error.strerror}", file=sys.stderr)
        return 1
    return serve(apps, started=partial(_log, f"Listening HTTP/1.1 on {', '.join(map(str, apps))}"))
