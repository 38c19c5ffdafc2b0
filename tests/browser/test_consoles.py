# SPDX-License-Identifier: Apache-2.0
"""Prometheus' and Jaeger's pages as a learner meets them: by themselves, in a notebook's frame, from the launcher."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import TimeoutError

from labkit import cluster, istio
from labkit.course.folder import notebooks
from labkit.ground.config import RELEASES
from labkit.istio.model import Addon
from labkit.lab.start import START
from tests.browser.conftest import PREFIX, REQUESTS, Window
from tests.conftest import wait_until
from tests.shops import Shop
from tests.ui.jupyter import CHOOSE
from tests.ui.test_ui_lab import Lab

pytestmark = pytest.mark.browser

COUNTED = 'sum by (destination_workload) (istio_requests_total{reporter="destination"})'


def addon(shop: Shop, name: str) -> Addon:
    return next(one for one in istio.facts(shop.sandbox.release).addons if one.name == name)


def forwarded(shop: Shop, name: str) -> cluster.PortForward:
    one = addon(shop, name)
    return cluster.port_forward(f"svc/{one.service}", one.port, namespace="istio-system", show=False)


def ask_prometheus(frame) -> None:
    """Type a question, and ask until all requests are in the answer's table."""
    frame.locator("textarea[name=expr]").fill(COUNTED)

    def counted() -> bool:
        frame.locator("input.execute_btn, input[value=Execute]").first.click()
        row = frame.locator("tr:has-text('productpage-v1') td")
        try:
            row.last.wait_for(timeout=10_000)
        except TimeoutError:
            # A scrape was missed, so the answer is empty: asked again, as a reader would.
            return False
        return int(row.last.inner_text()) >= REQUESTS

    wait_until(counted, 60, f"{REQUESTS} requests in the table")


def find_traces(frame, service: str) -> None:
    """Choose the gateway, find its traces, and open one as a waterfall."""
    option = frame.locator("#service option", has_text=service).first
    option.wait_for(state="attached")
    frame.locator("#service").select_option(option.inner_text())
    frame.locator("button:has-text('Find traces')").click()
    frame.locator("#out a[href*='trace/']").first.wait_for()


def test_prometheus_by_itself(shop: Shop, window: Window) -> None:
    with forwarded(shop, "prometheus") as forward:
        page = window.open(f"{forward.url}/graph")
        ask_prometheus(page)
        window.picture(page, "prometheus")
        page.close()


def test_jaeger_by_itself(shop: Shop, window: Window) -> None:
    with forwarded(shop, "jaeger") as forward:
        page = window.open(f"{forward.url}{addon(shop, 'jaeger').path.rstrip('/')}/")
        find_traces(page, "istio-ingressgateway")
        window.picture(page, "jaeger-search")
        page.locator("#out a[href*='trace/']").first.click()
        page.locator("tr.row:has-text('reviews')").first.wait_for()
        # A trace that is still arriving completes itself.
        wait_until(lambda: page.locator("tr.row").count() >= 6, 60, "the spans of a page")
        window.picture(page, "jaeger-trace")
        page.close()


def test_a_trace_that_is_still_arriving_completes_itself(shop: Shop, window: Window) -> None:
    collector = f"http://{shop.pod('jaeger', 'istio-system')['status']['podIP']}:9411/api/v2/spans"

    def send(span: int, service: str) -> None:
        made = {"traceId": "a1", "id": f"{span}", "name": service, "timestamp": started, "duration": 1000}
        made |= {"parentId": "1"} if span > 1 else {}
        body = json.dumps([made | {"localEndpoint": {"serviceName": service}}]).encode()
        with urllib.request.urlopen(urllib.request.Request(collector, body), timeout=120) as answer:
            assert answer.status == 202

    with forwarded(shop, "jaeger") as forward:
        # As young as can be: how long the browser takes to begin has no part in it.
        started = round((time.time() + 60) * 1e6)
        send(1, "gateway")
        page = window.open(f"{forward.url}{addon(shop, 'jaeger').path.rstrip('/')}/trace/a1")
        page.locator("tr.row:has-text('gateway')").wait_for()
        assert page.locator("tr.row").count() == 1
        send(2, "reviews")
        page.locator("tr.row:has-text('reviews')").wait_for()
        assert page.locator("tr.row").count() == 2
        page.close()


def test_both_in_a_notebook_below_a_prefix(shop: Shop, window: Window, lab: Lab) -> None:
    embedded = (
        'ui.embed("prometheus", "graph")',
        'ui.embed("jaeger")',
        "import plotly.express as px\npx.bar(y=[1, 3, 2])",
    )
    begin = CHOOSE + "from labkit import display, ui\ndisplay.figures_without_internet()"
    lab.play("frames", begin, *embedded)
    frame = lab.page.frame_locator("iframe[title=Prometheus]")
    ask_prometheus(frame)
    lab.page.locator("iframe[title=Prometheus]").scroll_into_view_if_needed()
    window.picture(lab.page, "notebook-prometheus")
    source = lab.page.locator("iframe[title=Prometheus]").get_attribute("src")
    assert source.startswith(f"{PREFIX}/proxy/")
    lab.page.locator("iframe[title=Jaeger]").scroll_into_view_if_needed()
    find_traces(lab.page.frame_locator("iframe[title=Jaeger]"), "istio-ingressgateway")
    window.picture(lab.page, "notebook-jaeger")
    lab.page.locator(".js-plotly-plot .bars .point").first.wait_for()


