# SPDX-License-Identifier: Apache-2.0
"""Every panel of every dashboard of both releases, against a real Prometheus with known numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from grafana_figures import Grafana
from tests.observe.grafana_numbers import GENUINE, OURS, RATES, STEP, Seen, dashboards, real

TOTAL = sum(RATES.values())


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with real(tmp_path_factory.mktemp("prometheus")) as seen:
        yield seen


def grafana(prometheus: Seen, file: Path) -> Grafana:
    return Grafana(prometheus.url, dashboards(file), interval=f"{STEP * 1000:g}ms")


@pytest.mark.genuine
@pytest.mark.parametrize("release", GENUINE)
def test_every_panel_is_drawn(prometheus, release):
    drawing = grafana(prometheus, GENUINE[release])
    assert len(drawing.dashboards) == 7
    for dashboard in drawing.dashboards:
        drawn = drawing.draw(dashboard.title, window="10s", end=prometheus.end)
        assert [(panel.title, panel.reason) for panel in drawn.missing] == []
        assert len(drawn) >= len(dashboard.specs)
        for panel in drawn:
            assert set(panel.figure) == {"data", "layout"}
            assert "$" not in panel.title
            assert not any(re.search(r"\$[{_a-z]", query) for query in panel.queries), panel.queries
            json.dumps(panel.figure, allow_nan=False)


@pytest.mark.parametrize("release", OURS)
def test_every_panel_of_our_own_is_drawn(prometheus, release):
    drawing = grafana(prometheus, OURS[release])
    for dashboard in drawing.dashboards:
        assert drawing.draw(dashboard.title, window="10s", end=prometheus.end).missing == []


def test_our_own_table_shows_the_columns_of_the_genuine_one(prometheus):
    drawn = grafana(prometheus, OURS["1.30.3"]).draw("mesh", window="10s", end=prometheus.end)
    columns = drawn.panel("HTTP/gRPC Workloads").table.columns
    numbers = ["Requests", "P50 Latency", "P90 Latency", "P99 Latency", "Success Rate"]
    assert list(columns) == ["Service", "Workload", *numbers]


@pytest.mark.genuine
@pytest.mark.parametrize(("release", "title"), [("1.2.2", "Global Request Volume"), ("1.30.3", "Traffic Volume")])
def test_the_mesh_dashboard_shows_the_load(prometheus, release, title):
    panel = grafana(prometheus, GENUINE[release]).draw("mesh", window="3s", end=prometheus.end).panel(title)
    assert panel.value == pytest.approx(TOTAL)
    assert panel.unit in ("ops", "reqps")
    assert panel.figure["layout"]["annotations"][0]["text"].endswith(("ops/s</b>", "req/s</b>"))


@pytest.mark.genuine
@pytest.mark.parametrize(("release", "volume"), [("1.2.2", False), ("1.30.3", True)])
def test_the_table_of_workloads(prometheus, release, volume):
    title = "HTTP/gRPC Workloads" if volume else "HTTP/GRPC Workloads"
    panel = grafana(prometheus, GENUINE[release]).draw("mesh", window="10s", end=prometheus.end).panel(title)
    names = ["Requests", "P50 Latency", "P90 Latency", "P99 Latency", "Success Rate"]
    table = panel.table.set_index("Workload").sort_index()
    assert list(table.columns) == ["Service", *names]
    assert list(table.index) == [f"{name}.bookinfo" for name in sorted(RATES)]
    assert table.loc["details-v1.bookinfo", "Service"] == "details.bookinfo.svc.cluster.local"
    assert table["Success Rate"].tolist() == [1.0] * 4
    unit = 1.0 if volume else 0.001
    assert table["P50 Latency"].tolist() == pytest.approx([10 * unit] * 4)
    assert table["P99 Latency"].tolist() == pytest.approx([19.8 * unit] * 4)
    assert table["Requests"].tolist() == pytest.approx([RATES[name] for name in sorted(RATES)])
    shown = panel.figure["data"][0]["cells"]["values"]
    assert "100.00%" in shown[-1]
    assert shown[3][0] == ("10.00 ms")


@pytest.mark.genuine
@pytest.mark.parametrize("release", GENUINE)
def test_the_service_dashboard_of_one_service(prometheus, release):
    chosen = {"service": "reviews.bookinfo.svc.cluster.local"}
    drawn = grafana(prometheus, GENUINE[release]).draw("service", chosen, window="3s", end=prometheus.end)
    assert drawn.panel("Client Request Volume").value == pytest.approx(RATES["reviews-v1"])
    assert drawn.panel("Server Success Rate (non-5xx responses)").value == 1.0
    durations = drawn.panel("Client Request Duration")
    assert list(durations.values) == ["P50", "P90", "P99"]
    by_source = next(panel for panel in drawn if panel.title.lower().startswith("incoming requests by source"))
    assert any(name.startswith("istio-ingressgateway.istio-system : 200") for name in by_source.values)


@pytest.mark.genuine
def test_the_heatmap_has_buckets_of_their_own(prometheus):
    drawn = grafana(prometheus, GENUINE["1.30.3"]).draw("control plane", window="3m", end=prometheus.end)
    panel = drawn.panel("Push Time")
    (trace,) = panel.figure["data"]
    assert trace["type"] == "heatmap"
    assert trace["y"] == ["100 ms", "1 s", "more"]
    last = [[value for value in row if value is not None][-1] for row in trace["z"]]
    # A quarter, a half and a quarter of the pushes.
    assert last[1] == pytest.approx(2 * last[0])
    assert last[2] == pytest.approx(last[0])
