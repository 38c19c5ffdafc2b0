# SPDX-License-Identifier: Apache-2.0
"""The API server's own metrics, and the node's through it and at the kubelet's port."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from meshbox.api.kubelet_proxy import KUBELET_PORT, proxied
from meshbox.api.objects import ObjectStore
from meshbox.api.server import ApiServer
from meshbox.contracts import ApiError
from meshbox.settings import SandboxSettings
from tests.metrics_page import Page

from .conftest import MAPS, Cluster, config_map, eventually


async def metrics(cluster: Cluster) -> Page:
    return Page((await cluster.request("GET", "/metrics")).text)


async def test_every_request_is_counted_once_by_what_it_was(cluster: Cluster) -> None:
    for name in ("one", "two"):
        assert (await cluster.request("POST", MAPS, config_map(name))).status == 201
    assert (await cluster.request("POST", MAPS, config_map("one"))).status == 409
    assert (await cluster.request("GET", MAPS)).status == 200
    assert (await cluster.request("GET", "/api/v1/configmaps")).status == 200
    assert (await cluster.request("DELETE", f"{MAPS}/two")).status == 200
    page = await metrics(cluster)
    what = {"resource": "configmaps", "version": "v1", "component": "apiserver", "group": ""}
    assert page.one("apiserver_request_total", verb="POST", code="201", scope="namespace", **what) == 2
    assert page.one("apiserver_request_total", verb="POST", code="409", scope="namespace", **what) == 1
    assert page.one("apiserver_request_total", verb="LIST", code="200", scope="namespace", **what) == 1
    assert page.one("apiserver_request_total", verb="LIST", code="200", scope="cluster", **what) == 1
    assert page.one("apiserver_request_total", verb="DELETE", code="200", scope="resource", **what) == 1
    assert page.one("apiserver_request_duration_seconds_count", verb="POST", **what) == 3
    assert page.one("apiserver_request_duration_seconds_bucket", verb="POST", le="60", **what) == 3
    assert page.one("apiserver_storage_objects", resource="configmaps") == len(cluster.objects.list("configmaps"))
    assert page.one("kubernetes_build_info", git_version="v1.35.4") == 1
    assert page.one("process_resident_memory_bytes") > 1e7
    assert "apiserver_request_count" not in page.names
    assert not any(name.startswith("go_") for name in page.names)


@pytest.mark.parametrize("release", ["1.2.2"])
async def test_the_older_kubernetes_has_the_older_names(cluster: Cluster, release: str) -> None:
    headers = {"User-Agent": "kubectl/v1.14.0 (linux/amd64) kubernetes/641856d"}
    await cluster.request("GET", MAPS, headers=headers)
    page = await metrics(cluster)
    for name in ("apiserver_request_total", "apiserver_request_count"):
        labels = {"client": "kubectl/v1.14.0", "contentType": "application/json", "code": "200"}
        assert page.one(name, verb="LIST", resource="configmaps", **labels) == 1
    assert page.one("etcd_object_counts", resource="namespaces") == len(cluster.objects.list("namespaces"))
    assert page.one("kubernetes_build_info", gitVersion="v1.14.10") == 1


async def test_a_watch_is_running_and_then_counted(cluster: Cluster) -> None:
    what = {"verb": "WATCH", "resource": "configmaps", "scope": "namespace"}
    headers = {"Authorization": f"Bearer {cluster.settings.token}"}
    async with cluster.session.get(f"{cluster.url}{MAPS}?watch=true", headers=headers) as answer:
        assert answer.status == 200
        page = await metrics(cluster)
        assert page.one("apiserver_longrunning_requests", **what) == 1
        assert page.all("apiserver_request_total", **what) == []
        answer.close()
    await eventually(lambda: len(cluster.server.watches) == 0, "the watch has ended")
    page = await metrics(cluster)
    assert page.one("apiserver_longrunning_requests", **what) == 0
    assert page.one("apiserver_request_total", code="200", **what) == 1


async def test_metrics_need_a_token(cluster: Cluster) -> None:
    reply = await cluster.request("GET", "/metrics", headers={"Authorization": None})
    assert reply.status == 403
    assert "apiserver_request_total" not in reply.text


def test_paths_of_a_nodes_proxy() -> None:
    assert proxied("/api/v1/nodes/labkit-test/proxy/metrics/cadvisor") == ("labkit-test", "/metrics/cadvisor")
    assert proxied("/api/v1/nodes/labkit-test/proxy") == ("labkit-test", "/")
    assert proxied("/api/v1/nodes/labkit-test/status") is None
    assert proxied("/api/v1/namespaces/x/pods/y/proxy") is None


class Pages:
    """A node with two pages."""

    async def metrics(self, path: str) -> str:
        if path not in ("/metrics", "/metrics/cadvisor"):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return f'page{{path="{path}"}} 1\n'


@pytest.fixture
async def with_node(objects: ObjectStore, settings: SandboxSettings, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A running API server with a node that has nothing but metrics."""
    objects.create("nodes", {"metadata": {"name": "labkit-test"}})
    server = ApiServer(objects, settings, Pages())  # type: ignore[arg-type]
    await server.start()
    context = ssl.create_default_context(cafile=str(settings.home / "ca.crt"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield Cluster(objects, settings, server, session, tmp_path)
    await server.stop()


@pytest.mark.parametrize("path", ["/metrics", "/metrics/cadvisor"])
async def test_the_nodes_pages_through_the_proxy_and_at_its_own_port(with_node: Cluster, path: str) -> None:
    reply = await with_node.request("GET", f"/api/v1/nodes/labkit-test/proxy{path}")
    assert (reply.status, Page(reply.text).one("page", path=path)) == (200, 1)
    headers = {"Authorization": f"Bearer {with_node.settings.token}"}
    own = f"https://{with_node.settings.plan.node}:{KUBELET_PORT}"
    async with with_node.session.get(own + path, headers=headers) as answer:
        assert (answer.status, await answer.text()) == (200, reply.text)


async def test_the_kubelets_port_is_for_those_with_a_token(with_node: Cluster) -> None:
    own = f"https://{with_node.settings.plan.node}:{KUBELET_PORT}"
    token = {"Authorization": f"Bearer {with_node.settings.token}"}
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        (token | {"Origin": "https://evil.example"}, 403),
        (token | {"Host": "evil.example"}, 403),
    ):
        async with with_node.session.get(f"{own}/metrics", headers=headers) as answer:
            assert (answer.status, "page" in await answer.text()) == (status, False)
    async with with_node.session.post(f"{own}/metrics", headers=token) as answer:
        assert answer.status == 405


async def test_other_nodes_and_pages_are_not_found(with_node: Cluster) -> None:
    for path in ("/api/v1/nodes/other/proxy/metrics", "/api/v1/nodes/labkit-test/proxy/nothing"):
        reply = await with_node.request("GET", path)
        assert (reply.status, reply.body["reason"]) == (404, "NotFound")
    page = await metrics(with_node)
    assert page.one("apiserver_request_total", verb="CONNECT", resource="nodes", subresource="proxy", code="404") == 2


async def test_a_taken_kubelet_port_does_not_keep_the_cluster_from_starting(
    objects: ObjectStore, settings: SandboxSettings
) -> None:
    blocker = await asyncio.start_server(lambda *_: None, settings.plan.node, KUBELET_PORT)
    async with blocker:
        server = ApiServer(objects, settings, Pages())  # type: ignore[arg-type]
        await server.start()
        assert server.port
        await server.stop()
