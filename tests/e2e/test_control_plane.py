# SPDX-License-Identifier: Apache-2.0
"""What the control plane and the node tell of themselves: true numbers, under the names that dashboards ask for."""

from __future__ import annotations

import json

import pytest

from grafana_figures import Grafana
from labkit import bookinfo, istio
from labkit.observe.prometheus import Prometheus
from tests.conftest import wait_until
from tests.observe.grafana_numbers import GENUINE, dashboards

PANELS = {"1.2.2": 55, "1.30.3": 45}
"""How many panels of the genuine dashboards show data soon; docs/architecture.md has the count of a longer run."""


def items(shop, *arguments: str) -> list[dict]:
    return json.loads(shop.sandbox.kubectl("get", *arguments, "-o", "json").stdout)["items"]


def test_every_target_is_up(prometheus: Prometheus):
    def down() -> list[str]:
        found = prometheus.get("targets", [("state", "active")])["activeTargets"]
        return [f"{one['scrapeUrl']} {one['lastError']}" for one in found if one["health"] != "up"] if found else ["-"]

    wait_until(lambda: not down(), 30, f"every target to be up: {down()}")


def test_pilot_counts_what_the_cluster_has(shop, prometheus: Prometheus):
    def proxies() -> int:
        return sum(
            any(
                one["name"] == "istio-proxy"
                for one in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
            )
            and pod["metadata"]["labels"].get("istio") not in ("pilot", "mixer")
            for pod in items(shop, "pods", "-A")
        )

    # Both sides are looked at again: an autoscaler, or a pod on its way out, may change what there is.
    wait_until(lambda: prometheus.value("sum(pilot_xds)") == proxies(), 30, "all proxies connected")
    for metric, kind in (
        ("pilot_services", "services"),
        ("pilot_virt_services", "virtualservices.networking.istio.io"),
    ):
        wait_until(
            lambda metric=metric, kind=kind: prometheus.value(f"sum({metric})") == len(items(shop, kind, "-A")),
            30,
            f"all {kind} in {metric}",
        )


def test_a_rule_is_a_push_and_a_bad_one_a_failed_validation(shop, prometheus: Prometheus):
    pushes = 'sum(pilot_xds_pushes{type="rds"})'
    passed, failed = "sum(galley_validation_passed)", "sum(galley_validation_failed)"
    wait_until(lambda: prometheus.value(pushes) > 0, 30, "pushes")
    before = {one: prometheus.value(one) for one in (pushes, passed)}
    rule = istio.release(shop.sandbox.release).samples / "bookinfo/networking/virtual-service-all-v1.yaml"
    shop.sandbox.kubectl("apply", "-n", "bookinfo", "-f", str(rule))
    try:
        wait_until(lambda: prometheus.value(pushes) > before[pushes], 30, "routes that were pushed")
        wait_until(lambda: prometheus.value(passed) >= before[passed] + 4, 30, "four objects that passed")
        # On the page with these is all that was refused before; 0 while there is no such series.
        missed = prometheus.value(failed)
        bad = '{"apiVersion":"networking.istio.io/v1alpha3","kind":"VirtualService","metadata":{"name":"bad"},'
        bad += '"spec":{"hosts":["x"],"http":[{}]}}'
        refused = shop.sandbox.kubectl("apply", "-n", "bookinfo", "-f", "-", stdin=bad, check=False)
        assert refused.returncode == 1
        wait_until(lambda: prometheus.value(failed) == missed + 1, 30, "the refusal")
    finally:
        shop.sandbox.kubectl("delete", "-n", "bookinfo", "-f", str(rule))


def test_containers_tell_what_they_use(shop, prometheus: Prometheus):
    pod = shop.pod("productpage")["metadata"]["name"]
    label = f'pod="{pod}",container="istio-proxy"'
    cpu, memory = f"container_cpu_usage_seconds_total{{{label}}}", f"container_memory_working_set_bytes{{{label}}}"
    wait_until(lambda: prometheus.value(cpu) > 0, 30, "the sidecar's CPU time")
    held = wait_until(lambda: prometheus.value(memory), what="its memory")
    assert 5e6 < held < 150e6
    before = prometheus.value(cpu)
    bookinfo.load(shop.url, 200, rate=100)
    wait_until(lambda: prometheus.value(cpu) > before, 30, "CPU time that has grown")


@pytest.mark.genuine
def test_the_genuine_dashboards_show_data_or_say_why_not(shop, prometheus: Prometheus):
    grafana = Grafana(prometheus.url, dashboards(GENUINE[shop.sandbox.release]), interval="5s")
    bookinfo.load(shop.url, 100, rate=50)

    def asked() -> list:
        drawn = [panel for one in grafana.dashboards for panel in grafana.draw(one.title, window="1m")]
        return [panel for panel in drawn if panel.queries]

    wanted = PANELS[shop.sandbox.release]
    panels: list = []

    def drawn() -> bool:
        panels[:] = asked()
        return sum(not panel.empty for panel in panels) >= wanted

    wait_until(drawn, 60, f"{wanted} panels with data")
    assert [panel.title for panel in panels if panel.reason] == []
    unexplained = [(panel.title, panel.queries) for panel in panels if panel.empty and not panel.note]
    assert unexplained == []
