# SPDX-License-Identifier: Apache-2.0
"""The Jaeger stand-in: what Envoy posts comes out as Jaeger's API gives it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from labkit.ground import web
from labkit.istio import facts
from meshbox.images.jaeger import runner, server, spans
from meshbox.images.jaeger.store import OPEN_SECONDS, Query, TraceStore, _Trace
from tests.conftest import genuine
from tests.metrics_page import Page


def zipkin(
    trace: int = 1, span: int = 1, parent: int = 0, service: str = "productpage.bookinfo", **more: object
) -> dict:
    made = {
        "traceId": f"{trace:032x}",
        "id": f"{span:016x}",
        "name": f"{service.split('.')[0]}.bookinfo.svc.cluster.local:9080/*",
        "timestamp": 1_700_000_000_000_000 + trace * 1000 + span,
        "duration": 1000 * span,
        "kind": "SERVER",
        "localEndpoint": {"serviceName": service, "ipv4": "127.20.64.2", "port": 0},
        "tags": {"http.status_code": "200", "http.method": "GET", "component": "proxy"},
    }
    if parent:
        made["parentId"] = f"{parent:016x}"
    return {**made, **more}


def page_view(trace: int = 1) -> list[dict]:
    return [
        zipkin(trace, 1, service="istio-ingressgateway", kind="CLIENT"),
        zipkin(trace, 2, 1),
        zipkin(trace, 3, 2, kind="CLIENT"),
        zipkin(trace, 4, 3, service="details.bookinfo"),
    ]


def test_a_span_becomes_jaegers():
    made = spans.span_of(zipkin(7, 2, 1, tags={"error": "true", "http.status_code": "503"}), "p1")
    assert made["traceID"] == f"{7:032x}"
    assert made["spanID"] == f"{2:016x}"
    assert made["references"] == [{"refType": "CHILD_OF", "traceID": f"{7:032x}", "spanID": f"{1:016x}"}]
    assert made["tags"] == [
        {"key": "error", "type": "bool", "value": True},
        {"key": "http.status_code", "type": "int64", "value": 503},
        {"key": "span.kind", "type": "string", "value": "server"},
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"traceId": "xyz", "id": "1"},
        {"id": "1"},
        {"traceId": "1", "id": ""},
        {"traceId": "1", "id": "1", "timestamp": "now"},
        {"traceId": "1", "id": "1", "duration": -1},
        {"traceId": "1", "id": "1", "tags": []},
        "span",
        None,
    ],
)
def test_a_bad_span_is_refused_and_nothing_of_its_batch_kept(bad):
    store = TraceStore()
    with pytest.raises(spans.BadSpanError):
        store.add([zipkin(), bad])
    assert len(store) == 0
    assert store.services() == []


def test_spans_of_one_request_are_one_trace_nested_as_the_calls_were():
    store = TraceStore()
    for span in page_view():
        store.add([span])
    (trace,) = store.find(Query(service="details.bookinfo"))
    parents = {span["spanID"][-1]: [ref["spanID"][-1] for ref in span["references"]] for span in trace["spans"]}
    assert parents == {"1": [], "2": ["1"], "3": ["2"], "4": ["3"]}
    names = {span["spanID"][-1]: trace["processes"][span["processID"]]["serviceName"] for span in trace["spans"]}
    assert names == {
        "1": "istio-ingressgateway",
        "2": "productpage.bookinfo",
        "3": "productpage.bookinfo",
        "4": "details.bookinfo",
    }


def test_searches_filter_by_service_operation_tags_and_duration():
    store = TraceStore()
    for trace in range(1, 6):
        code = "500" if trace == 3 else "200"
        store.add([zipkin(trace, 1, duration=trace * 1000, tags={"http.status_code": code})])
    ids = lambda **q: [int(t["traceID"], 16) for t in store.find(Query(service="productpage.bookinfo", **q))]  # noqa: E731
    assert ids() == [5, 4, 3, 2, 1]
    assert ids(limit=2) == [5, 4]
    assert ids(tags=(("http.status_code", "500"),)) == [3]
    assert ids(min_duration=4000) == [5, 4]
    assert ids(max_duration=2000) == [2, 1]
    assert ids(operation="nothing") == []
    assert store.find(Query(service="unknown")) == []


def test_what_is_outside_of_the_time_asked_for_is_not_read(monkeypatch):
    store = TraceStore()
    for trace in range(1, 6):
        store.add(page_view(trace))
    read, plain = [], _Trace.read
    monkeypatch.setattr(_Trace, "read", lambda trace: read.append(trace.start % 1_000_000 // 1000) or plain(trace))
    of = 1_700_000_000_000_000
    found = store.find(Query(service="details.bookinfo", start=of + 2004, end=of + 4004, limit=10))
    # The span of details is the fourth of each. Trace 4 has begun by then, and trace 2 has not ended.
    assert [int(one["traceID"], 16) for one in found] == read == [4, 3, 2]
    read.clear()
    assert store.find(Query(service="details.bookinfo", start=of + 2005, end=of + 4003, limit=10)) != []
    # A trace with some span in that time is read, and each of its spans looked at.
    assert read == [4, 3]
    read.clear()
    assert store.dependencies(of + 5004, of + 10**9) != []
    assert read == [5]


def test_old_traces_are_packed_and_still_found_with_spans_that_come_late():
    now = [0.0]
    store = TraceStore(clock=lambda: now[0])
    store.add(page_view(1)[:3], size=3000)
    unpacked = store.bytes
    now[0] += OPEN_SECONDS + 1
    store.add([zipkin(2)])
    assert store.bytes < unpacked
    store.add(page_view(1)[3:])
    trace = store.trace("1")
    assert trace is not None
    assert len(trace["spans"]) == 4


def test_memory_is_bounded_and_the_oldest_go_first():
    store = TraceStore(max_bytes=1 << 20)
    for trace in range(1, 5001):
        store.add(page_view(trace), size=4000)
    assert store.bytes <= 1 << 20
    assert store.forgotten == 5000 - len(store)
    assert store.forgotten > 0
    assert store.trace(f"{5000:x}") is not None
    assert store.trace("1") is None


def test_a_minute_at_200_requests_a_second_is_kept_whole():
    # 12 000 page views of 8 spans of the size that Envoy sends.
    filler = {f"tag-{i}": "x" * 20 for i in range(12)}
    store = TraceStore()
    for trace in range(1, 12_001):
        batch = [zipkin(trace, 1 + i, i, tags=filler) for i in range(8)]
        store.add(batch, size=8 * 900)
    assert store.accepted == 96_000
    assert store.forgotten == 0
    assert len(store) == 12_000


def test_dependencies_count_calls_between_services():
    store = TraceStore()
    store.add(page_view(1) + page_view(2))
    now = 1_700_000_000_000_000
    assert store.dependencies(now, now + 10**9) == [
        {"parent": "istio-ingressgateway", "child": "productpage.bookinfo", "callCount": 2},
        {"parent": "productpage.bookinfo", "child": "details.bookinfo", "callCount": 2},
    ]
    assert store.dependencies(0, 1) == []


@pytest.fixture
def running() -> Iterator[tuple[TraceStore, dict[str, int]]]:
    store = TraceStore()
    servers = [web.listen({0: app(store)}, "127.0.0.1")[0] for app in (server.query, server.collector, server.health)]
    yield store, dict(zip(("query", "collector", "health"), (one.server_address[1] for one in servers), strict=True))
    for one in servers:
        one.server_close()


def call(
    port: int, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, chunked: bool = False
):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        data = None if body is None else json.dumps(body).encode()
        sent = iter([data[:10], data[10:]]) if chunked and data else data
        connection.request(method, path, sent, headers or {}, encode_chunked=chunked)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_spans_posted_in_chunks_are_found_over_http(running):
    store, ports = running
    chunks = {"Transfer-Encoding": "chunked"}
    assert call(ports["collector"], "POST", "/api/v2/spans", page_view(), chunks, chunked=True)[0] == 202
    assert store.accepted == 4
    status, body = call(ports["query"], "GET", "/api/services")
    assert (status, json.loads(body)["data"]) == (
        200,
        ["details.bookinfo", "istio-ingressgateway", "productpage.bookinfo"],
    )
    status, body = call(ports["query"], "GET", "/api/traces?service=details.bookinfo&start=1")
    assert len(json.loads(body)["data"][0]["spans"]) == 4
    assert call(ports["query"], "GET", "/api/traces/123")[0] == 404
    assert b"trace not found" in call(ports["query"], "GET", "/api/traces/123")[1]
    assert b"stand-in" in call(ports["query"], "GET", "/search")[1]
    assert b"stand-in" in call(ports["health"], "GET", "/status")[1]


@pytest.mark.parametrize(
    ("told", "client", "ip"),
    [
        # What Envoy takes for its own address is the machine's.
        ("192.168.7.9", "127.20.64.2", "127.20.64.2"),
        ("127.0.0.1", "127.20.64.2", "127.20.64.2"),
        # Who knows its own is believed, and so is who comes from elsewhere.
        ("127.20.64.9", "127.20.64.2", "127.20.64.9"),
        ("192.168.7.9", "127.0.0.1", "192.168.7.9"),
        ("192.168.7.9", "192.168.7.1", "192.168.7.9"),
    ],
)
def test_a_process_has_the_address_of_its_pod(told, client, ip):
    store = TraceStore()
    posted = zipkin(1, localEndpoint={"serviceName": "details.bookinfo", "ipv4": told, "port": 0})
    request = web.Request("POST", "/api/v2/spans", {"host": "zipkin"}, json.dumps([posted]).encode(), client)
    assert server.collector(store)(request).status == 202
    trace = store.trace("1")
    assert trace is not None
    tags = [{"key": "ip", "type": "string", "value": ip}]
    assert trace["processes"] == {"p1": {"serviceName": "details.bookinfo", "tags": tags}}


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example.com"}, {"Origin": "http://evil.example.com"}, {"Origin": "null"}]
)
def test_a_foreign_page_is_refused(running, headers):
    store, ports = running
    assert call(ports["collector"], "POST", "/api/v2/spans", page_view(), headers)[0] == 403
    assert store.accepted == 0
    if "Host" in headers:
        assert call(ports["query"], "GET", "/api/services", headers=headers)[0] == 403


def test_a_bad_batch_is_told_why(running):
    _, ports = running
    status, body = call(ports["collector"], "POST", "/api/v2/spans", {"not": "a list"})
    assert (status, b"a list of spans" in body) == (400, True)
    assert call(ports["collector"], "POST", "/api/v2/spans", [1])[0] == 400


@pytest.mark.parametrize("base", ["", "/jaeger"])
def test_the_query_port_tells_what_came_in(base):
    store = TraceStore()
    store.add(page_view(1))
    store.add(page_view(2))
    answer = server.query(store, base)(web.Request("GET", f"{base}/metrics", {}))
    page = Page(answer.body)
    assert answer.status == 200
    assert page.one("jaeger_collector_spans_received_total", format="zipkin", transport="http") == 8
    assert page.one("labkit_jaeger_traces") == 2
    assert page.one("process_resident_memory_bytes") > 5e6


def jaeger_pod(release: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The container of Jaeger in the genuine manifests, and the files of its ConfigMap."""
    file = {"1.2.2": "install/kubernetes/istio-demo.yaml", "1.30.3": "samples/addons/jaeger.yaml"}[release]
    objects = [one for one in yaml.safe_load_all((genuine(release) / file).read_text()) if one]
    deployment = next(
        one for one in objects if one["kind"] == "Deployment" and one["metadata"]["name"] in ("istio-tracing", "jaeger")
    )
    files = [one["data"] for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "jaeger"]
    return deployment["spec"]["template"]["spec"]["containers"][0], files[0] if files else {}


