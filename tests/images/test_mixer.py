# SPDX-License-Identifier: Apache-2.0
"""Mixer's telemetry: sidecars' totals become Mixer's series."""

from __future__ import annotations

from meshbox.images.istio.telemetry import Counters, parse, sidecars

PAGE = """# TYPE envoy_istio_requests_total counter
envoy_istio_requests_total{reporter="source",response_code="200"} 7
envoy_cluster_upstream_rq_total{envoy_cluster_name="x"} 9
# TYPE envoy_istio_request_duration_milliseconds histogram
envoy_istio_request_duration_milliseconds_bucket{reporter="source",le="5"} 3
envoy_istio_request_duration_milliseconds_bucket{reporter="source",le="10000"} 7
envoy_istio_request_duration_milliseconds_bucket{reporter="source",le="+Inf"} 7
envoy_istio_request_duration_milliseconds_sum{reporter="source"} 1250
envoy_istio_request_duration_milliseconds_count{reporter="source"} 7
"""


def test_names_and_units_become_mixers():
    assert parse(PAGE) == {
        ("istio_requests_total", 'reporter="source",response_code="200"'): 7.0,
        ("istio_request_duration_seconds_bucket", 'reporter="source",le="0.005"'): 3.0,
        ("istio_request_duration_seconds_bucket", 'reporter="source",le="10"'): 7.0,
        ("istio_request_duration_seconds_bucket", 'reporter="source",le="+Inf"'): 7.0,
        ("istio_request_duration_seconds_sum", 'reporter="source"'): 1.25,
        ("istio_request_duration_seconds_count", 'reporter="source"'): 7.0,
    }


def test_what_envoy_does_not_know_is_unknown_and_no_flags_are_none():
    line = 'envoy_istio_requests_total{destination_app="-",response_flags="-",source_version="v-1"} 1\n'
    labels = 'destination_app="unknown",response_flags="-",source_version="v-1"'
    assert parse(line) == {("istio_requests_total", labels): 1.0}


SERIES = ("istio_requests_total", 'reporter="source"')


def total(counters: Counters) -> float:
    return float(counters.text().splitlines()[-1].rpartition(" ")[2])


def test_totals_are_summed_over_sidecars_and_never_fall():
    counters = Counters()
    counters.add("a", {SERIES: 5.0})
    counters.add("b", {SERIES: 2.0})
    assert total(counters) == 7
    counters.add("a", {SERIES: 6.0})
    assert total(counters) == 8
    # The pod of "a" ends.
    counters.forget({"b"})
    assert total(counters) == 8


def test_a_sidecar_that_began_anew_counts_from_zero():
    counters = Counters()
    counters.add("a", {SERIES: 5.0})
    counters.add("a", {SERIES: 3.0})
    assert total(counters) == 8


def test_a_replaced_listener_takes_only_its_own_series_along():
    other = ("istio_requests_total", 'reporter="destination"')
    counters = Counters()
    counters.add("a", {SERIES: 5.0, other: 8.0}, uptime=10)
    counters.add("a", {SERIES: 6.0, other: 1.0}, uptime=11)
    assert total(counters) == 6
    assert 'reporter="destination"} 9' in counters.text()
    # Its Envoy was killed: what it counts is new, though it is more than before.
    counters.add("a", {SERIES: 7.0, other: 1.0}, uptime=0)
    assert total(counters) == 13


def test_the_text_is_grouped_by_family_with_buckets_in_order():
    counters = Counters()
    counters.add("a", parse(PAGE))
    assert counters.text().splitlines() == [
        "# TYPE istio_request_duration_seconds histogram",
        'istio_request_duration_seconds_bucket{reporter="source",le="0.005"} 3',
        'istio_request_duration_seconds_bucket{reporter="source",le="10"} 7',
        'istio_request_duration_seconds_bucket{reporter="source",le="+Inf"} 7',
        'istio_request_duration_seconds_count{reporter="source"} 7',
        'istio_request_duration_seconds_sum{reporter="source"} 1.25',
        "# TYPE istio_requests_total counter",
        'istio_requests_total{reporter="source",response_code="200"} 7',
    ]


def test_a_series_that_comes_later_stands_where_it_belongs():
    counters = Counters()
    counters.add("a", {SERIES: 5.0})
    assert counters.text().splitlines()[1:] == ['istio_requests_total{reporter="source"} 5']
    counters.add("b", {("istio_requests_total", 'reporter="destination"'): 2.0, SERIES: 1.0})
    assert counters.text().splitlines()[1:] == [
        'istio_requests_total{reporter="destination"} 2',
        'istio_requests_total{reporter="source"} 6',
    ]


def test_sidecars_are_pods_with_an_address_and_the_statistics_port():
    def pod(uid: str, port: int, ip: str) -> dict:
        containers = [{"name": "istio-proxy", "ports": [{"containerPort": port}]}]
        return {"metadata": {"uid": uid}, "spec": {"containers": containers}, "status": {"podIP": ip}}

    pods = [pod("a", 15090, "127.9.64.1"), pod("b", 9080, "127.9.64.2"), pod("c", 15090, "")]
    assert list(sidecars(pods)) == [("a", "127.9.64.1")]