def test_bookinfo_in_a_notebook_below_a_prefix(shop: Shop, window: Window, lab: Lab) -> None:
    lab.play("bookinfo", CHOOSE + "from labkit import ui", 'ui.embed("bookinfo")')
    where = lab.page.locator("iframe[title=BookInfo]")
    where.wait_for()
    source = where.get_attribute("src")
    assert source.startswith(f"{PREFIX}/proxy/")
    frame = where.element_handle().content_frame()
    frame.get_by_role("heading", name="The Comedy of Errors").wait_for()
    # Its pictures and its style sheet come the same way; the page is loaded once they have come, or have failed.
    frame.wait_for_load_state("load", timeout=240_000)
    assert frame.locator("img.cover").evaluate("(image) => image.complete && image.naturalWidth > 0")
    assert frame.evaluate("document.styleSheets.length") == 1
    frame.get_by_text("Sign in").first.click()
    frame.locator("input[name=username]").fill("jason")
    frame.locator("button[type=submit]").click()
    frame.locator(".user", has_text="jason").wait_for()
    assert frame.url.endswith(source)
    # Who has signed in is known after a reload, and to nobody else below this server.
    frame.evaluate("window.before = true")
    lab.page.get_by_role("link", name="Reload").click()
    frame.wait_for_function("() => window.before === undefined")
    frame.wait_for_load_state()
    frame.locator(".user", has_text="jason").wait_for()
    (session,) = (cookie for cookie in window.context.cookies() if cookie["name"] == "session")
    assert session["path"] == source.removesuffix("/productpage")
    where.scroll_into_view_if_needed()
    window.picture(lab.page, "notebook-bookinfo")
    frame.get_by_role("link", name="Sign out").click()
    frame.get_by_text("Sign in").first.wait_for()
    assert frame.url.endswith(source)


def test_the_start_page_follows_the_lessons(shop: Shop, window: Window, lab: Lab) -> None:
    shutil.copy(notebooks() / START, lab.folder)
    lab.page.goto(f"{lab.url}/lab/tree/{START}?reset")
    row = lab.page.locator("[data-lesson='00-kubernetes']")
    row.wait_for()
    assert row.locator(".tick").get_attribute("aria-label") == "not done yet"
    assert lab.page.locator("select[data-name=release]").input_value() == shop.sandbox.release
    lab.page.get_by_text("which is running").wait_for()
    # A lesson ends somewhere else while the page is open.
    lesson = f'from labkit import course; course.begin("00-kubernetes", "{shop.sandbox.release}").done()'
    command = [sys.executable, "-c", lesson]
    done = subprocess.run(command, env=shop.sandbox.env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    row.locator(".tick[aria-label=done]").wait_for()
    assert lab.page.locator("li.next").get_attribute("data-lesson") == "01-install-istio"
    window.picture(lab.page, "start")
    # What the course runs on is chosen here, for all notebooks; the other release has ticks of its own.
    other = next(one for one in RELEASES if one != shop.sandbox.release)
    lab.page.locator("select[data-name=release]").select_option(other)
    row.locator(".tick[aria-label='not done yet']").wait_for()
    kept = shop.sandbox.labkit_home / "choice.json"
    assert json.loads(kept.read_text())["release"] == other
    lab.page.locator("select[data-name=release]").select_option(shop.sandbox.release)
    row.locator(".tick[aria-label=done]").wait_for()
    kept.unlink()
    # Another site's page cannot: it does not know what stands in the cookie.
    request = urllib.request.Request(f"{lab.url}/labkit/start", b'{"release": "1.2.2"}', method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=120)
    with refused.value as answer:
        assert answer.code == 403
    assert not kept.exists()
    # A lesson opens beside it, in the same JupyterLab.
    shutil.copy(notebooks() / "00-kubernetes.ipynb", lab.folder)
    row.get_by_role("link").click()
    lab.page.get_by_role("heading", name="An empty Kubernetes").wait_for()
    assert (lab.folder / START).is_file()


def test_the_launcher_opens_them(shop: Shop, window: Window, lab: Lab) -> None:
    lab.page.goto(f"{lab.url}/lab?reset")
    section = lab.page.locator(".jp-Launcher-section:has-text('Istio')")
    section.wait_for()
    # The page asks for all but the first, which comes with the extension, and draws them when it is told.
    titles = ["Start", "BookInfo", "Grafana", "Jaeger", "Kiali", "Prometheus"]
    labels = section.locator(".jp-LauncherCard-label")
    wait_until(lambda: [one.split()[0] for one in labels.all_inner_texts()] == titles, what="a tile for each page")
    # Each with its own picture in the page, not a letter in its place.
    icons = section.locator(".jp-LauncherCard-icon svg")
    wait_until(lambda: icons.count() == len(titles), what="a picture in each tile")
    lab.page.locator(".jp-Launcher-section:has-text('Istio')").scroll_into_view_if_needed()
    window.picture(lab.page, "launcher")
    for title, look in (("Prometheus", ask_prometheus), ("Jaeger", lambda p: find_traces(p, "istio-ingressgateway"))):
        with window.context.expect_page() as opened:
            section.locator(f".jp-LauncherCard:has-text('{title}')").click()
        look(opened.value)
        assert f"{PREFIX}/lab-{title.lower()}/" in opened.value.url
        opened.value.close()


@pytest.mark.parametrize("host", ["169.254.169.254:80", "10.0.0.1:80", "{node}:6443"])
def test_the_proxy_leads_to_the_lab_only(shop: Shop, jupyter, host: str) -> None:
    url, _ = jupyter
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/proxy/{host.format(node=shop.sandbox.node)}/", timeout=120)
    with refused.value as answer:
        assert answer.code == 403
