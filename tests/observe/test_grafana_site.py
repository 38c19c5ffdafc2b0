# SPDX-License-Identifier: Apache-2.0
"""The server of the grafana image: addresses, API, foreign pages, and the page in a browser."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from grafana_figures import Grafana
from grafana_figures.explore import asked
from grafana_figures.pod import Pod
from grafana_figures.server import app
from grafana_figures.site import Site, moment
from labkit.ground.guard import refusal
from labkit.ground.web import listen
from tests.observe.grafana_numbers import OURS, dashboards, fake

CHROMIUM = Path("/usr/bin/chromium")


def numbers(path: str, given: dict[str, str]) -> Any:
    """Every query: 42, at every moment."""
    if path.startswith("label"):
        return ["details.bookinfo.svc.cluster.local"]
    labels = {"destination_workload": "details-v1", "destination_workload_namespace": "bookinfo"}
    labels |= {"destination_service": "details.bookinfo.svc.cluster.local", "le": "1"}
    if path == "query":
        return {"resultType": "vector", "result": [{"metric": labels, "value": [time.time(), "42"]}]}
    step, end = float(given["step"]), float(given["end"])
    points = [[end - step * at, "42"] for at in range(10, -1, -1)]
    return {"resultType": "matrix", "result": [{"metric": labels, "values": points}]}


@pytest.fixture(params=OURS)
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The server of a pod with a release's dashboards, mounted as a folder."""
    (tmp_path / "dashboards").mkdir()
    for number, dashboard in enumerate(dashboards(OURS[request.param])):
        (tmp_path / "dashboards" / f"{number}.json").write_text(json.dumps(dashboard.raw))
    (tmp_path / "dashboards" / "broken.json").write_text("{")
    with fake(numbers) as url:
        source = f"datasources: [{{name: Prometheus, type: prometheus, url: '{url}', isDefault: true}}]"
        (tmp_path / "datasources.yaml").write_text(source)
        mounts = {
            "/var/lib/grafana/dashboards/istio": str(tmp_path / "dashboards"),
            "/etc/grafana/provisioning/datasources/datasources.yaml": str(tmp_path / "datasources.yaml"),
        }
        pod = Pod(mounts)
        (served,) = listen({0: app(Site(lambda: pod.grafana, "6.1.6"))}, "127.0.0.1")
        yield int(served.server_address[1])
        served.server_close()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_grafanas_own_addresses(port):
    assert json.loads(ask(port, "/api/health")[2]) == {"commit": "labkit", "database": "ok", "version": "6.1.6"}
    found = json.loads(ask(port, "/api/search?query=mesh")[2])
    assert [one["title"] for one in found] == ["Istio Mesh Dashboard"]
    assert len(json.loads(ask(port, "/api/search")[2])) == 7
    uid = found[0]["uid"]
    raw = json.loads(ask(port, f"/api/dashboards/uid/{uid}")[2])
    assert raw["dashboard"]["title"] == "Istio Mesh Dashboard"
    assert raw["meta"]["slug"] == "istio-mesh-dashboard"
    assert json.loads(ask(port, "/api/datasources")[2])[0]["type"] == "prometheus"
    status, headers, _ = ask(port, "/dashboard/db/istio-mesh-dashboard?from=now-1m")
    # Relative: it also holds below a proxy's prefix.
    assert (status, headers["Location"]) == (302, f"../../d/{uid}/istio-mesh-dashboard?from=now-1m")
    assert ask(port, f"/d/{uid}")[1]["Location"] == f"{uid}/istio-mesh-dashboard"
    for path in ("/", "/login", f"/d/{uid}/anything", f"/d-solo/{uid}/x?panelId=2"):
        status, headers, body = ask(port, path)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"<b>stand-in</b> for Grafana" in body
    assert ask(port, "/d/nothing/x")[0] == 404
    assert ask(port, "/nothing")[0] == 404
    assert b"grafana_build_info" in ask(port, "/metrics")[2]
    assert ask(port, "/", "HEAD")[2] == b""


def test_figures_follow_the_time_range_and_the_variables(port):
    answer = json.loads(ask(port, "/api/labkit/draw/istio-workload-dashboard?from=now-1m&var-workload=other")[2])
    assert next(one["chosen"] for one in answer["variables"] if one["name"] == "workload") == ["other"]
    stat = next(one for one in answer["panels"] if one["kind"] == "stat")
    assert 'destination_workload=~"other"' in stat["queries"][0] or "other" in stat["queries"][0]
    assert "42" in stat["figure"]["layout"]["annotations"][0]["text"]
    only = json.loads(ask(port, f"/api/labkit/draw/istio-workload-dashboard?panel={stat['id']}")[2])
    assert [one["id"] for one in only["panels"]] == [stat["id"]]
    for wrong in ("from=soon", "from=now&to=now-5m"):
        status, _, body = ask(port, f"/api/labkit/draw/istio-workload-dashboard?{wrong}")
        assert (status, "message" in json.loads(body)) == (400, True)


