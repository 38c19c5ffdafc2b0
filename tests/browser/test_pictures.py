# SPDX-License-Identifier: Apache-2.0
"""The pictures of the README: `make pictures` takes them from here into docs/images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from labkit.lab.start import START
from tests.browser.conftest import Window
from tests.browser.test_consoles import addon, find_traces, forwarded
from tests.browser.views import GRAPH, MESH_PAGE, see_graph, see_mesh, sign_in
from tests.conftest import REPOSITORY
from tests.shops import Shop

# What is on these pages test_consoles.py and test_dashboards_and_graph.py look at as well.
pytestmark = [pytest.mark.browser, pytest.mark.again]

SIZE = {"width": 1280, "height": 800}


def opened(window: Window, url: str) -> Any:
    page = window.open("about:blank")
    page.set_viewport_size(SIZE)
    page.goto(url)
    return page


def test_the_first_page(window: Window, jupyter: tuple[str, Path]) -> None:
    url, folder = jupyter
    for notebook in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        shutil.copy(notebook, folder)
    page = opened(window, f"{url}/lab/tree/{START}?reset")
    page.locator("[data-lesson='99-clean-up']").wait_for()
    page.locator(".jp-DirListing-item", has_text="99-clean-up").wait_for()
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    window.picture(page, "first-page")
    page.close()


def test_grafana(shop: Shop, window: Window, busy: None) -> None:
    with forwarded(shop, "grafana") as forward:
        page = opened(window, f"{forward.url}/{MESH_PAGE}")
        see_mesh(page, shop.sandbox.release)
        window.picture(page, "grafana")
        page.close()


def test_kiali(shop: Shop, window: Window, busy: None, kiali: None) -> None:
    with forwarded(shop, "kiali") as forward:
        page = opened(window, f"{forward.url}/kiali/console")
        sign_in(page, shop.sandbox.release)
        page.get_by_text("bookinfo", exact=True).first.wait_for()
        page.goto(f"{forward.url}/kiali/console/{GRAPH}&edges=requestDistribution")
        see_graph(page)
        window.picture(page, "kiali")
        page.close()


def test_jaeger(shop: Shop, window: Window) -> None:
    with forwarded(shop, "jaeger") as forward:
        page = opened(window, f"{forward.url}{addon(shop, 'jaeger').path.rstrip('/')}/")
        find_traces(page, "productpage.bookinfo")
        page.locator("#out a[href*='trace/']").first.click()
        page.locator("tr.row:has-text('reviews')").first.wait_for()
        window.picture(page, "jaeger")
        page.close()
