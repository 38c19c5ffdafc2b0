# SPDX-License-Identifier: Apache-2.0
"""Grafana's dashboards and Kiali's graph as a learner meets them: by themselves, in a notebook's frame, launched."""

from __future__ import annotations

import pytest

from tests.browser.conftest import PREFIX, Window
from tests.browser.test_consoles import forwarded
from tests.browser.views import GRAPH, MESH_PAGE, see_graph, see_mesh, sign_in
from tests.shops import Shop
from tests.ui.jupyter import CHOOSE
from tests.ui.test_ui_lab import Lab

pytestmark = pytest.mark.browser


def test_grafana_by_itself(shop: Shop, window: Window, busy: None) -> None:
    with forwarded(shop, "grafana") as forward:
        page = window.open(f"{forward.url}/{MESH_PAGE}")
        see_mesh(page, shop.sandbox.release)
        window.picture(page, "grafana")
        page.close()


def test_kiali_by_itself(shop: Shop, window: Window, busy: None, kiali: None) -> None:
    with forwarded(shop, "kiali") as forward:
        page = window.open(f"{forward.url}/kiali/console")
        sign_in(page, shop.sandbox.release)
        page.get_by_text("bookinfo", exact=True).first.wait_for()
        page.goto(f"{forward.url}/kiali/console/{GRAPH}")
        see_graph(page)
        window.picture(page, "kiali")
        page.close()


def test_both_in_a_notebook_below_a_prefix(shop: Shop, window: Window, lab: Lab, busy: None, kiali: None) -> None:
    # As the lesson does it: the password is read from the Secret, and the page is opened below the session's name.
    begin = CHOOSE + "from labkit import ui\nfrom labkit.observe.kiali import Kiali\n"
    begin += 'kiali = Kiali.of_cluster(ui.address_of("kiali", show=False))'
    graph = 'page = kiali.page("graph/namespaces", namespaces="bookinfo,istio-system", '
    graph += 'graphType="versionedApp", duration="60")\nui.embed("kiali", page)'
    lab.play("boards", begin, f'ui.embed("grafana", "{MESH_PAGE}")', graph)
    for title, see in (("Grafana", lambda at: see_mesh(at, shop.sandbox.release)), ("Kiali", see_graph)):
        where = lab.page.locator(f"iframe[title={title}]")
        where.wait_for()
        assert where.get_attribute("src").startswith(f"{PREFIX}/proxy/")
        where.scroll_into_view_if_needed()
        see(where.element_handle().content_frame())
        window.picture(lab.page, f"notebook-{title.lower()}")


def test_the_launcher_opens_them(shop: Shop, window: Window, lab: Lab, busy: None, kiali: None) -> None:
    lab.page.goto(f"{lab.url}/lab?reset")
    section = lab.page.locator(".jp-Launcher-section:has-text('Istio')")
    section.wait_for()
    for title in ("Grafana", "Kiali"):
        with window.context.expect_page() as opened:
            section.locator(f".jp-LauncherCard:has-text('{title}')").click()
        page = opened.value
        begin = f"{PREFIX}/lab-{title.lower()}/"
        # A page is there before its address is.
        page.wait_for_url(lambda url, begin=begin: begin in url)
        if title == "Grafana":
            page.get_by_text("Istio Mesh Dashboard").first.wait_for(state="attached")
        else:
            # As in a notebook: who opens it from the workshop has logged in.
            page.get_by_text("bookinfo", exact=True).first.wait_for()
        page.close()