def asking(**given: str) -> str:
    return urlencode(given)


def test_explore_draws_what_is_asked_as_a_graph_and_as_a_table(port):
    rate = "sum by (destination_workload) (rate(istio_requests_total[$__rate_interval]))"
    answer = json.loads(ask(port, f"/api/labkit/explore?{asking(expr=rate)}&from=now-5m")[2])
    assert answer["problem"] == ""
    graph, table = answer["panels"]
    assert [graph["kind"], table["kind"]] == ["timeseries", "table"]
    assert graph["queries"] == table["queries"]
    assert graph["queries"] == ["sum by (destination_workload) (rate(istio_requests_total[1m]))"]
    (line,) = graph["figure"]["data"]
    assert line["y"][-1] == 42
    assert line["text"][-1] == "42 req/s"
    cells = table["figure"]["data"][0]
    assert [["details-v1"] in cells["cells"]["values"], ["42"] in cells["cells"]["values"]] == [True, True]


def test_explore_says_what_it_needs(port):
    status, _, body = ask(port, "/api/labkit/explore?expr=")
    assert (status, json.loads(body)["message"].partition("\n")[0]) == (400, "no PromQL is given")
    status, _, body = ask(port, f"/api/labkit/explore?{asking(expr='up')}&from=now&to=now-5m")
    assert (status, "ends before it starts" in json.loads(body)["message"]) == (400, True)


def test_explore_tells_prometheus_words_and_why_nothing_comes_back():
    def answer(path: str, given: dict[str, str]) -> Any:
        if path == "label/__name__/values":
            return ["up"]
        return 'parse error: "("' if given.get("query") == "sum(" else {"resultType": "vector", "result": []}

    with fake(answer) as url:
        site = Site(lambda: Grafana(url, []), "6.1.6")
        wrong = json.loads(site.answer("GET", f"/api/labkit/explore?{asking(expr='sum(')}", "localhost", "").body)
        empty = json.loads(site.answer("GET", f"/api/labkit/explore?{asking(expr='gone')}", "localhost", "").body)
    assert 'sum(: Prometheus refused the query (bad_data): parse error: "("' in wrong["problem"]
    assert wrong["panels"] == []
    assert [one["note"] for one in empty["panels"]] == ["there is no metric gone"] * 2


LEFT = {"datasource": "Prometheus", "queries": [{"refId": "A", "expr": "up"}], "range": {"from": "now-5m", "to": "now"}}


@pytest.mark.parametrize(
    "query",
    [
        {"expr": ["up"], "from": ["now-5m"], "to": ["now"]},
        {"left": [json.dumps(["now-5m", "now", "Prometheus", {"expr": "up"}])]},
        {"left": [json.dumps(LEFT)]},
        {"schemaVersion": ["1"], "panes": [json.dumps({"abc": LEFT})]},
    ],
)
def test_explores_addresses_are_grafanas(query):
    assert asked(query) == {"expr": "up", "from": "now-5m", "to": "now"}


@pytest.mark.parametrize("text", ["", "[", "1", "[]", "{}", '{"queries": 1, "range": 2}', '["now"]', "null"])
def test_an_address_that_says_nothing_asks_nothing(text):
    assert "expr" not in asked({"left": [text]})
    assert "expr" not in asked({"panes": [text]})


def test_a_picture_of_a_panel_is_rendered_where_kaleido_is(port, monkeypatch):
    sizes: list[dict[str, Any]] = []

    def png(figure: dict[str, Any], **given: Any) -> bytes:
        sizes.append({"title": figure["layout"]["title"]["text"], **given})
        return b"\x89PNG"

    monkeypatch.setattr("grafana_figures.site.png", png)
    found = json.loads(ask(port, "/api/labkit/draw/istio-mesh-dashboard")[2])["panels"]
    panel = next(one for one in found if one["kind"] == "stat")
    uid = json.loads(ask(port, "/api/search?query=mesh")[2])[0]["uid"]
    path = f"/render/d-solo/{uid}/mesh?panelId={panel['id']}&width=400&height=200&scale=2&from=now-5m"
    status, headers, body = ask(port, path)
    assert (status, headers["Content-Type"], body) == (200, "image/png", b"\x89PNG")
    assert sizes == [{"title": panel["title"], "width": 400, "height": 200, "scale": 2}]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/render/d-solo/istio-mesh-dashboard/x", 400, "no panel is named"),
        ("/render/d-solo/istio-mesh-dashboard/x?panelId=99999", 400, "no panel has the number 99999"),
        ("/render/d/istio-mesh-dashboard/x", 400, "a picture is one of a panel"),
        ("/render/d-solo/nothing/x?panelId=1", 404, "no dashboard is called 'nothing'"),
    ],
)
def test_a_picture_that_cannot_be_rendered_says_why(port, path, status, words):
    found, _, body = ask(port, path)
    assert (found, words in json.loads(body)["message"]) == (status, True)


