# SPDX-License-Identifier: Apache-2.0
"""Known numbers for the dashboards' tests: a fake Prometheus API, and a page of metrics for a real one."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from grafana_figures.dashboard import Dashboard, dashboards_in
from grafana_figures.promql import Api
from labkit.ground import config
from labkit.ground.errors import ClusterError
from tests.conftest import wait_until
from tests.ports import kept_port

ROOT = Path(__file__).resolve().parents[2]
GENUINE = {
    "1.2.2": ROOT.parent / "shared/releases/istio-1.2.2/install/kubernetes/istio-demo.yaml",
    "1.30.3": ROOT.parent / "shared/releases/istio-1.30.3/samples/addons/grafana.yaml",
}
OURS = {
    "1.2.2": ROOT / "labkit/istio/manifests/1.2.2/install/kubernetes/istio-demo.yaml",
    "1.30.3": ROOT / "labkit/istio/manifests/1.30.3/samples/addons/grafana.yaml",
}
RATES = {"productpage-v1": 10.0, "details-v1": 10.0, "reviews-v1": 4.0, "ratings-v1": 6.0}
"""Requests a second that the page of metrics tells of, by workload."""
STEP, HISTORY = 0.5, 150
"""Seconds from sample to sample, and from the first to the last."""

Answer = Callable[[str, dict[str, str]], Any]


def dashboards(file: Path) -> list[Dashboard]:
    """The dashboards in a manifest's ConfigMaps."""
    if not file.exists():
        pytest.skip(f"{file.name} of the genuine release is not there")
    objects = yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
    found = [dashboards_in(one.get("data") or {}) for one in objects if one and one.get("kind") == "ConfigMap"]
    return [dashboard for several in found for dashboard in several]


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port of a server with this handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class Quiet(BaseHTTPRequestHandler):
    """Answers without a log."""

    protocol_version = "HTTP/1.1"

    def reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def fake(answer: Answer) -> Iterator[str]:
    """The address of a Prometheus that answers `answer(path, parameters)`; a string is an error of Prometheus."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            given = {name: values[-1] for name, values in parse_qs(f"{parts.query}&{body}").items()}
            data = answer(parts.path.removeprefix("/api/v1/"), given)
            content: dict[str, Any] = {"status": "success", "data": data}
            if isinstance(data, str):
                content = {"status": "error", "errorType": "bad_data", "error": data}
            self.reply(400 if isinstance(data, str) else 200, "application/json", json.dumps(content).encode())

        do_POST = do_GET  # noqa: N815

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def _metrics() -> Iterator[tuple[str, float]]:
    """Every series, and how much it gains a second."""
    yield from ((f'istio_build{{component="{name}",tag="1.2.2"}}', 0.0) for name in ("pilot", "mixer", "galley"))
    for reporter, policy in (("source", "unknown"), ("destination", "mutual_tls")):
        for workload, rate in RATES.items():
            service = workload.removesuffix("-v1")
            labels = (
                f'reporter="{reporter}",connection_security_policy="{policy}",request_protocol="http",'
                'source_workload="istio-ingressgateway",source_workload_namespace="istio-system",'
                f'source_cluster="Kubernetes",destination_cluster="Kubernetes",destination_workload="{workload}",'
                f'destination_workload_namespace="bookinfo",destination_service="{service}.bookinfo.svc.cluster.local"'
            )
            yield f'istio_requests_total{{{labels},response_code="200"}}', rate
            yield f"istio_tcp_sent_bytes_total{{{labels}}}", 2000
            yield f"istio_tcp_received_bytes_total{{{labels}}}", 1000
            for name, scale in (("duration_seconds", 0.001), ("duration_milliseconds", 1.0), ("bytes", 100.0)):
                for upper, share in ((10.0, 0.5), (20.0, 1.0)):
                    yield f'istio_request_{name}_bucket{{{labels},le="{upper * scale:g}"}}', rate * share
                yield f'istio_request_{name}_bucket{{{labels},le="+Inf"}}', rate
    for upper, share in (("0.1", 0.25), ("1", 0.75), ("+Inf", 1.0)):
        yield f'pilot_xds_push_time_bucket{{type="cds",le="{upper}"}}', 8 * share


def _page(end: int) -> bytes:
    """What a scrape every `STEP` would have brought until `end`: how busy this machine is has no part in it."""
    moments = [number * STEP for number in range(round(HISTORY / STEP) + 1)]
    return "".join(
        f"{series} {1 + gain * moment} {round((end - HISTORY + moment) * 1000)}\n"
        for series, gain in _metrics()
        for moment in moments
    ).encode()


@dataclass(frozen=True)
class Seen:
    """A real Prometheus.

    Args:
        url: Where it is.
        end: Its last sample, a whole minute, in seconds since 1970.
    """

    url: str
    end: int


@contextmanager
def real(folder: Path) -> Iterator[Seen]:
    """A real Prometheus that has seen `HISTORY` seconds of the page, up to the last whole minute."""
    program = config.tool("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed: labkit setup")
    end = int(time.time()) // 60 * 60
    text = _page(end)

    class Page(Quiet):
        def do_GET(self) -> None:
            self.reply(200, "text/plain; version=0.0.4", text)

    with serving(Page) as page, kept_port() as port:
        targets = f"[{{targets: ['127.0.0.1:{page}']}}]"
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: 3s, scrape_timeout: 3s}}\n"
            f"scrape_configs: [{{job_name: page, static_configs: {targets}}}]\n"
        )
        command = [str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(Api(f"http://127.0.0.1:{port}"), end)
            text = b""
            yield Seen(f"http://127.0.0.1:{port}", end)
        finally:
            process.kill()
            process.wait()


def _wait(api: Api, end: int) -> None:
    def taken_up() -> bool:
        try:
            # A scrape is taken up whole or not at all.
            return bool(api.query("istio_requests_total", end))
        except ClusterError:
            return False

    wait_until(taken_up, what="the page to be scraped")
    api.close()
