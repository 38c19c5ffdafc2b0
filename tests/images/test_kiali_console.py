# SPDX-License-Identifier: Apache-2.0
"""The genuine console in a browser: what a learner sees, in a frame and behind a prefix as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from labkit.ground import config, web
from labkit.ground.client import send
from meshbox.kiali_console import console
from tests.images.kiali_world import World, kiali, to, virtual_service
from tests.images.test_kiali_envoy import DUMP, leading_to, proxied, said

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.skipif(console() is None, reason="the console was not fetched: labkit setup"),
    pytest.mark.skipif(config.tool("chromium") is None, reason="there is no Chromium: labkit setup --tests"),
]

WAIT = 240_000
"""Milliseconds until something must be seen; the first page compiles four megabytes of script."""

GRAPH = "console/graph/namespaces?namespaces=bookinfo&graphType=versionedApp&duration=60&edges=requestsPerSecond"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=str(config.tool("chromium")), args=flags)
        yield made
        made.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    folder = console()
    assert folder is not None
    world = World(istio={"virtualservices": [virtual_service("reviews", to("reviews", "v9"))]})
    with kiali(world, folder) as found:
        yield found


def patient(made: Page) -> Page:
    """A page that waits long for whatever is asked of it: by itself it gives up after 30 seconds."""
    made.set_default_timeout(WAIT)
    return made


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page; the test fails if anything went wrong in it, or if it asked anybody outside."""
    made = patient(browser.new_page(viewport={"width": 1300, "height": 800}))
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    made.on("request", lambda sent: wrong.append(sent.url) if outside(sent.url) else None)
    yield made
    made.close()
    assert wrong == []


def outside(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme not in ("data", "blob") and parts.hostname not in ("127.0.0.1", "localhost")


COUNT = """() => {
  const holders = [...document.querySelectorAll('*')].filter((one) => one._cyreg && one._cyreg.cy);
  if (!holders.length) return null;
  const cy = holders[0]._cyreg.cy;
  const nodes = cy.nodes().filter((one) => !one.data('isBox'));
  return nodes.length ? [nodes.length, cy.edges().length] : null;
}"""


def drawn(where) -> list[int]:
    """How many nodes and edges the canvas holds, once it does."""
    return list(where.wait_for_function(COUNT, timeout=WAIT).json_value())


def test_overview(page, address):
    page.goto(f"{address}/kiali/console/overview")
    page.get_by_text("4 Applications").first.wait_for(timeout=WAIT)
    assert page.get_by_text("bookinfo", exact=True).first.is_visible()


def test_graph(page, address, tmp_path):
    page.goto(f"{address}/kiali/{GRAPH}")
    # 7 apps' versions and 4 Services; an edge to each Service and from it to each version, and those of ratings.
    assert drawn(page) == [11, 11]
    picture = tmp_path / "graph.png"
    page.screenshot(path=str(picture))
    assert picture.stat().st_size > 20_000


def test_istio_config_shows_what_is_wrong(page, address):
    page.goto(f"{address}/kiali/console/namespaces/bookinfo/istio/virtualservices/reviews?list=yaml")
    # The editor marks the line of the subset that is nowhere defined.
    page.wait_for_selector(".ace_gutter-cell.ace_warning", timeout=WAIT)
    page.locator(".istio-validation-warning").first.wait_for(timeout=WAIT)
    assert page.locator(".istio-validation-warning").count() == 1


def test_workload_log(page, address):
    page.goto(f"{address}/kiali/console/namespaces/bookinfo/workloads/reviews-v1?tab=logs")
    page.get_by_text("ERROR no ratings").first.wait_for(timeout=WAIT)


def test_what_a_proxy_was_told(browser):
    folder = console()
    assert folder is not None
    with kiali(proxied(leading_to(said(json.dumps(DUMP)))), folder) as address:
        page = patient(browser.new_page(viewport={"width": 1400, "height": 900}))
        page.goto(f"{address}/kiali/console/namespaces/bookinfo/workloads/reviews-v1")
        page.get_by_text("reviews-v1-1-a").first.wait_for(timeout=WAIT)
        page.locator("button:has-text('Actions')").first.click(timeout=WAIT)
        page.get_by_text("Show Envoy Details").click(timeout=WAIT)
        shown = page.locator(".pf-c-modal-box")
        for part, row in (("clusters", "reviews.bookinfo.svc.cluster.local"), ("routes", "regex /[a-z]+")):
            # The first list is of pods, the second of what may be shown.
            shown.locator("button[id^=pf-toggle]").nth(1).click(timeout=WAIT)
            shown.locator(f"button:has-text('{part}')").last.click(timeout=WAIT)
            shown.get_by_text(row).first.wait_for(timeout=WAIT)
        page.close()


@pytest.mark.parametrize("path", ["applications", "workloads", "services"])
def test_lists(page, address, path):
    page.goto(f"{address}/kiali/console/{path}?namespaces=bookinfo")
    page.get_by_text("ratings").first.wait_for(timeout=WAIT)


def test_in_a_frame_below_a_prefix(page, address):
    port = urlsplit(address).port or 0
    prefix = "/user/alice/proxy/20001"

    def proxy(request: web.Request) -> web.Response:
        if not request.target.startswith(prefix):
            frame = f'<iframe src="{prefix}/kiali/{GRAPH}&kiosk=true" width=1200 height=700></iframe>'
            return web.Response(200, f"<!DOCTYPE html><link rel=icon href='data:,'>{frame}")
        headers = {name: request.headers[name] for name in ("accept", "content-type") if name in request.headers}
        target = request.target.removeprefix(prefix)
        url = f"http://127.0.0.1:{port}{target}"
        answer = send(url, request.method, headers, request.body or None, timeout=240)
        kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}.get(
            urlsplit(target).path.rpartition(".")[2], "text/html" if "/console" in target else "application/json"
        )
        return web.Response(answer.status, answer.body, content_type=kind)

    (server,) = web.listen({0: proxy}, "127.0.0.1")
    try:
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/lab")
        frame = page.wait_for_selector("iframe", timeout=WAIT).content_frame()
        assert drawn(frame) == [11, 11]
        # Without head and menu: the graph's toolbar begins at the top.
        assert frame.query_selector("header") is None or not frame.query_selector("header").is_visible()
    finally:
        page.goto("about:blank")
        server.server_close()


def test_the_login_form(browser, tmp_path: Path):
    (tmp_path / "username").write_text("admin")
    (tmp_path / "passphrase").write_text("admin")
    folder = console()
    assert folder is not None
    with kiali(World(), folder, secret=tmp_path) as address:
        context = browser.new_context()
        page = patient(context.new_page())
        page.goto(f"{address}/kiali/console")
        page.fill("#username", "admin")
        page.fill("#password", "guess")
        page.click("button")
        page.get_by_text("Incorrect username or password").wait_for(timeout=WAIT)
        page.fill("#username", "admin")
        page.fill("#password", "admin")
        page.click("button")
        page.get_by_text("4 Applications").first.wait_for(timeout=WAIT)
        context.close()