def test_a_picture_without_kaleido_says_how_to_get_it(port, monkeypatch):
    monkeypatch.setattr("grafana_figures.picture.find_spec", lambda _: None)
    found = json.loads(ask(port, "/api/labkit/draw/istio-mesh-dashboard")[2])["panels"]
    panel = next(one for one in found if one["kind"] == "stat")
    status, _, body = ask(port, f"/render/d-solo/istio-mesh-dashboard/x?panelId={panel['id']}")
    assert (status, "mesh-workshop[png]" in json.loads(body)["message"]) == (501, True)


def test_plotly_is_served_from_here_for_a_year(port):
    status, headers, body = ask(port, "/public/plotly.min.js")
    assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    assert len(body) == int(headers["Content-Length"]) > 1_000_000
    assert ask(port, "/public/../server.py")[0] == 404


@pytest.mark.parametrize(
    ("method", "host", "origin", "status"),
    [
        ("GET", "evil.example", "", 403),
        ("GET", "127.0.0.1:3000", "null", 403),
        ("POST", "127.0.0.1:3000", "http://evil.example", 403),
        ("POST", "127.0.0.1:3000", "", 405),
        ("GET", "grafana.istio-system:3000", "", 200),
        ("GET", "localhost:8888", "http://localhost:8888", 200),
    ],
)
def test_foreign_pages_are_refused(port, method, host, origin, status):
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert ask(port, "/api/health", method, **headers)[0] == status


def test_refusals_say_why():
    assert refusal("GET", "evil.example", "") == "this server does not answer to the name 'evil.example'"
    assert refusal("GET", "", "") != ""


def test_moments():
    assert moment("now-5m", 1000.0) == 700.0
    assert moment("1500", 0.0) == 1.5


def test_a_changed_file_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("grafana_figures.pod._LOOK_AGAIN", 0.0)
    file = tmp_path / "a.json"
    file.write_text('{"title": "One", "panels": []}')
    pod = Pod({"/var/lib/grafana/dashboards/istio/a.json": str(file)})
    assert [one.title for one in pod.grafana.dashboards] == ["One"]
    file.write_text('{"title": "Another", "panels": []}')
    assert [one.title for one in pod.grafana.dashboards] == ["Another"]


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_the_page_in_a_browser(port):
    sync_api = pytest.importorskip("playwright.sync_api")
    faults: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(240_000)
        own = f"http://127.0.0.1:{port}/"
        page.route(
            lambda url: not url.startswith((own, "data:", "blob:")), lambda route: faults.append(route.request.url)
        )
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{own}dashboard/db/istio-mesh-dashboard?from=now-5m")
        page.wait_for_selector("body[data-drawn]")
        assert page.title().startswith("Istio Mesh Dashboard")
        assert page.locator(".js-plotly-plot .main-svg").count() >= 7
        assert page.locator("article", has_text="Volume").first.locator("text=42").count() >= 1
        assert page.locator("article", has_text="Workloads").first.locator("text=details").count() >= 1
        assert "stand-in" in page.inner_text(".note")
        page.select_option("#from", "now-1m")
        page.wait_for_selector("body[data-drawn='2']")
        assert "from=now-1m" in page.url
        page.select_option("#dashboards", label="Istio Workload Dashboard")
        page.wait_for_selector(".variable")
        page.wait_for_selector("body[data-drawn]")
        assert page.locator(".variable").count() >= 4
        assert page.locator(".legend button").count() >= 1
        page.locator("h2 a").first.click()
        page.wait_for_url("**/explore?expr=*")
        page.wait_for_selector("body[data-drawn]")
        assert "/explore?expr=" in page.url
        assert page.input_value("#expression") != ""
        page.fill("#expression", "sum(istio_requests_total)")
        page.keyboard.press("Shift+Enter")
        page.wait_for_selector("body[data-drawn='2']")
        assert "expr=sum%28istio_requests_total%29" in page.url
        assert page.locator("article[data-kind=timeseries] .main-svg").count() >= 1
        assert page.locator("article[data-kind=table]", has_text="42").count() == 1
        assert page.is_hidden("#problem")
        browser.close()
    assert faults == []
