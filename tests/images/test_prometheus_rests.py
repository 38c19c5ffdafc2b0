# SPDX-License-Identifier: Apache-2.0
"""The real Prometheus, stopped and continued: its series go on, and a question is answered with what has come since."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from labkit.ground import config, web
from labkit.ground.web import Request, Response
from meshbox.images.prometheus import pace as module
from meshbox.images.prometheus.pace import Pace
from meshbox.images.prometheus.program import Program
from meshbox.images.prometheus.scrapes import Scrapes
from meshbox.images.prometheus.server import _free_port, door, forward
from tests.conftest import wait_until

pytestmark = pytest.mark.long

SERIES = "istio_requests_total"


class Mesh:
    """One proxy with one count, the door, and a Prometheus behind it."""

    def __init__(self, folder: Path, command: Path) -> None:
        self.count = 0
        (self._pod,) = web.listen({0: self._page}, "127.0.0.1")
        self.scrapes = Scrapes("127.0.")
        self.port = _free_port("127.0.0.1")
        program = Program("127.0.0.1", self.port, "nobody asks for it")
        self.pace = Pace(program, self.scrapes, lambda: None)
        self.scrapes.told = self.pace.touch
        (self._door,) = web.listen({0: door(forward(program, self.pace), self._page, self.scrapes)}, "127.0.0.1")
        job = {
            "job_name": "proxies",
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "metrics_path": "/stats/prometheus",
            "proxy_url": f"http://127.0.0.1:{self._door.server_address[1]}",
            "static_configs": [{"targets": [f"127.0.0.1:{self._pod.server_address[1]}"]}],
            "metric_relabel_configs": [
                {"source_labels": ["__name__"], "regex": "envoy_(.*)", "target_label": "__name__", "replacement": "$1"}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
        flags = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        address = f"--web.listen-address=127.0.0.1:{self.port}"
        self.process = subprocess.Popen([command, *flags, address, "--log.level=error"])
        program.runs_as(self.process)

    def _page(self, request: Request) -> Response:
        text = f'envoy_{SERIES}{{to="a"}} {self.count}\nenvoy_server_uptime{{}} 7\n'
        return Response(200, text, content_type="text/plain")

    def query(self, expression: str) -> list[dict[str, object]]:
        request = Request("GET", f"/api/v1/query?query={quote(expression)}", {"host": "p"}, b"", "127.0.0.1", [])
        answer = self._door.app(request)
        if answer.status != 200:
            return []
        assert isinstance(answer.body, bytes)
        found: list[dict[str, object]] = json.loads(answer.body)["data"]["result"]
        return found

    def values(self, expression: str) -> list[float]:
        return [float(one["value"][1]) for one in self.query(expression)]  # type: ignore[index]

    @property
    def stopped(self) -> bool:
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def rest(self) -> None:
        self.pace._last -= module.PATIENCE + 1

        def rests() -> bool:
            self.pace.step()
            return self.pace.resting

        wait_until(rests, 60, "a Prometheus that rests")
        wait_until(lambda: self.stopped, 60, "a process that is stopped")

    def close(self) -> None:
        self.pace.end()
        self.process.terminate()
        self.process.wait(60)
        self.scrapes.close()
        self._door.server_close()
        self._pod.server_close()


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    command = config.tool("prometheus")
    if command is None:
        pytest.skip("there is no Prometheus on this machine")
    with closing(Mesh(tmp_path, command)) as made:
        wait_until(lambda: made.values(SERIES) == [0], 60, "the first sample")
        yield made


def test_a_question_is_answered_with_what_came_while_it_rested(mesh: Mesh) -> None:
    for expected in (5, 12):
        mesh.rest()
        mesh.count = expected
        assert mesh.values(SERIES) == [expected]
        assert not mesh.stopped


def test_a_burst_of_requests_lies_between_two_samples_of_after_the_pause(mesh: Mesh) -> None:
    mesh.rest()
    mesh.count = 40
    # Prometheus moves a sample by up to 2 ms, to where it was due; the last one from before is much older.
    asked = time.time() - 0.005
    (series,) = mesh.query(f"{SERIES}[5m]")
    samples = [(at, int(value)) for at, value in series["values"] if at >= asked]  # type: ignore[attr-defined]
    assert [value for _, value in samples] == [0, *[40] * (len(samples) - 1)]
    assert len(samples) >= 2


def test_series_go_on_through_rounds(mesh: Mesh) -> None:
    mesh.rest()
    (before,) = (one["value"][0] for one in mesh.query(f"timestamp({SERIES})"))  # type: ignore[index]
    mesh.rest()
    for _ in range(3):
        mesh.pace._rounded -= module.ROUND + 1
        began = time.time()
        mesh.pace.step()
        wait_until(lambda: mesh.stopped or not mesh.pace.resting, 60, "the end of the round")
        (sampled,) = mesh.values(f"timestamp({SERIES})")
        assert sampled >= began > before
        mesh.rest()


def test_it_ends_though_it_is_stopped(mesh: Mesh) -> None:
    mesh.rest()
    mesh.pace.end()
    mesh.process.terminate()
    assert mesh.process.wait(60) == 0
