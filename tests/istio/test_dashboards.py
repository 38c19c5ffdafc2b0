# SPDX-License-Identifier: Apache-2.0
"""Our dashboards: valid JSON of the Grafana of their time, and PromQL that Prometheus accepts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.ground import config
from labkit.istio import release
from tests.istio.of_releases import DASHBOARDS, METRICS

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CASES = [
    pytest.param(version, dashboard, id=f"{version} {dashboard.title}")
    for version in config.RELEASES
    for dashboard in DASHBOARDS[version]
]
KNOWN = {
    "1.2.2": {"graph", "singlestat", "table", "text", "row"},
    "1.30.3": {"timeseries", "stat", "table", "heatmap", "text", "row"},
}


@pytest.fixture(scope="module")
def config_maps() -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for version in config.RELEASES:
        files = (*release(version).demo_files, *release(version).addon_files)
        documents = [d for file in files for d in yaml.load_all(file.read_text(), LOADER) if d]
        found[version] = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    return found


def load(config_maps: dict[str, Any], version: str, dashboard: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config_maps[version][dashboard.config_map][dashboard.file])
    return found


@pytest.mark.parametrize(("version", "dashboard"), CASES)
def test_panels(config_maps: dict[str, Any], version: str, dashboard: Any) -> None:
    panels = load(config_maps, version, dashboard)["panels"]
    assert {panel["type"] for panel in panels} <= KNOWN[version]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] for panel in panels if panel["type"] != "text")
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


@pytest.mark.parametrize(("version", "dashboard"), CASES)
def test_variables_are_defined(config_maps: dict[str, Any], version: str, dashboard: Any) -> None:
    found = load(config_maps, version, dashboard)
    defined = {variable["name"] for variable in found["templating"]["list"]}
    queries = [target["expr"] for panel in found["panels"] for target in panel.get("targets", [])]
    queries += [variable["query"] for variable in found["templating"]["list"]]
    used = {name for query in queries for name in re.findall(r"\$(\w+)", query)} - {"__rate_interval"}
    assert used <= defined


@pytest.mark.parametrize("version", config.RELEASES)
def test_prometheus_accepts_every_expression(config_maps: dict[str, Any], version: str, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    rules = []
    for dashboard in DASHBOARDS[version]:
        for panel in load(config_maps, version, dashboard)["panels"]:
            for target in panel.get("targets", []):
                expression = re.sub(r"\$\w+", "x", target["expr"].replace("$__rate_interval", "1m"))
                rules.append({"record": f"expression_{len(rules)}", "expr": expression})
    assert len(rules) > 100
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@pytest.mark.parametrize("version", config.RELEASES)
def test_metrics_of_the_mesh_are_those_of_the_release(config_maps: dict[str, Any], version: str) -> None:
    known = {metric.name for metric in METRICS[version]}
    known |= {f"{m.name}_{part}" for m in METRICS[version] for part in ("bucket", "sum", "count")}
    other = {"istio_build", "istio_mcp_clients_total"}
    if version == "1.30.3":
        # The dashboards of today still read what Mixer wrote.
        other.add("istio_request_duration_seconds_bucket")
    for dashboard in DASHBOARDS[version]:
        for panel in load(config_maps, version, dashboard)["panels"]:
            for target in panel.get("targets", []):
                used = set(re.findall(r"\bistio_\w+", target["expr"]))
                assert used <= known | other, panel["title"]


@pytest.mark.parametrize(("version", "dashboard"), CASES)
def test_a_number_that_is_not_there_is_shown_as_grafana_shows_it(
    config_maps: dict[str, Any], version: str, dashboard: Any
) -> None:
    for panel in load(config_maps, version, dashboard)["panels"]:
        if panel["type"] == "singlestat":
            assert panel["valueMaps"] == [{"op": "=", "value": "null", "text": "N/A"}], panel["title"]
