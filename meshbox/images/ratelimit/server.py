# SPDX-License-Identifier: Apache-2.0
"""The program: limits over gRPC and JSON, and what it has loaded and counted at its debug port."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from labkit.ground.guard import refusal
from labkit.ground.web import App, Request, Response, json_response, serve
from meshbox.images import libraries
from meshbox.images.grpc import server as grpc
from meshbox.images.grpc import wire
from meshbox.images.guarded import guarded
from meshbox.images.ratelimit.files import Files
from meshbox.images.ratelimit.log import Log
from meshbox.images.ratelimit.messages import OVER_LIMIT, Asked, BadRequestError
from meshbox.images.ratelimit.service import RefusedError, Service
from meshbox.images.ratelimit.settings import Settings, SettingsError
from meshbox.images.ratelimit.store import Redis, StoreError

__all__ = ["HEALTH", "SHOULD_RATE_LIMIT", "debug", "main", "methods", "plain"]

SHOULD_RATE_LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
HEALTH = "/grpc.health.v1.Health/Check"
_UNKNOWN, _NOT_FOUND = 2, 5
_SERVING, _NOT_SERVING = 1, 2
_LOOK_SECONDS = 1.0


def healthy(service: Service, settings: Settings) -> bool:
    """Whether the program calls itself so."""
    wanted = settings.flag("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED")
    return not wanted or not (service.config is None or service.config.empty)


def methods(service: Service, settings: Settings) -> dict[str, grpc.Method]:
    """What is answered over gRPC."""

    def decide(call: grpc.Call) -> bytes:
        try:
            return service.should_rate_limit(Asked.read(call.message)).protobuf()
        except BadRequestError as error:
            raise grpc.CallError(grpc.INTERNAL, f"grpc: error unmarshalling request: {error}") from None
        except RefusedError as error:
            raise grpc.CallError(_UNKNOWN, str(error)) from None

    def check(call: grpc.Call) -> bytes:
        name = next((value for number, value in wire.fields(call.message) if number == 1), b"")
        if name not in (b"", b"ratelimit"):
            raise grpc.CallError(_NOT_FOUND, "unknown service")
        return wire.number(1, _SERVING if not name or healthy(service, settings) else _NOT_SERVING)

    return {SHOULD_RATE_LIMIT: decide, HEALTH: check}


def _text(status: int, words: str) -> Response:
    return Response(status, words, content_type="text/plain; charset=utf-8")


def plain(service: Service, settings: Settings, log: Log) -> App:
    """What is answered over HTTP: /healthcheck, and the same decisions at /json."""

    def app(request: Request) -> Response:
        # Programs call it by any name that the cluster has; what a page of a browser sends says so.
        if reason := refusal(request.method, "", request.headers.get("origin", ""), nameless=True):
            return _text(403, f"{reason}\n")
        if request.path == "/healthcheck":
            return _text(200, "OK") if healthy(service, settings) else _text(500, "")
        if request.path != "/json":
            return _text(404, "404 page not found\n")
        try:
            answer = service.should_rate_limit(Asked.read_json(request.body))
        except (BadRequestError, RefusedError) as error:
            log.warning(f"error: {error}")
            return _text(400, "Bad Request\n")
        made = json_response(answer.json(), 429 if answer.code == OVER_LIMIT else 200)
        made.body = json.dumps(answer.json(), separators=(",", ":"), ensure_ascii=False)
        return made

    return app


def debug(service: Service) -> App:
    """What the debug port tells."""

    def app(request: Request) -> Response:
        if request.path == "/rlconfig":
            return _text(200, service.config.dump() if service.config is not None else "")
        if request.path == "/stats":
            return _text(200, service.statistics())
        return _text(
            200,
            "/rlconfig: print out the currently loaded configuration for debugging\n/stats: print out stats\n",
        )

    return guarded(app)


def _follow(service: Service, files: Files, log: Log, seen: tuple[object, ...]) -> None:
    """Load the files anew whenever they change."""
    while True:
        time.sleep(_LOOK_SECONDS)
        now = files.state()
        if now != seen:
            seen = now
            log.debug("got runtime update and reloading config")
            service.load(files.read())


def main() -> int:
    """Entry of the image."""
    libraries.take()
    try:
        settings = Settings(os.environ)
        log = Log(settings.text("LOG_LEVEL"), settings.text("LOG_FORMAT"))
    except ValueError as error:
        known = isinstance(error, SettingsError)
        Log().fatal(str(error) if known else f"Could not parse log level. {error}\n")
        return 1
    log.warning("this is the workshop's stand-in for envoyproxy/ratelimit")
    for words in settings.left_out():
        log.warning(words)
    files = Files(settings, Path(os.environ.get("LABKIT_ROOT", "/")), log)
    if not files.watched.is_dir():
        log.fatal(f"unable to create runtime watcher: {files.inside}: no such file or directory")
        return 1
    size = settings.number("REDIS_POOL_SIZE")
    login = settings.text("REDIS_AUTH")
    store = Redis(settings.text("REDIS_URL"), settings.text("REDIS_SOCKET_TYPE"), login, size)
    log.warning(f"connecting to redis on {store.url.rpartition('@')[2]} with pool size {size}")
    try:
        store.ask([["PING"]])
    except StoreError as error:
        print(f"panic: {error}", file=sys.stderr, flush=True)
        return 2
    return _run(settings, Service(settings, store, log), files, log)


def _run(settings: Settings, service: Service, files: Files, log: Log) -> int:
    seen = files.state()
    service.load(files.read())
    threading.Thread(target=_follow, args=(service, files, log, seen), daemon=True).start()

    def listening(kind: str, name: str) -> None:
        host = settings.text(f"{name}HOST")
        shown = f"[{host}]" if ":" in host else host
        log.warning(f"Listening for {kind} on '{shown}:{settings.number(f'{name}PORT')}'")

    try:
        port = settings.number("GRPC_PORT")
        grpc.listen(port, methods(service, settings), os.environ.get("LABKIT_BIND", "127.0.0.1"))
    except OSError as error:
        log.fatal(f"Failed to listen for gRPC: {error.strerror}")
        return 1

    def started() -> None:
        for kind, name in (("debug", "DEBUG_"), ("gRPC", "GRPC_"), ("HTTP", "")):
            listening(kind, name)

    apps = {settings.number("PORT"): plain(service, settings, log), settings.number("DEBUG_PORT"): debug(service)}
    return serve(apps, started=started)
