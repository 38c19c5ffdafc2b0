# SPDX-License-Identifier: Apache-2.0
"""Kiali's API: what the console asks, in the shapes it takes; who may ask."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from labkit.ground import web
from labkit.ground.client import send
from meshbox.images.jaeger import server as jaeger
from meshbox.images.jaeger.store import TraceStore
from meshbox.images.kiali.settings import read
from meshbox.images.kiali.traces import Tracing
from tests.conftest import PATIENCE
from tests.images.kiali_world import World, kiali, meta, to, virtual_service


def get(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = send(url, method, sent, body, timeout=PATIENCE)
    try:
        return answer.status, json.loads(answer.body)
    except ValueError:
        return answer.status, answer.body.decode()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "username").write_text("admin")
    (tmp_path / "passphrase").write_text("admin")
    return tmp_path


def test_namespaces_without_kubernetes_own(api):
    assert get(f"{api}/namespaces")[1] == [
        {"name": "bookinfo", "labels": {"team": "bookinfo"}},
        {"name": "istio-system", "labels": {"team": "istio-system"}},
    ]


def test_health_of_apps(api):
    _, found = get(f"{api}/namespaces/bookinfo/health?type=app&rateInterval=60s")
    reviews = found["reviews"]
    assert [one["name"] for one in reviews["workloadStatuses"]] == ["reviews-v1", "reviews-v2", "reviews-v3"]
    assert reviews["requests"]["inbound"] == {"http": {"200": 5.5, "503": 0.5}}
    assert reviews["requests"]["outbound"] == {"http": {"200": 3.5}}
    ready = {"desiredReplicas": 1, "currentReplicas": 1, "availableReplicas": 1, "syncedProxies": 1}
    assert found["details"]["workloadStatuses"] == [{"name": "details-v1", **ready}]


def test_health_of_services_and_workloads(api):
    services = get(f"{api}/namespaces/bookinfo/health?type=service")[1]
    assert services["ratings"]["requests"]["inbound"] == {"http": {"200": 3.5}}
    workloads = get(f"{api}/namespaces/bookinfo/health?type=workload")[1]
    assert workloads["reviews-v3"]["requests"]["inbound"] == {"http": {"200": 1.5, "503": 0.5}}


def test_the_graph(api, world):
    world.istio = {"virtualservices": [virtual_service("reviews", to("reviews"))]}
    status, found = get(
        f"{api}/namespaces/graph?namespaces=bookinfo&graphType=versionedApp&duration=60s&injectServiceNodes=true"
    )
    assert status == 200
    assert (found["duration"], found["graphType"]) == (60, "versionedApp")
    data = [node["data"] for node in found["elements"]["nodes"]]
    assert {one["app"] for one in data if one.get("isBox") == "app"} == {"details", "productpage", "ratings", "reviews"}
    assert [one["service"] for one in data if one.get("hasVS")] == ["reviews"]
    assert len(found["elements"]["edges"]) == 11


@pytest.mark.parametrize(
    ("path", "count"),
    [("applications/reviews", 4), ("workloads/ratings-v1", 3), ("services/details", 2)],
)
def test_small_graphs(api, path, count):
    graph_type = "app" if path.startswith("app") else "workload"
    query = f"graphType={graph_type}&duration=60s&injectServiceNodes=true"
    _, found = get(f"{api}/namespaces/bookinfo/{path}/graph?{query}")
    assert len(found["elements"]["edges"]) == count


def test_lists(api):
    apps = get(f"{api}/namespaces/bookinfo/apps")[1]
    assert apps["namespace"] == {"name": "bookinfo"}
    assert {one["name"]: one["labels"]["version"] for one in apps["applications"]}["reviews"] == "v1,v2,v3"
    workloads = get(f"{api}/namespaces/bookinfo/workloads")[1]["workloads"]
    assert all(one["istioSidecar"] and one["podCount"] == 1 for one in workloads)
    services = get(f"{api}/namespaces/bookinfo/services")[1]
    assert [one["name"] for one in services["services"]] == ["details", "productpage", "ratings", "reviews"]
    assert all(one["valid"] for one in services["validations"]["service"].values())


def test_details(api):
    app = get(f"{api}/namespaces/bookinfo/apps/reviews")[1]
    assert (app["serviceNames"], len(app["workloads"])) == (["reviews"], 3)
    workload = get(f"{api}/namespaces/bookinfo/workloads/ratings-v1")[1]
    assert [pod["name"] for pod in workload["pods"]] == ["ratings-v1-1-a"]
    assert [one["name"] for one in workload["pods"][0]["istioContainers"]] == ["istio-proxy"]
    service = get(f"{api}/namespaces/bookinfo/services/reviews")[1]
    assert [one["name"] for one in service["workloads"]] == ["reviews-v1", "reviews-v2", "reviews-v3"]
    assert get(f"{api}/namespaces/bookinfo/apps/nobody")[0] == 404
    assert get(f"{api}/namespaces/nowhere/apps")[0] == 404


def test_logs(api):
    _, found = get(f"{api}/namespaces/bookinfo/pods/reviews-v1-1-a/logs?container=reviews&tailLines=10")
    assert [(one["message"], one["severity"]) for one in found["entries"]] == [
        ("GET /reviews/0 200", "Info"),
        ("ERROR no ratings", "Error"),
    ]
    assert found["entries"][1]["timestampUnix"] == 1767225601


def test_metrics(api, world):
    _, found = get(f"{api}/namespaces/bookinfo/metrics?filters[]=request_count&duration=60&step=15&direction=inbound")
    (one,) = found["request_count"]
    assert [value for _, value in one["datapoints"]] == [1.5, 2.5]
    assert 'destination_workload_namespace="bookinfo"' in world.queries[-1]


def test_a_dashboard_in_seconds(api):
    _, found = get(f"{api}/namespaces/bookinfo/workloads/reviews-v1/dashboard?direction=inbound&quantiles[]=0.5")
    charts = {chart["name"]: chart for chart in found["charts"]}
    stats = {one["stat"]: one["datapoints"][0][1] for one in charts["Request duration"]["metrics"]}
    assert stats == {"avg": 1.5, "0.5": 1.5}


def test_labels_cannot_break_out_of_a_query(api, world):
    get(f"{api}/namespaces/bookinfo/services/x%22%7D%20or%20up/metrics?filters[]=request_count")
    assert 'destination_service_name="x\\"} or up"' in world.queries[-1]


def test_config_of_one_workload(api, world):
    gateway = {"metadata": meta("a"), "spec": {"selector": {"app": "details"}, "servers": []}}
    world.istio = {"gateways": [gateway], "virtualservices": [virtual_service("b", to("details"))]}

    def listed(labels: str) -> tuple[int, int]:
        found = get(f"{api}/namespaces/bookinfo/istio?workloadSelector={labels}")[1]
        return len(found["gateways"]), len(found["virtualServices"]["items"])

    assert listed("app%3Ddetails,version%3Dv1") == (1, 0)
    assert listed("app%3Dreviews") == (0, 0)


def test_saving_is_a_merge_patch(api, world):
    world.istio = {"virtualservices": [virtual_service("reviews", to("reviews"))]}
    url = f"{api}/namespaces/bookinfo/istio/virtualservices/reviews"
    assert get(url)[1]["virtualService"]["spec"]["hosts"] == ["reviews"]
    status, _ = get(url, "PATCH", b'{"spec": {"hosts": ["details"]}}')
    assert status == 200
    path = "/apis/networking.istio.io/v1alpha3/namespaces/bookinfo/virtualservices/reviews"
    assert world.patches == [(path, {"spec": {"hosts": ["details"]}})]
    assert get(url, "PATCH", b"[1]")[0] == 400
    assert get(url, "PATCH", b"{}", Origin="http://evil.example")[0] == 403
    assert get(f"{api}/namespaces", Host="evil.example")[0] == 403
    assert len(world.patches) == 1


def test_no_prometheus_is_told(tmp_path):
    world = World()
    world.prometheus = lambda request: web.Response(502, "gone")  # type: ignore[method-assign]
    with kiali(world) as address:
        status, found = get(f"{address}/kiali/api/namespaces/graph?namespaces=bookinfo")
    assert status == 503
    assert "Prometheus" in found["error"]


def test_the_password_of_the_secret(world, secret):
    with kiali(world, secret=secret) as address:
        base = f"{address}/kiali"
        assert "Log in to Kiali" in get(f"{base}/")[1]
        assert get(f"{base}/api/namespaces")[0] == 401
        assert get(f"{base}/healthz")[0] == 200
        right = "Basic " + base64.b64encode(b"admin:admin").decode()
        wrong = "Basic " + base64.b64encode(b"admin:guess").decode()
        assert get(f"{base}/api/authenticate", "POST", Authorization=wrong)[0] == 401
        # Kiali 0.20 takes them with either method.
        assert get(f"{base}/api/authenticate", Authorization=wrong)[0] == 401
        assert get(f"{base}/api/authenticate", Authorization=right)[0] == 200
        assert get(f"{base}/api/authenticate", "POST", Authorization=right, Origin="http://evil.example")[0] == 403
        status, found = get(f"{base}/api/authenticate", "POST", Authorization=right)
        assert status == 200
        assert get(f"{address}{found['path']}api/namespaces")[0] == 200
        assert get(f"{base}/api/namespaces", Cookie=f"kiali-session={found['token']}")[0] == 200
        assert get(f"{base}/s/{'x' * 43}/api/namespaces")[0] == 401
        (secret / "passphrase").write_text("changed")
        assert get(f"{base}/api/authenticate", "POST", Authorization=right)[0] == 401


def test_files_outside_of_the_console_are_not_served(world, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    console = tmp_path / "build"
    console.mkdir()
    (console / "index.html").write_text('<head><meta charset="utf-8"/><base href="/"/></head>')
    with kiali(world, console) as address:
        assert get(f"{address}/kiali/../secret.txt")[0] == 404
        assert get(f"{address}/kiali/%2e%2e/secret.txt")[0] == 404
        page = get(f"{address}/kiali/console/graph/namespaces/")[1]
    assert '<base href="../../../"/>' in page
    assert page.count("<base") == 1


def test_without_a_console_the_page_says_what_to_do(world):
    with kiali(world) as address:
        status, page = get(f"{address}/kiali/console/overview")
    assert status == 503
    assert "meshbox setup" in page


def test_traces_come_from_jaeger():
    store = TraceStore()
    now = int(time.time() * 1e6)
    spans = [
        {
            "traceId": f"{7:032x}",
            "id": f"{number:016x}",
            "name": "reviews",
            "timestamp": now - 1000,
            "duration": 1000 * number,
            "localEndpoint": {"serviceName": f"{service}.bookinfo"},
            "tags": {"http.status_code": "200"} | ({"error": "true"} if service == "reviews" else {}),
        }
        for number, service in ((1, "productpage"), (2, "reviews"))
    ]
    store.add(spans)
    (server,) = web.listen({0: jaeger.query(store)}, "127.0.0.1")
    try:
        nobody, there = "http://127.0.0.1:1", f"http://127.0.0.1:{server.server_address[1]}"
        tracing = Tracing((nobody, there))
        assert tracing.info()["enabled"] is True
        found = tracing.traces("bookinfo", ["reviews"], {})
        assert (found["jaegerServiceName"], len(found["data"])) == ("reviews.bookinfo", 1)
        assert [(span["duration"], span["traceSize"]) for span in tracing.spans("bookinfo", ["reviews"], {})] == [
            (2000, 2)
        ]
        assert len(tracing.trace(f"{7:032x}")["data"]["spans"]) == 2
        assert (tracing.errors("bookinfo", "reviews", {}), tracing.errors("bookinfo", "details", {})) == (1, 0)
    finally:
        server.server_close()


def test_without_jaeger_there_is_no_tab(api):
    assert get(f"{api}/jaeger")[1]["enabled"] is False
    assert get(f"{api}/namespaces/bookinfo/apps/reviews/spans") == (200, [])
    assert get(f"{api}/namespaces/bookinfo/apps/reviews/traces")[0] == 503


def test_settings_of_both_releases(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("auth: {strategy: login}\nexternal_services: {prometheus: {url: 'http://other:9090'}}\n")
    found = read(config, {"LABKIT_RELEASE": "1.2.2"}, tmp_path, "v0.20")
    assert (found.login, found.prometheus, found.release) == (True, "http://other:9090", "1.2.2")
    config.write_text("auth: {strategy: anonymous}\nexternal_services: {prometheus: {enabled: true}}\n")
    found = read(config, {"LABKIT_CLOCKS": "istio"}, tmp_path, "v2.26")
    assert (found.login, found.prometheus, found.scrape) == (False, "http://prometheus:9090", 15)
