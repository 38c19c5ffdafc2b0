# SPDX-License-Identifier: Apache-2.0
"""200 requests a second: every one is in the counters of every proxy it met, every one is a whole trace.

Ten seconds; LABKIT_LONG=1 makes it a minute.
"""

from __future__ import annotations

import os
import time
import urllib.request
from typing import Any

import psutil
import pytest

from labkit.observe.jaeger import Jaeger
from labkit.observe.prometheus import Prometheus
from tests.conftest import names_of, wait_until
from tests.e2e.settling import settled
from tests.e2e.steady import steady
from tests.shops import Shop

pytestmark = pytest.mark.endurance

RATE, SECONDS = 200, 60 if os.environ.get("LABKIT_LONG") else 10
LIGHT = "/api/v1/products/0"
"""Answered quickly, and yet by three proxies: the gateway's, productpage's and details'."""

HOPS = {
    ("source", "istio-ingressgateway", "productpage-v1"),
    ("destination", "istio-ingressgateway", "productpage-v1"),
    ("source", "productpage-v1", "details-v1"),
    ("destination", "productpage-v1", "details-v1"),
}
SPANS = 4
MIB = 1 << 20
STORE_MIB = 48
"""What Jaeger's stand-in keeps of spans, at most."""
GROWN_MIB = {"jaeger": STORE_MIB, "prometheus": 48, "telemetry": 24}
"""By how much each may have grown, in MiB; of several of a kind, the one that grew most.

An Envoy keeps the connections of its busiest moment open for an hour, which tells of the machine's stalls only.
"""
MIXER = (
    "get",
    "pods",
    "-n",
    "istio-system",
    "-l",
    "istio-mixer-type=telemetry",
    "-o",
    "jsonpath={.items[*].status.podIP}",
)


def counts(prometheus: Prometheus, metric: str) -> dict[tuple[str, ...], float]:
    """The hops' counts now."""
    ends = ["reporter", "source_workload", "destination_workload"]
    answer = prometheus.query(
        f'sum by ({",".join(ends)}) ({metric}{{destination_workload=~"productpage-v1|details-v1"}})'
    )
    if not len(answer):
        return {}
    rows = answer[[*ends, "value"]].itertuples(index=False, name=None)
    return {hop: value for *ends, value in rows if (hop := tuple(ends)) in HOPS}


