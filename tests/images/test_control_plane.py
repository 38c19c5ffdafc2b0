# SPDX-License-Identifier: Apache-2.0
"""Pages of the control plane's stand-ins: what their processes use, and what the mesh did for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit.ground import web
from meshbox.images import references as registry
from meshbox.images.istio import components
from meshbox.images.istio.work import work_of
from tests.metrics_page import Page


def mesh(request: web.Request) -> web.Response:
    if request.headers.get("authorization") != "Bearer token" or request.headers.get("host") != "xds-grpc":
        return web.Response(403, "no")
    return web.Response(200, f'asked{{target="{request.target}"}} 1\n', content_type="text/plain")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (server,) = web.listen({0: mesh}, "127.0.0.1")
    monkeypatch.setenv("LABKIT_MESH", f"127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("LABKIT_MESH_TOKEN", "token")
    monkeypatch.setenv("LABKIT_NAMESPACE", "istio-system")
    monkeypatch.setenv("HOSTNAME", "istio-pilot-1")
    monkeypatch.setenv("LABKIT_IMAGE", "docker.io/istio/pilot:1.2.2")
    yield
    server.server_close()


def test_pilots_page(running: None) -> None:
    app = components._monitoring("istio-pilot", "words", "pilot")
    answer = app(web.Request("GET", "/metrics", {}))
    page = Page(answer.body)
    assert answer.status == 200
    assert page.one("istio_build", component="pilot", tag="1.2.2") == 1
    assert page.one("asked", target="/metrics/pilot?namespace=istio-system&pod=istio-pilot-1") == 1
    assert page.one("process_resident_memory_bytes") > 5e6
    assert not any(name.startswith("go_") for name in page.names)


def test_a_mesh_that_refuses_or_is_away_leaves_its_lines_out(
    running: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_MESH_TOKEN", "wrong")
    assert work_of("pilot") == ""
    monkeypatch.setenv("LABKIT_MESH", "127.0.0.1:1")
    assert work_of("pilot") == ""
    assert "the mesh does not say what it has done" in capfd.readouterr().err
    monkeypatch.delenv("LABKIT_MESH")
    assert work_of("pilot") == ""


def test_the_programs_are_still_loaded_once_for_all() -> None:
    assert "meshbox.images.istio.components" in registry.modules()
