# SPDX-License-Identifier: Apache-2.0
"""Jaeger's API v3: spans in OpenTelemetry's JSON, and errors as its gateway has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labkit.ground import web
from meshbox.images.jaeger import api_v3, server
from meshbox.images.jaeger.store import TraceStore
from tests.images.test_jaeger import page_view, zipkin

TIMES = {"query.start_time_min": ["2023-11-14T00:00:00Z"], "query.start_time_max": ["2023-11-15T01:00:00.5+01:00"]}
BEGAN = 1_700_000_000_000_000
"""14 November 2023, 22:13:20 UTC, in microseconds: when the spans of these tests began."""


@pytest.fixture
def store() -> TraceStore:
    found = TraceStore()
    found.add(page_view(1))
    found.add([zipkin(2, 1, service="reviews.bookinfo", tags={"error": "true", "http.status_code": "503"})])
    return found


def spans(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Spans by their ids, each with the name of its service."""
    found = {}
    for resource in body["result"]["resourceSpans"]:
        (name,) = [one["value"]["stringValue"] for one in resource["resource"]["attributes"]]
        for scope in resource["scopeSpans"]:
            found |= {one["traceId"][-1] + one["spanId"][-1]: {**one, "service": name} for one in scope["spans"]}
    return found


def test_services_and_operations(store):
    assert api_v3.answer(store, "services", {}) == (
        200,
        {"services": ["details.bookinfo", "istio-ingressgateway", "productpage.bookinfo", "reviews.bookinfo"]},
    )
    status, body = api_v3.answer(store, "operations", {"service": ["productpage.bookinfo"]})
    name = "productpage.bookinfo.svc.cluster.local:9080/*"
    assert (status, body["operations"]) == (200, [{"name": name, "spanKind": kind} for kind in ("client", "server")])
    _, body = api_v3.answer(store, "operations", {"service": ["productpage.bookinfo"], "span_kind": ["server"]})
    assert body == {"operations": [{"name": name, "spanKind": "server"}]}
    assert api_v3.answer(TraceStore(), "services", {}) == (200, {"services": []})


def test_a_trace_is_opentelemetrys_json(store):
    status, body = api_v3.answer(store, f"traces/{1:032x}", {})
    found = spans(body)
    assert (status, sorted(found)) == (200, ["11", "12", "13", "14"])
    one = found["14"]
    assert {key: one[key] for key in ("service", "traceId", "spanId", "parentSpanId", "name", "kind", "status")} == {
        "service": "details.bookinfo",
        "traceId": f"{1:032x}",
        "spanId": f"{4:016x}",
        "parentSpanId": f"{3:016x}",
        "name": "details.bookinfo.svc.cluster.local:9080/*",
        "kind": 2,
        "status": {},
    }
    began = (BEGAN + 1004) * 1000
    assert (one["startTimeUnixNano"], one["endTimeUnixNano"]) == (str(began), str(began + 4_000_000))
    assert {"key": "http.method", "value": {"stringValue": "GET"}} in one["attributes"]
    assert found["11"]["parentSpanId"] == ""
    assert {one: found[one]["kind"] for one in found} == {"11": 3, "12": 2, "13": 3, "14": 2}


def test_traces_are_searched(store):
    asked = lambda **more: api_v3.answer(store, "traces", {**TIMES, **{f"query.{k}": [v] for k, v in more.items()}})  # noqa: E731
    assert sorted(spans(asked()[1])) == ["11", "12", "13", "14", "21"]
    assert sorted(spans(asked(service_name="details.bookinfo")[1])) == ["11", "12", "13", "14"]
    assert sorted(spans(asked(search_depth="1")[1])) == sorted(spans(asked(num_traces="1")[1])) == ["21"]
    assert sorted(spans(asked(duration_min="3.5ms")[1])) == ["11", "12", "13", "14"]
    (failed,) = spans(asked(service_name="reviews.bookinfo")[1]).values()
    assert failed["status"] == {"code": 2}
    assert asked(service_name="nobody") == (404, {"error": {"httpCode": 404, "message": "No traces found"}})


SINCE = {"query.start_time_min": ["2023-11-14T00:00:00Z"]}


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        ("traces", {}, "query.start_time_min and query.start_time_max are required"),
        ("traces", SINCE, "query.start_time_min and query.start_time_max are required"),
        (
            "traces",
            {**SINCE, "query.start_time_max": ["now"]},
            'malformed parameter query.start_time_max: parsing time "now" as "2006-01-02T15:04:05.999999999Z07:00": '
            'cannot parse "now" as "2006"',
        ),
        (
            "traces",
            {**TIMES, "query.num_traces": ["x"]},
            'malformed parameter query.num_traces: strconv.Atoi: parsing "x": invalid syntax',
        ),
        (
            "traces",
            {**TIMES, "query.search_depth": ["x"], "query.num_traces": ["1"]},
            'malformed parameter query.search_depth: strconv.Atoi: parsing "x": invalid syntax',
        ),
        (
            "traces",
            {**TIMES, "query.duration_max": ["1 s"]},
            'malformed parameter query.duration_max: time: unknown unit " s" in duration "1 s"',
        ),
        (
            "traces",
            {**TIMES, "query.raw_traces": ["yes"]},
            'malformed parameter query.raw_traces: strconv.ParseBool: parsing "yes": invalid syntax',
        ),
        ("traces/xyz", {}, 'malformed parameter trace_id: strconv.ParseUint: parsing "xyz": invalid syntax'),
    ],
)
def test_a_bad_parameter_is_refused_in_jaegers_words(store, path, values, words):
    assert api_v3.answer(store, path, values) == (400, {"error": {"httpCode": 400, "message": words}})


def test_it_is_served_below_the_base_path_and_since_jaeger_1_24(store):
    today = server.query(store, "/jaeger", "2.14.0")
    answer = today(web.Request("GET", "/jaeger/api/v3/services", {}))
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert "details.bookinfo" in json.loads(answer.body)["services"]
    refused = today(web.Request("GET", "/jaeger/api/v3/traces/xyz", {}))
    assert (refused.status, refused.content_type) == (400, "text/plain; charset=utf-8")
    assert json.loads(refused.body)["error"]["httpCode"] == 400
    old = server.query(store, "/jaeger", "1.9")(web.Request("GET", "/jaeger/api/v3/services", {}))
    assert (old.status, b"Jaeger 1.9 has no API v3" in bytes(old.body, "utf-8")) == (404, True)


@pytest.mark.parametrize(
    ("version", "has"), [("1.9", False), ("1.24.0", True), ("2.14.0", True), ("v1.23", False), ("", True)]
)
def test_which_versions_have_it(version, has):
    assert api_v3.has_v3(version) is has
