# SPDX-License-Identifier: Apache-2.0
"""The grafana image: a program of its own that finds its files where the pod's volumes really are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from meshbox.images import references as registry
from tests.conftest import PATIENCE, wait_until
from tests.ports import kept_port


def test_the_pods_program_serves_its_dashboards(tmp_path: Path):
    board = tmp_path / "var/lib/grafana/dashboards/istio/one.json"
    board.parent.mkdir(parents=True)
    board.write_text('{"title": "One", "panels": []}')
    inside = "/var/lib/grafana/dashboards/istio/one.json"
    image = registry.find("docker.io/grafana/grafana:12.0.1")
    context = SimpleNamespace(
        argv=image.entrypoint, mounts={inside: board}, path=lambda path: tmp_path / path.lstrip("/"), env={}
    )
    launch = registry.launch(image, context)
    assert launch.argv == (sys.executable, "-m", "grafana_figures.server")
    assert json.loads(launch.env["LABKIT_MOUNTS"]) == {inside: str(board)}
    with kept_port() as port:
        _answers(launch, port)


def _answers(launch: Any, port: int) -> None:
    own = {"LABKIT_BIND": "127.0.0.1", "GF_SERVER_HTTP_PORT": f"{port}"}
    own |= {"LABKIT_IMAGE": "docker.io/grafana/grafana:12.0.1"}
    process = subprocess.Popen(launch.argv, env={**os.environ, **launch.env, **own}, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"Grafana 12.0.1: the workshop's stand-in, 1 dashboards, port {port}\n"
        found = json.loads(_get(f"http://127.0.0.1:{port}/api/search"))
        assert [(one["title"], one["url"]) for one in found] == [("One", "/d/one/one")]
        assert json.loads(_get(f"http://127.0.0.1:{port}/api/health"))["version"] == "12.0.1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _get(url: str) -> bytes:
    def asked() -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            return b""

    return bytes(wait_until(asked, what=url))


def test_drawing_needs_neither_pandas_nor_plotly():
    code = (
        "import sys, grafana_figures.server\n"
        "assert not {'pandas', 'numpy', 'plotly', 'aiohttp', 'labkit.cluster'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
