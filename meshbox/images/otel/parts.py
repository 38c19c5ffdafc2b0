# SPDX-License-Identifier: Apache-2.0
"""What spans go through in a collector, and where they end: processors and exporters."""

from __future__ import annotations

import json
import os
import queue
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meshbox.images.grpc.client import call
from meshbox.images.grpc.server import CallError
from meshbox.images.otel.configuration import kind_of, seconds
from meshbox.images.otel.printed import summary, whole
from meshbox.images.otlp.receiving import EXPORT, RefusedError
from meshbox.images.otlp.spans import Span, to_request, to_zipkin

__all__ = ["Next", "exporter", "log", "processor"]

Json = dict[str, Any]
Next = Callable[[list[Span]], None]

_QUEUE = 1000
_FIRST, _LONGEST, _ALTOGETHER = 5.0, 30.0, 300.0
"""Seconds: how long is waited before what failed is sent again, at most, and after which it is dropped."""


def log(level: str, words: str, **more: Any) -> None:
    """A line of the collector's log."""
    now = time.time()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    print("\t".join([moment, level, words, *([json.dumps(more)] if more else [])]), file=sys.stderr, flush=True)


def processor(name: str, settings: Json, following: Next) -> Next:
    """A processor; one that is not played passes spans on.

    Args:
        name: Its id.
        settings: Its own.
        following: What comes after it.
    """
    kind = kind_of(name)
    if kind == "batch":
        return _Batch(settings, following).take
    return _limited(settings, following) if kind == "memory_limiter" else following


class _Batch:
    """Gathers spans until there are enough, or time is up."""

    def __init__(self, settings: Json, following: Next) -> None:
        self._wait = seconds(settings.get("timeout"), 0.2)
        self._size = int(settings.get("send_batch_size") or 8192)
        self._most = int(settings.get("send_batch_max_size") or 0)
        self._following = following
        self._held: list[Span] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def take(self, spans: list[Span]) -> None:
        with self._changed:
            self._held += spans
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held)
                self._changed.wait_for(lambda: len(self._held) >= self._size, self._wait)
                most = self._most or len(self._held)
                taken, self._held = self._held[:most], self._held[most:]
            self._following(taken)


def _limited(settings: Json, following: Next) -> Next:
    """Spans are refused while this process holds more memory than the limit, less what is kept for spikes."""
    limit = int(settings.get("limit_mib") or 0)
    if not limit:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20)
        limit = pages * int(settings.get("limit_percentage") or 0) // 100
    spike = (
        int(settings.get("spike_limit_mib") or 0) or limit * int(settings.get("spike_limit_percentage") or 20) // 100
    )

    def take(spans: list[Span]) -> None:
        held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // (1 << 20)
        if held > limit - spike:
            raise RefusedError("data refused due to high memory usage")
        following(spans)

    return take


def exporter(name: str, settings: Json) -> Next:
    """Where spans end; one that is not played drops them.

    Args:
        name: Its id.
        settings: Its own.
    """
    kind = kind_of(name)
    if kind in ("debug", "logging"):
        return _printing(name, settings)
    senders: Mapping[str, Callable[[Json], Next]] = {
        **dict.fromkeys(("otlp", "otlp_grpc"), _grpc),
        **dict.fromkeys(("otlphttp", "otlp_http"), _http),
        "zipkin": _zipkin,
    }
    if kind not in senders:
        return lambda spans: None
    return _Sender(name, settings, senders[kind](settings)).take


def _printing(name: str, settings: Json) -> Next:
    # The logging exporter's own words were zap's levels.
    level = str(settings.get("verbosity") or {"debug": "detailed"}.get(str(settings.get("loglevel")), "normal"))
    about = {"kind": "exporter", "data_type": "traces", "name": name}

    def take(spans: list[Span]) -> None:
        more = {
            **about,
            "resource spans": len({json.dumps(s.resource, default=str) for s in spans}),
            "spans": len(spans),
        }
        log("info", "Traces", **more)
        if level != "basic":
            print(whole(spans) if level == "detailed" else summary(spans), file=sys.stderr, flush=True)

    return take


class _Sender:
    """Sends in a thread of its own what is queued, and again what could not be sent."""

    def __init__(self, name: str, settings: Json, send: Next) -> None:
        self._name, self._send = name, send
        again = settings.get("retry_on_failure")
        again = again if isinstance(again, dict) else {}
        self._again = again.get("enabled") is not False
        self._first = seconds(again.get("initial_interval"), _FIRST)
        self._longest = seconds(again.get("max_interval"), _LONGEST)
        self._altogether = seconds(again.get("max_elapsed_time"), _ALTOGETHER)
        self._queue: queue.Queue[list[Span]] = queue.Queue(_QUEUE)
        threading.Thread(target=self._run, daemon=True).start()

    def take(self, spans: list[Span]) -> None:
        try:
            self._queue.put_nowait(spans)
        except queue.Full:
            log("error", "Exporting failed. Rejecting data.", name=self._name, error="sending queue is full",
                rejected_items=len(spans))  # fmt: skip

    def _run(self) -> None:
        while True:
            self._deliver(self._queue.get())

    def _deliver(self, spans: list[Span]) -> None:
        pause, end = self._first, time.monotonic() + self._altogether
        while True:
            try:
                self._send(spans)
                return
            except (CallError, OSError, ValueError) as error:
                words = str(error)
            if not self._again or time.monotonic() + pause > end:
                log("error", "Exporting failed. Dropping data.", name=self._name, error=words, dropped_items=len(spans))
                return
            log("info", "Exporting failed. Will retry the request after interval.", name=self._name, error=words,
                interval=f"{pause:g}s")  # fmt: skip
            time.sleep(pause)
            pause = min(pause * 1.5, self._longest)


def _tls(settings: Json) -> ssl.SSLContext | None:
    tls = settings.get("tls")
    tls = tls if isinstance(tls, dict) else {}
    if tls.get("insecure"):
        return None
    context = ssl.create_default_context(cafile=tls.get("ca_file"))
    if tls.get("insecure_skip_verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def _headers(settings: Json) -> list[tuple[str, str]]:
    given = settings.get("headers")
    return [(str(k).lower(), str(v)) for k, v in given.items()] if isinstance(given, dict) else []


def _grpc(settings: Json) -> Next:
    scheme, found, rest = str(settings["endpoint"]).partition("://")
    where = rest if found else scheme
    # As with the real one, an endpoint of http:// is plain, whatever is said of TLS.
    tls = None if found and scheme == "http" else _tls(settings)
    timeout = seconds(settings.get("timeout"), 5.0)

    def send(spans: list[Span]) -> None:
        call(where, EXPORT, to_request(spans), headers=_headers(settings), seconds=timeout, tls=tls)

    return send


def _http(settings: Json) -> Next:
    url = str(settings.get("traces_endpoint") or f"{str(settings.get('endpoint')).rstrip('/')}/v1/traces")
    return lambda spans: _post(url, to_request(spans), "application/x-protobuf", settings)


def _zipkin(settings: Json) -> Next:
    url = str(settings["endpoint"])
    return lambda spans: _post(url, json.dumps([to_zipkin(s) for s in spans]).encode(), "application/json", settings)


def _post(url: str, body: bytes, kind: str, settings: Json) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f'Post "{url}": unsupported protocol scheme')
    request = urllib.request.Request(url, body, {"Content-Type": kind, **dict(_headers(settings))})
    context = _tls({"tls": settings.get("tls")}) if url.startswith("https:") else None
    with urllib.request.urlopen(request, timeout=seconds(settings.get("timeout"), 5.0), context=context) as answer:
        answer.read()
