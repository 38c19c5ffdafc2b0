# SPDX-License-Identifier: Apache-2.0
"""The collector's process: what its configuration says, from the first receiver to the last exporter."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from labkit.ground.web import App, Request, Response, json_response, listen, serve
from meshbox.exposition import CONTENT_TYPE, exposition, gauge, process
from meshbox.images.grpc import server as grpc
from meshbox.images.otel.configuration import ConfigurationError, Plan, address, gate, kind_of, plan
from meshbox.images.otel.parts import Next, exporter, log, processor
from meshbox.images.otel.zipkin_receiver import zipkin_http
from meshbox.images.otlp.receiving import RefusedError, otlp_http, otlp_methods
from meshbox.images.otlp.spans import Span

__all__ = ["Collector", "main"]

_METRICS = "localhost:8888"


class Collector:
    """What a plan is played by.

    Args:
        what: The plan.
    """

    def __init__(self, what: Plan) -> None:
        self._plan = what
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, str], int] = {}
        self.ports: dict[str, int] = {}
        """Where it listens, by the id of the part, with "/grpc" or "/http" for OTLP's, and "metrics"."""
        exporters = {
            name: partial(self._sent, name, exporter(name, what.parts["exporters"][name]))
            for name in dict.fromkeys(one for pipeline in what.pipelines for one in pipeline.exporters)
            if name in what.parts["exporters"]
        }
        self._entries: dict[str, list[Next]] = {}
        for pipeline in what.pipelines:
            first = _to_all([exporters[one] for one in pipeline.exporters if one in exporters])
            for one in reversed(pipeline.processors):
                first = processor(one, what.parts["processors"][one], first)
            for one in pipeline.receivers:
                self._entries.setdefault(one, []).append(first)

    def start(self) -> None:
        """Open all ports.

        Raises:
            ConfigurationError: an address is not the pod's.
            OSError: a port cannot be bound.
        """
        for name in self._entries:
            settings = self._plan.parts["receivers"].get(name, {})
            if kind_of(name) == "otlp":
                self._otlp(name, settings.get("protocols") or {})
            elif kind_of(name) == "zipkin":
                self._serve(name, self._where(settings, 9411), zipkin_http(partial(self._received, name)))
        if any(kind_of(one) == "health_check" for one in self._plan.extensions):
            name = next(one for one in self._plan.extensions if kind_of(one) == "health_check")
            self._serve(name, self._where(self._plan.parts["extensions"][name], 13133), _healthy)
        self._serve("metrics", address(_metrics_at(self._plan.telemetry), _METRICS), self._metrics)

    def _serve(self, name: str, where: tuple[str, int], app: App) -> None:
        (server,) = listen({where[1]: app}, where[0])
        self.ports[name] = server.server_address[1]

    def _where(self, settings: Mapping[str, Any], port: int) -> tuple[str, int]:
        return address(settings.get("endpoint"), f"{'0.0.0.0' if self._plan.everywhere else 'localhost'}:{port}")

    def _otlp(self, name: str, protocols: Mapping[str, Any]) -> None:
        take, extensions = partial(self._received, name), self._plan.parts["extensions"]
        gates = {how: gate((said or {}).get("auth"), extensions) for how, said in protocols.items()}
        if "grpc" in protocols:
            host, port = self._where(protocols["grpc"] or {}, 4317)
            self.ports[f"{name}/grpc"] = grpc.listen(port, otlp_methods(take, gates["grpc"]), host).server_address[1]
            log("info", "Starting GRPC server", endpoint=f"{host}:{port}", name=name)
        if "http" in protocols:
            self._serve(f"{name}/http", self._where(protocols["http"] or {}, 4318), otlp_http(take, gates["http"]))

    def _received(self, name: str, spans: list[Span], transport: str, _size: int) -> None:
        try:
            for entry in self._entries[name]:
                entry(spans)
        except RefusedError:
            self._count("receiver_refused", name, transport, len(spans))
            raise
        self._count("receiver_accepted", name, transport, len(spans))

    def _sent(self, name: str, following: Next, spans: list[Span]) -> None:
        following(spans)
        self._count("exporter_sent", name, "", len(spans))

    def _count(self, what: str, name: str, transport: str, number: int) -> None:
        with self._lock:
            key = what, name, transport
            self._counts[key] = self._counts.get(key, 0) + number

    def _metrics(self, request: Request) -> Response:
        if request.path != "/metrics":
            return Response(404, "404 page not found\n", content_type="text/plain")
        with self._lock:
            counts = dict(self._counts)
        pages = []
        for what, label in (("receiver_accepted", "receiver"), ("receiver_refused", "receiver"),
                            ("exporter_sent", "exporter")):  # fmt: skip
            found = [
                ({label: name, **({"transport": transport} if transport else {})}, float(number))
                for (kind, name, transport), number in counts.items()
                if kind == what
            ]
            pages.append(gauge(f"otelcol_{what}_spans_total", "Number of spans.", found, "counter"))
        return Response(200, exposition(*pages, process()), content_type=CONTENT_TYPE)


def _metrics_at(telemetry: Mapping[str, Any]) -> str | None:
    """Where the collector's own metrics are, as old and new configurations say it."""
    metrics = telemetry.get("metrics")
    if not isinstance(metrics, dict):
        return None
    if isinstance(metrics.get("address"), str):
        return str(metrics["address"])
    for reader in metrics.get("readers") or []:
        try:
            found = reader["pull"]["exporter"]["prometheus"]
            return f"{found['host']}:{found['port']}"
        except (KeyError, TypeError):
            continue
    return None


def _healthy(_: Request) -> Response:
    return json_response(
        {"status": "Server available", "about": "the workshop's stand-in for the OpenTelemetry collector"}
    )


def _to_all(targets: list[Next]) -> Next:
    def take(spans: list[Span]) -> None:
        for target in targets:
            target(spans)

    return take


def main() -> int:
    """Entry of the collector's images; `LABKIT_OTEL` holds its configuration, or why there is none."""
    given = json.loads(os.environ["LABKIT_OTEL"])
    try:
        if given.get("problem"):
            raise ConfigurationError(given["problem"])
        what = plan(given["config"], given["tag"])
        log("info", "the workshop's stand-in for the OpenTelemetry collector")
        for note in what.notes:
            log("warn", note)
        collector = Collector(what)
        collector.start()
    except (ConfigurationError, OSError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(f"Error: {words}", file=sys.stderr, flush=True)
        return 1
    log("info", "Everything is ready. Begin running and processing data.")
    return serve({})
