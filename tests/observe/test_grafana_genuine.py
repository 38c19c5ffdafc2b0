"""Every panel of every dashboard of both releases, against a real Prometheus with known numbers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from labkit.observe.grafana import Grafana
from tests.observe.grafana_numbers import GENUINE, OURS, RATES, dashboards, real

TOTAL = sum(RATES.values())


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real(tmp_path_factory.mktemp("prometheus")) as url:
        yield url


def grafana(prometheus: str, file: object) -> Grafana:
    return Grafana(prometheus, dashboards(file), interval="500ms")


@pytest.mark.genuine
@pytest.mark.parametrize("release", GENUINE)
def test_every_panel_is_drawn(prometheus, release):
    drawing = grafana(prometheus, GENUINE[release])
    assert len(drawing.dashboards) == 7
    for dashboard in drawing.dashboards:
        drawn = drawing.draw(dashboard.title, window="10s")
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
        assert drawing.draw(dashboard.title, window="10s").missing == []


@pytest.mark.genuine
@pytest.mark.parametrize(("release", "title"), [("1.2.2", "Global Request Volume"), ("1.30.3", "Traffic Volume")])
def test_the_mesh_dashboard_shows_the_load(prometheus, release, title):
    panel = grafana(prometheus, GENUINE[release]).draw("mesh", window="3s").panel(title)
    assert panel.value == pytest.approx(TOTAL, rel=0.12)
    assert panel.unit in ("ops", "reqps")
    assert panel.figure["layout"]["annotations"][0]["text"].endswith(("ops/s</b>", "req/s</b>"))


@pytest.mark.genuine
@pytest.mark.parametrize(("release", "volume"), [("1.2.2", False), ("1.30.3", True)])
def test_the_table_of_workloads(prometheus, release, volume):
    title = "HTTP/gRPC Workloads" if volume else "HTTP/GRPC Workloads"
    panel = grafana(prometheus, GENUINE[release]).draw("mesh", window="10s").panel(title)
    names = ["Requests", "P50 Latency", "P90 Latency", "P99 Latency", "Success Rate"]
    table = panel.table.set_index("Workload").sort_index()
    assert list(table.columns) == ["Service", *names]
    assert list(table.index) == [f"{name}.bookinfo" for name in sorted(RATES)]
    assert table.loc["details-v1.bookinfo", "Service"] == "details.bookinfo.svc.cluster.local"
    assert table["Success Rate"].tolist() == [1.0] * 4
    unit = 1.0 if volume else 0.001
    assert table["P50 Latency"].tolist() == pytest.approx([10 * unit] * 4)
    assert table["P99 Latency"].tolist() == pytest.approx([19.8 * unit] * 4)
    if volume:
        # $__rate_interval is 2 s here; 1.2.2's window is a whole minute, which this Prometheus has not seen yet.
        assert table["Requests"].tolist() == pytest.approx([RATES[name] for name in sorted(RATES)], rel=0.12)
    shown = panel.figure["data"][0]["cells"]["values"]
    assert "100.00%" in shown[-1]
    assert shown[3][0] == ("10.00 ms")


@pytest.mark.genuine
@pytest.mark.parametrize("release", GENUINE)
def test_the_service_dashboard_of_one_service(prometheus, release):
    chosen = {"service": "reviews.bookinfo.svc.cluster.local"}
    drawn = grafana(prometheus, GENUINE[release]).draw("service", chosen, window="3s")
    assert drawn.panel("Client Request Volume").value == pytest.approx(RATES["reviews-v1"], rel=0.12)
    assert drawn.panel("Server Success Rate (non-5xx responses)").value == 1.0
    durations = drawn.panel("Client Request Duration")
    assert list(durations.values) == ["P50", "P90", "P99"]
    by_source = next(panel for panel in drawn if panel.title.lower().startswith("incoming requests by source"))
    assert any(name.startswith("istio-ingressgateway.istio-system : 200") for name in by_source.values)


@pytest.mark.genuine
def test_the_heatmap_has_buckets_of_their_own(prometheus):
    # Its points are whole minutes; the next one is the first that has seen the page.
    end = (time.time() // 60 + 1) * 60
    panel = grafana(prometheus, GENUINE["1.30.3"]).draw("control plane", window="3m", end=end).panel("Push Time")
    (trace,) = panel.figure["data"]
    assert trace["type"] == "heatmap"
    assert trace["y"] == ["100 ms", "1 s", "more"]
    last = [[value for value in row if value is not None][-1] for row in trace["z"]]
    # A quarter, a half and a quarter of the pushes.
    assert last[1] == pytest.approx(2 * last[0], rel=0.05)
    assert last[2] == pytest.approx(last[0], rel=0.05)
