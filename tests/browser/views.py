# SPDX-License-Identifier: Apache-2.0
"""What a learner looks for in Grafana's and Kiali's pages, wherever they stand."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

from labkit import bookinfo
from labkit.observe.prometheus import Prometheus
from tests.conftest import wait_until
from tests.shops import Shop

__all__ = [
    "GRAPH",
    "LOAD",
    "MESH",
    "MESH_PAGE",
    "graph_of",
    "numbers_in",
    "see_graph",
    "see_mesh",
    "sign_in",
    "traffic",
]

GRAPH = "graph/namespaces?namespaces=bookinfo,istio-system&graphType=versionedApp&duration=60"
MESH_PAGE = "dashboard/db/istio-mesh-dashboard?from=now-5m&to=now"

LOAD = 90
MESH = {
    "1.2.2": ("Global Request Volume", "HTTP/GRPC Workloads"),
    "1.30.3": ("Traffic Volume", "HTTP/gRPC Workloads"),
}
"""Panels of the mesh dashboard: a number, and a table."""
WORKLOADS = {"productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1"}

CALLS = {("istio-ingressgateway", "productpage-v1"), ("productpage-v1", "details-v1")}
CALLS |= {("productpage-v1", f"reviews-v{number}") for number in (1, 2, 3)}
CALLS |= {(f"reviews-v{number}", "ratings-v1") for number in (2, 3)}
"""What calls what. Other modules use the same mesh, and what they called is in the graph for a minute."""


def _calls(prometheus: Prometheus, reporter: str) -> set[tuple[str, str]]:
    """What has called what in the last minute, as one of both ends tells it."""
    ends = ["source_workload", "destination_workload"]
    counted = f'istio_requests_total{{destination_workload_namespace="bookinfo",reporter="{reporter}"}}'
    found = prometheus.query(f"sum by ({', '.join(ends)}) (increase({counted}[1m])) > 0")
    return set(found[ends].itertuples(index=False, name=None)) if len(found) else set()


_GRAPH = """() => {
  const holder = [...document.querySelectorAll('*')].find((one) => one._cyreg && one._cyreg.cy);
  if (!holder) return null;
  const cy = holder._cyreg.cy;
  const name = (one) => one.data('nodeType') === 'service' ? one.data('service')
                        : [one.data('app'), one.data('version')].filter(Boolean).join('-');
  const nodes = cy.nodes().filter((one) => !one.data('isBox'));
  if (!nodes.length) return null;
  const box = holder.getBoundingClientRect();
  return {nodes: nodes.map(name), edges: cy.edges().map((one) => [name(one.source()), name(one.target())]),
          canvases: holder.querySelectorAll('canvas').length, width: box.width, height: box.height};
}"""


@contextlib.contextmanager
def traffic(shop: Shop, prometheus: Prometheus) -> Iterator[None]:
    """Requests enough to be seen in every picture, their rate known; more go on: some panels show the last seconds."""
    assert (bookinfo.load(shop.url, LOAD, rate=30)["status"] == 200).all()
    seen = 'count(sum by (destination_workload) (rate(istio_requests_total{destination_app=~".+"}[1m])) > 0)'
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(0.1):
            shop.status()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        wait_until(lambda: prometheus.value(seen) >= len(WORKLOADS), 30, "rates of all workloads")
        # Others' calls are in a graph of the last minute too; and each end's counts come by themselves.
        wait_until(
            lambda: all(_calls(prometheus, end) == CALLS for end in ("source", "destination")),
            90,
            "a minute with all calls that BookInfo makes, and no others",
        )
        yield
    finally:
        ended.set()
        thread.join()


def numbers_in(text: str) -> list[float]:
    """The numbers in a text."""
    return [float(found) for found in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", text)]


def see_mesh(where: Any, release: str) -> None:
    """The mesh dashboard: its number is above zero, its table has a row with numbers for every workload."""
    number, table = MESH[release]
    panel = where.locator(".panel").filter(has_text=number).first
    value = panel.locator("text.annotation-text, .indicatorlayer text")
    value.first.wait_for(state="attached")
    wait_until(lambda: any(n > 0 for n in numbers_in(" ".join(value.all_text_contents()))), 60, f"{number} above 0")
    cells = where.locator(".panel").filter(has_text=table).first.locator(".cell-text")

    def workloads() -> set[str]:
        return {text.removesuffix(".bookinfo") for text in cells.all_text_contents()}

    wait_until(lambda: workloads() >= WORKLOADS, 60, f"a row for every workload; {cells.all_text_contents()}")
    wait_until(lambda: any("ms" in text or "µs" in text for text in cells.all_text_contents()), 60, "durations")


def graph_of(where: Any) -> dict[str, Any]:
    """What Kiali's canvas holds, once it does."""
    return dict(where.wait_for_function(_GRAPH, timeout=240_000).json_value())


def see_graph(where: Any) -> None:
    """BookInfo as a graph: four Services, six versions, the gateway, and an edge for every call."""
    seen = graph_of(where)
    services = {"productpage", "details", "reviews", "ratings"}
    versions = WORKLOADS
    gateway = [name for name in seen["nodes"] if name.startswith("istio-ingressgateway")]
    assert len(gateway) == 1
    assert sorted(seen["nodes"]) == sorted([*services, *versions, *gateway])
    calls = {(gateway[0], "productpage"), ("productpage-v1", "details"), ("productpage-v1", "reviews")}
    calls |= {("reviews-v2", "ratings"), ("reviews-v3", "ratings")}
    calls |= {(version.rpartition("-")[0], version) for version in versions}
    assert {tuple(edge) for edge in seen["edges"]} == calls
    assert len(seen["edges"]) == len(calls)
    assert seen["canvases"] >= 1
    assert seen["width"] > 300
    assert seen["height"] > 200


def sign_in(page: Any, release: str) -> None:
    """Istio 1.2's Kiali asks who is there."""
    if release == "1.2.2":
        page.fill("#username", "admin")
        page.fill("#password", "admin")
        page.click("button")
