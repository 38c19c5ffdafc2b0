# SPDX-License-Identifier: Apache-2.0
"""What the mesh says of its traffic: metrics and traces are all there, soon, and for nobody else's web page."""

from __future__ import annotations

import http.client
import time

import pandas as pd
import psutil

from labkit import bookinfo
from labkit.observe.jaeger import Trace
from labkit.observe.prometheus import Prometheus
from tests.conftest import names_of, wait_until
from tests.e2e.settling import settled
from tests.e2e.traced import load_is_traced, traces
from tests.istio.of_releases import METRICS

N = 60

SEEN = 'istio_requests_total{reporter="destination",destination_workload_namespace="bookinfo"}'
BOOKINFO = 9080
FOREIGN = "http://evil.example"


def counted(prometheus: Prometheus) -> pd.Series:
    # The last count of a series, though a scrape may have been missed.
    answer = prometheus.query(f"sum by (destination_workload) (max_over_time({SEEN}[1m]))")
    return answer.set_index("destination_workload")["value"] if len(answer) else pd.Series(dtype=float)


def standing(prometheus: Prometheus) -> pd.Series:
    """The counts once they have arrived."""
    found = settled(prometheus, lambda: counted(prometheus).to_dict(), lambda seen: "productpage-v1" in seen)
    return pd.Series(found, dtype=float)


def test_requests_are_in_counters_and_quantiles(shop, prometheus, facts):
    assert shop.status() == 200
    before = standing(prometheus)
    bucket = f'{facts.duration}_bucket{{reporter="destination",destination_workload="productpage-v1"}}'

    def quantile(seconds: int = 10) -> float:
        return prometheus.value(f"histogram_quantile(0.9,sum by(le)(rate({bucket}[{seconds}s])))")

    wait_until(lambda: not quantile() > 0, 40, "earlier requests to have left the quantile")
    began = time.monotonic()
    sent = bookinfo.load(shop.url, N, rate=100)
    # However late the next scrape is: the one before the load stays in view.
    wait_until(lambda: quantile(10 + int(time.monotonic() - began)) > 0, 20, "a quantile")
    assert (sent["status"] == 200).all()
    gained = standing(prometheus).sub(before, fill_value=0)
    versions = sent["reviews"].value_counts()
    assert gained["productpage-v1"] == gained["details-v1"] == N
    assert {v: gained[f"reviews-{v}"] for v in versions.index} == versions.to_dict()
    assert gained["ratings-v1"] == versions.get("v2", 0) + versions.get("v3", 0)


def test_both_ends_count_the_same_and_name_each_other(shop, prometheus, facts):
    def ends() -> dict[str, float]:
        by_end = prometheus.query(
            "sum by (reporter) (max_over_time("
            'istio_requests_total{source_workload="productpage-v1",destination_workload="details-v1"}[1m]))'
        )
        return by_end.set_index("reporter")["value"].to_dict() if len(by_end) else {}

    assert shop.status() == 200
    before = settled(prometheus, ends, lambda seen: len(seen) == 2)
    bookinfo.load(shop.url, N, rate=100)
    after = settled(prometheus, ends, lambda seen: len(seen) == 2)
    assert {end: after[end] - count for end, count in before.items()} == {"source": N, "destination": N}
    for metric in METRICS[facts.version]:
        suffix = "_count" if metric.type == "histogram" else ""
        series = prometheus.get("series", [("match[]", f'{metric.name}{suffix}{{destination_app="reviews"}}')])
        if "requests" in metric.name or metric.type == "histogram":
            assert series, metric.name
        for one in series:
            # Prometheus keeps no label without a value, and BookInfo speaks no gRPC.
            assert set(metric.labels) - set(one) <= {"grpc_response_status"}, (metric.name, set(one))
            assert one.get("request_protocol", "http") == "http"
            assert "" not in one.values()


def test_as_many_traces_as_requests(shop, jaeger):
    load_is_traced(shop, jaeger, 12)
    began = pd.Timestamp.now(tz="UTC")
    sent = bookinfo.load(shop.url, N, rate=50)
    starred = sent["reviews"].isin(["v2", "v3"]).sum()

    wanted = {"productpage": N, "details": N, "reviews": N, "ratings": starred}
    found: list[Trace] = []

    def whole() -> bool:
        # Each proxy sends its spans by itself, a calling end's apart from those of the end that is called.
        found[:] = traces(jaeger, began)
        come = [sum(any(name.startswith(one) for name in trace.services) for trace in found) for one in wanted]
        return come == [*wanted.values()] and all(orphans(trace) == 1 for trace in found)

    wait_until(whole, 20, f"{N} whole traces")
    assert len(found) == len({trace.id for trace in found}) == N
    for trace in found:
        assert orphans(trace) == 1, "one root; every other span has its parent"


def orphans(trace: Trace) -> int:
    """How many spans have no parent in the trace."""
    return int((~trace.spans["parent"].isin(set(trace.spans["span"]))).sum())


def status(host: str, port: int, method: str, path: str, headers: dict[str, str]) -> int:
    """What an HTTP request is answered with; 0 if not in HTTP."""
    connection = http.client.HTTPConnection(host, port, timeout=3)
    try:
        connection.request(method, path, b"query=up" if method == "POST" else None, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_foreign_pages_are_refused_everywhere(shop):
    listening: dict[tuple[str, int], str] = {}
    names = names_of(shop.sandbox.home)
    for found in psutil.net_connections("tcp"):
        if found.pid in names and found.status == psutil.CONN_LISTEN:
            listening[found.laddr.ip, found.laddr.port] = names[found.pid]
    assert len(listening) > 20
    # Envoy serves the mesh's own traffic to whoever is inside, and BookInfo whoever comes through the gateway.
    ours = {where: name for where, name in listening.items() if name != "envoy" and where[1] != BOOKINFO}
    let_in = []
    for (host, port), name in ours.items():
        own = f"{host}:{port}"
        attempts = (
            ("GET", "/", {"Host": "evil.example"}),
            ("GET", "/api/v1/query?query=up", {"Host": "evil.example:9090"}),
            ("POST", "/api/v1/query", {"Host": own, "Origin": FOREIGN, "Content-Type": "text/plain"}),
            ("POST", "/", {"Host": own, "Origin": "null", "Content-Type": "text/plain"}),
        )
        for method, path, headers in attempts:
            answered = status(host, port, method, path, headers)
            if 200 <= answered < 400:
                let_in.append((name, own, method, path, headers, answered))
    assert not let_in, "\n".join(map(str, let_in))
