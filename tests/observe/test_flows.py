# SPDX-License-Identifier: Apache-2.0
"""Who sends what to whom, read from series as both releases' proxies write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from labkit.observe.flows import calls, frame

Series = list[tuple[dict[str, str], float]]


class Counted:
    """Prometheus with these series; those of a `reporter` and a metric are its answer."""

    def __init__(self, **series: Series) -> None:
        self.series = series
        self.asked: list[str] = []

    def instant(self, expression: str) -> Iterable[tuple[dict[str, str], list[tuple[float, float]]]]:
        self.asked.append(expression)
        return self._found(expression)

    def _found(self, expression: str) -> Iterator[tuple[dict[str, str], list[tuple[float, float]]]]:
        for metric, found in self.series.items():
            if f"rate({metric}{{" in expression:
                yield from ((labels, [(1000.0, rate)]) for labels, rate in found)


def ends(reporter: str, caller: str, service: str, workload: str, **more: str) -> dict[str, str]:
    return {
        "reporter": reporter,
        "source_workload_namespace": "istio-system" if caller.startswith("istio") else "bookinfo",
        "source_workload": caller,
        "destination_service_namespace": "bookinfo",
        "destination_service_name": service,
        "destination_workload": workload,
        **more,
    }


def test_a_request_that_both_sides_count_is_one_call():
    ok, secure = {"response_code": "200"}, {"connection_security_policy": "mutual_tls"}
    counted = Counted(
        istio_requests_total=[
            (ends("source", "productpage-v1", "reviews", "reviews-v1", **ok), 2.0),
            (ends("destination", "productpage-v1", "reviews", "reviews-v1", **ok, **secure), 2.0),
            (ends("source", "productpage-v1", "reviews", "reviews-v2", **ok), 0.0),
        ]
    )
    (found,) = calls(counted, "bookinfo")
    assert (found.caller, found.service, found.workload, found.rate) == ("productpage-v1", "reviews", "reviews-v1", 2.0)
    assert (found.errors, found.mutual_tls) == (0.0, True)


def test_what_nobody_answered_is_in_the_callers_count_alone():
    counted = Counted(
        istio_requests_total=[
            (ends("source", "productpage-v1", "reviews", "unknown", response_code="503"), 3.0),
            (ends("source", "productpage-v1", "reviews", "reviews-v1", response_code="200"), 1.0),
            (ends("source", "productpage-v1", "reviews", "reviews-v1", response_code="403"), 1.0),
            (ends("source", "productpage-v1", "details", "details-v1", response_code="0"), 1.0),
            (ends("source", "a", "b", "c", response_code="200", grpc_response_status="14"), 1.0),
        ]
    )
    found = {(one.service, one.workload): one for one in calls(counted, "bookinfo")}
    assert found["reviews", "unknown"].codes == {"503": 3.0}
    assert (found["reviews", "reviews-v1"].codes, found["reviews", "reviews-v1"].errors) == ({"403": 1.0}, 0.5)
    assert found["details", "details-v1"].codes == {"0": 1.0}
    assert found["b", "c"].codes == {"grpc 14": 1.0}
    assert found["reviews", "unknown"].mutual_tls is None


def test_who_has_no_sidecar_is_known_by_whom_it_calls():
    plain = {"connection_security_policy": "none", "response_code": "200"}
    counted = Counted(istio_requests_total=[(ends("destination", "unknown", "ratings", "ratings-v1", **plain), 4.0)])
    (found,) = calls(counted, "bookinfo")
    assert (found.caller, found.rate, found.mutual_tls) == ("unknown", 4.0, False)


def test_tcp_is_bytes_of_both_ways():
    secure = {"connection_security_policy": "mutual_tls"}
    both = "ratings-v2", "mongodb", "mongodb-v1"
    sides = [ends("source", *both), ends("destination", *both, **secure)]
    counted = Counted(
        istio_tcp_sent_bytes_total=[(one, 100.0) for one in sides],
        istio_tcp_received_bytes_total=[(one, 20.0) for one in sides],
    )
    (found,) = calls(counted, "bookinfo", "5m")
    assert (found.protocol, found.rate, found.mutual_tls) == ("tcp", 120.0, True)
    assert all("[5m]" in asked for asked in counted.asked)


def test_the_question_names_the_namespace_and_nothing_like_it():
    counted = Counted()
    assert calls(counted, "book.info") == []
    assert 'destination_workload_namespace=~"book\\\\.info"' in counted.asked[0]
    assert "[1m]" in counted.asked[0]


def test_a_service_that_says_its_whole_name_is_the_same():
    whole = ends("source", "a", "reviews.bookinfo.svc.cluster.local", "reviews-v1", response_code="200")
    assert [one.service for one in calls(Counted(istio_requests_total=[(whole, 1.0)]), "bookinfo")] == ["reviews"]
    outside = ends("source", "a", "httpbin.org", "unknown", response_code="200")
    assert [one.service for one in calls(Counted(istio_requests_total=[(outside, 1.0)]), "bookinfo")] == ["httpbin.org"]


@pytest.mark.parametrize("some", [True, False])
def test_calls_are_a_table_also_without_any(some: bool):
    row = ends("source", "productpage-v1", "reviews", "reviews-v1", response_code="500")
    table = frame(calls(Counted(istio_requests_total=[(row, 2.0)] if some else []), "bookinfo"))
    assert [str(table[name].dtype) for name in ("rate", "error_percent", "mutual_tls")] == [
        "float64",
        "float64",
        "boolean",
    ]
    assert table[["caller", "service", "error_percent"]].to_numpy().tolist() == (
        [["productpage-v1", "reviews", 100.0]] if some else []
    )