@pytest.mark.genuine
@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_pages_are_where_the_manifest_says(release, tmp_path):
    container, files = jaeger_pod(release)
    for mount in container.get("volumeMounts", []):
        for name, content in files.items():
            (tmp_path / mount["mountPath"].lstrip("/")).mkdir(parents=True, exist_ok=True)
            (tmp_path / mount["mountPath"].lstrip("/") / name).write_text(content)
    said = {one["name"]: str(one.get("value", "")) for one in container.get("env", [])}
    base = runner.base_path(container.get("args", []), said, tmp_path)
    assert base == "/jaeger"
    assert next(one.path for one in facts(release).addons if one.name == "jaeger") == base
    app = server.query(TraceStore(), base)
    assert app(web.Request("GET", "/jaeger/search", {})).status == 200
    assert app(web.Request("GET", "/search", {})).status == 404
    # Its probes ask for /, which any answer below 400 satisfies.
    assert app(web.Request("GET", "/", {})).status == 302


@pytest.mark.parametrize(
    ("said", "base"), [("", ""), ("/", ""), ("/jaeger", "/jaeger"), (" /jaeger/ ", "/jaeger"), ("a/b", "/a/b")]
)
def test_the_base_path_of_jaeger_1(said, base, tmp_path):
    assert runner.base_path(["--log-level=debug"], {"QUERY_BASE_PATH": said}, tmp_path) == base