def gained(prometheus: Prometheus, metric: str, before: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {hop: value - before.get(hop, 0.0) for hop, value in counts(prometheus, metric).items()}


def page(url: str) -> list[str]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode().splitlines()


def said_by_jaeger(shop: Shop) -> dict[str, float]:
    """What the collector counts of itself."""
    lines = page(f"http://{shop.pod('jaeger', 'istio-system')['status']['podIP']}:14269/metrics")
    return {name.removeprefix("labkit_jaeger_"): float(value) for name, value in map(str.split, lines)}


def keepers(shop: Shop) -> dict[tuple[str, int], float]:
    """MiB (PSS) of the processes that keep spans and counts, each by what it is and its id."""
    addresses = {shop.pod("jaeger", "istio-system")["status"]["podIP"]: "jaeger"}
    if shop.sandbox.release == "1.2.2":
        mixers = shop.sandbox.kubectl(*MIXER).stdout.split()
        addresses |= dict.fromkeys(mixers, "telemetry")
    mine = names_of(shop.sandbox.home)
    what = {pid: "prometheus" for pid, name in mine.items() if name == "prometheus"}
    for found in psutil.net_connections("tcp"):
        of = addresses.get(found.laddr.ip)
        if found.pid in mine and of and mine[found.pid] != "envoy" and found.status == psutil.CONN_LISTEN:
            what[found.pid] = of
    return {(name, pid): psutil.Process(pid).memory_full_info().pss / MIB for pid, name in what.items()}


def grown(after: dict[tuple[str, Any], float], before: dict[tuple[str, Any], float]) -> dict[str, float]:
    """MiB by which the one of each kind grew that grew most."""
    found: dict[str, float] = {}
    for key, value in after.items():
        found[key[0]] = max(found.get(key[0], 0.0), round(value - before[key], 1))
    return found


def traces_between(jaeger: Jaeger, start: float, end: float) -> dict[str, list[str]]:
    """Trace → the operations of its spans."""
    found: dict[str, list[str]] = {}
    at = start
    while at < end:
        # A few seconds at a time: an answer with all of them would be a big one.
        window = {"start": str(int(at * 1e6)), "end": str(int((at + 5) * 1e6))}
        for trace in jaeger.get("traces", {"service": "details.bookinfo", "limit": "10000", **window}):
            found[trace["traceID"]] = [span["spanID"] for span in trace["spans"]]
        at += 5
    return found


def warm(shop: Shop, jaeger: Jaeger) -> None:
    """Until every proxy traces: each takes up the Telemetry object at a moment of its own."""

    def whole() -> bool:
        start = time.time()
        sent = steady(shop.url + LIGHT, 50, 0.4)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            found = traces_between(jaeger, start, time.time())
            if len(found) == sent.count and all(len(spans) == SPANS for spans in found.values()):
                return True
        return False

    wait_until(whole, 40, "traces of all proxies")


def test_nothing_is_lost_under_steady_load(shop, prometheus, jaeger, facts, record_property):
    metrics = ("istio_requests_total", f"{facts.duration}_count", "istio_response_bytes_count")
    warm(shop, jaeger)

    def look() -> dict[str, Any]:
        now: dict[str, Any] = {metric: counts(prometheus, metric) for metric in metrics}
        return {**now, "spans": said_by_jaeger(shop)["spans_accepted_total"]}

    def whole(seen: dict[str, Any]) -> bool:
        """Whether all four ends' counts of what was sent before have come: they would be missed later."""
        return all(seen[metric].keys() == HOPS for metric in metrics)

    before, jaeger_before = settled(prometheus, look, whole), said_by_jaeger(shop)
    memory_before = keepers(shop)

    began = time.time()
    sent = steady(shop.url + LIGHT, RATE, SECONDS, most=64)
    ended = time.time()
    assert sent.statuses == {200: RATE * SECONDS}, sent.wrong

    spans = jaeger_before["spans_accepted_total"] + SPANS * sent.count
    wait_until(lambda: said_by_jaeger(shop)["spans_accepted_total"] >= spans, 30, f"{spans:.0f} spans")
    for metric in metrics:
        wanted = dict.fromkeys(HOPS, sent.count)
        wait_until(lambda m=metric, w=wanted: gained(prometheus, m, before[m]) == w, 20, f"{sent.count} in {metric}")
    jaeger_after, memory_after = said_by_jaeger(shop), keepers(shop)
    assert jaeger_after["spans_accepted_total"] == spans
    assert jaeger_after["traces_forgotten_total"] == jaeger_before["traces_forgotten_total"]
    assert jaeger_after["span_bytes"] <= STORE_MIB * MIB
    assert memory_after.keys() == memory_before.keys(), "no process was replaced"
    more = grown(memory_after, memory_before)
    assert more.keys() == GROWN_MIB.keys() - ({"telemetry"} if facts.version != "1.2.2" else set())

    traces: dict[str, list[str]] = {}

    def traced() -> bool:
        traces.clear()
        traces.update(traces_between(jaeger, began, ended))
        return len(traces) == sent.count and {len(set(spans)) for spans in traces.values()} == {SPANS}

    wait_until(traced, what=f"{sent.count} whole traces")
    assert len(traces) == sent.count
    assert {len(set(spans)) for spans in traces.values()} == {SPANS}
    figures = {
        "requests": sent.count,
        "rate": round(sent.count / sent.took, 1),
        "latest_ms": round(sent.latest * 1000),
        "spans": int(spans - jaeger_before["spans_accepted_total"]),
        "traces": len(traces),
        "span_store_mib": round(jaeger_after["span_bytes"] / MIB, 1),
        **{f"{name}_grown_mib": value for name, value in more.items()},
    }
    for name, value in figures.items():
        record_property(name, value)
    print(shop.sandbox.release, figures)
    assert all(value <= GROWN_MIB[name] for name, value in more.items()), (memory_before, memory_after)
