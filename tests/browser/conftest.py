# SPDX-License-Identifier: Apache-2.0
"""Chromium that can reach nothing but this machine, and JupyterLab below a prefix, on a mesh with traffic."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labkit import cluster, istio
from labkit.observe.jaeger import Jaeger
from labkit.observe.prometheus import Prometheus
from meshbox.kiali_console import console
from tests.browser.views import traffic
from tests.e2e.traced import load_is_traced
from tests.shops import Shop, pytest_runtest_teardown, shared_shop, shop_release
from tests.ui.jupyter import jupyterlab
from tests.ui.test_ui_lab import Lab

__all__ = ["pytest_runtest_teardown", "shared_shop", "shop_release"]

CHROMIUM = shutil.which("chromium")
REQUESTS = 12
PREFIX = "/user/learner"


@dataclass
class Window:
    """A browser, and what went wrong in its pages.

    Args:
        context: Playwright's; what opens a page.
        pictures: Where screenshots go.
    """

    context: Any
    pictures: Path
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, url: str) -> Any:
        """A new page at `url`."""
        page = self.context.new_page()
        page.goto(url)
        return page

    def picture(self, page: Any, name: str) -> None:
        """Keep what is seen now."""
        page.screenshot(path=self.pictures / f"{name}.png")

    def watch(self, page: Any) -> None:
        """Keep the errors of its scripts; Debian's Prometheus loads a module as a plain script, which does no harm."""
        page.on(
            "pageerror",
            lambda error: "Unexpected token 'export'" in str(error) or self.errors.append(f"{page.url}: {error}"),
        )

    def refuse(self, route: Any) -> None:
        # JupyterLab's own look for news is not ours; anything else that leaves the machine is.
        if "jupyter" not in route.request.url:
            self.outside.append(route.request.url)
        route.abort()


@pytest.fixture(scope="module")
def chromium() -> str:
    """Its program, or skip."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: labkit setup --tests says how to get it")
    return CHROMIUM


@pytest.fixture(scope="module")
def shop(chromium: str, shared_shop: Shop) -> Shop:
    """BookInfo with traces and metrics of at least twelve requests."""
    release = shared_shop.sandbox.release
    tracing = next(one for one in istio.facts(release).addons if one.name == "jaeger")
    with cluster.port_forward(f"svc/{tracing.service}", tracing.port, namespace="istio-system", show=False) as forward:
        load_is_traced(shared_shop, Jaeger(forward.url + tracing.path.rstrip("/")), REQUESTS)
    return shared_shop


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """Chromium for the module's tests; each has a context of its own, as if nobody had used it before."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def window(shop: Shop, browser: Any, tmp_path: Path) -> Iterator[Window]:
    """Chromium; at the end nothing may have been asked of the outside, and no script may have failed."""
    pictures = Path(os.environ.get("LABKIT_PICTURES") or tmp_path) / shop.sandbox.release
    pictures.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(240_000)
    made = Window(context, pictures)
    context.on("page", made.watch)
    context.route(re.compile(r"^(https?|wss?)://(?!127\.|localhost)"), made.refuse)
    yield made
    context.close()
    assert made.outside == []
    assert made.errors == []


@pytest.fixture(scope="module")
def jupyter(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab below a prefix, as a JupyterHub gives it: its address, and the folder of its notebooks."""
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    with jupyterlab(shop.sandbox, folder, home, prefix=PREFIX, seconds=90) as url:
        yield url, folder


@pytest.fixture
def lab(jupyter: tuple[str, Path], shop: Shop, window: Window) -> Lab:
    """JupyterLab with an empty page on it."""
    url, folder = jupyter
    return Lab(url, folder, shop.sandbox, window.context.new_page())


@pytest.fixture
def busy(shop: Shop) -> Iterator[None]:
    """Traffic before and during a test."""
    with (
        cluster.port_forward("svc/prometheus", 9090, namespace="istio-system", show=False) as forward,
        traffic(shop, Prometheus(forward.url)),
    ):
        yield


@pytest.fixture
def kiali() -> None:
    """Kiali's console, or skip."""
    if console() is None:
        pytest.skip("Kiali's console is not here and there is no npm to fetch it: labkit setup says what to do")
