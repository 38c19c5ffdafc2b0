# SPDX-License-Identifier: Apache-2.0
"""How soon requests are in Prometheus' answers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from labkit import cluster, istio
from labkit.cluster import Target
from labkit.observe.prometheus import Prometheus
from tools.bench.figures import Figure
from tools.bench.world import World, status_of, wait_for


def telemetry(here: World, rounds: int = 5, requests: int = 12) -> list[Figure]:
    """From the last answer until all of a load is counted, and until a quantile can be told; medians."""
    for file in here.files.addon_files:
        here.kubectl("apply", "-f", str(file))
    here.kubectl("wait", "--for=condition=Available", "deployment", "--all", "-n", "istio-system", "--timeout=60s")
    cluster.use(Target(here.env["KUBECONFIG"]))
    try:
        with cluster.port_forward("svc/prometheus", 9090, namespace="istio-system", show=False) as forward:
            return _measured(here, Prometheus(forward.url), rounds, requests)
    finally:
        cluster.leave()


def _measured(here: World, prometheus: Prometheus, rounds: int, requests: int) -> list[Figure]:
    duration = istio.facts(here.release).duration
    page = 'reporter="destination",destination_workload="productpage-v1"'
    counter = f"sum(max_over_time(istio_requests_total{{{page}}}[1m]))"
    quantile = f"histogram_quantile(0.9,sum by(le)(rate({duration}_bucket{{{page}}}[3s])))"
    host, port = here.gateway()
    counted, told = [], []
    status_of(host, port, "/productpage")
    wait_for(lambda: prometheus.value(counter) > 0)
    for _ in range(rounds):
        wait_for(lambda: not prometheus.value(quantile) > 0)
        before = prometheus.value(counter)
        for _ in range(requests):
            status_of(host, port, "/productpage")
        ended = time.perf_counter()
        wait_for(lambda: prometheus.value(counter) >= before + requests)  # noqa: B023
        counted.append(time.perf_counter() - ended)
        wait_for(lambda: prometheus.value(quantile) > 0)
        told.append(time.perf_counter() - ended)
    look = statistics.median(_seconds(lambda: prometheus.value("vector(1)")) for _ in range(rounds))
    return [
        Figure("requests → in Prometheus' counters", statistics.median(counted), "s", look, "one look", 1.0),
        Figure("requests → in a quantile over 3 s", statistics.median(told), "s", look, "one look", 1.5),
    ]


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
