# SPDX-License-Identifier: Apache-2.0
"""Pods and Services through the API server's proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.api.conftest import Cluster, pod

WEB = "/api/v1/namespaces/default/services/web"


class Backend:
    """A server at the node's address that tells what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[dict[str, Any]] = []

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.seen.append(
            {
                "method": request.method,
                "path": request.raw_path,
                "body": await request.text(),
                "headers": {key.lower() for key in request.headers},
            }
        )
        return web.Response(status=418, text="short and stout", headers={"X-Pot": "tea"})


@pytest.fixture
async def backend(cluster: Cluster) -> AsyncIterator[Backend]:
    """Behind Service web, ports 80 (http) and 81 (nobody), and pod web."""
    made = Backend()
    runner = web.ServerRunner(web.Server(made.handle))
    await runner.setup()
    node = cluster.settings.plan.node
    await web.TCPSite(runner, node, 0).start()
    made.port = int(runner.addresses[0][1])
    meta = {"name": "web", "namespace": "default"}
    ports = [{"port": 80, "name": "http"}, {"port": 81, "name": "none"}]
    cluster.objects.create("services", {"metadata": meta, "spec": {"ports": ports}})
    subset = {"addresses": [{"ip": node}], "ports": [{"name": "http", "port": made.port}]}
    cluster.objects.create("endpoints", {"metadata": meta, "subsets": [subset]})
    cluster.objects.create("serviceaccounts", {"metadata": {"name": "default", "namespace": "default"}})
    ports = [{"containerPort": made.port, "name": "http"}]
    body = pod(containers=[{"name": "web", "image": "nginx", "ports": ports}])
    stored = cluster.objects.create("pods", body, "default")
    cluster.objects.update("pods", {**stored, "status": {**stored["status"], "podIP": node}}, subresource="status")
    yield made
    await runner.cleanup()


async def test_a_request_is_passed_on_as_it_is(cluster: Cluster, backend: Backend) -> None:
    path = f"{WEB}:http/proxy/a%2Fb/c?x=1&y=%20"
    said = await cluster.request("PUT", path, b"milk", headers={"Content-Type": "text/plain", "X-Mine": "1"})
    assert (said.status, said.text, said.headers["X-Pot"]) == (418, "short and stout", "tea")
    (seen,) = backend.seen
    assert (seen["method"], seen["path"], seen["body"]) == ("PUT", "/a%2Fb/c?x=1&y=%20", "milk")
    assert "x-mine" in seen["headers"]
    # What opens the cluster is no business of a pod.
    assert "authorization" not in seen["headers"]


@pytest.mark.parametrize("name", ["services/web:80", "services/http:web:http", "pods/web", "pods/web:http"])
async def test_ways_to_name_a_port(cluster: Cluster, backend: Backend, name: str) -> None:
    for end in ("proxy", "proxy/"):
        said = await cluster.request("GET", f"/api/v1/namespaces/default/{name}/{end}")
        assert said.text == "short and stout"
    assert [one["path"] for one in backend.seen] == ["/", "/"]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("services/web:none", 503, 'no endpoints available for service "web"'),
        ("services/web:99", 503, 'no service port 99 found for service "web"'),
        ("services/web", 503, 'no service port "" found for service "web"'),
        ("services/other:80", 404, 'services "other" not found'),
        ("pods/other", 404, 'pods "other" not found'),
        ("pods/web:70000", 400, "address not allowed"),
        ("pods/web:grpc", 400, 'no port "grpc" in pod web'),
    ],
)
async def test_who_cannot_be_asked(cluster: Cluster, backend: Backend, name: str, code: int, words: str) -> None:
    said = await cluster.request("GET", f"/api/v1/namespaces/default/{name}/proxy/")
    assert (said.status, said.body["message"]) == (code, words)
    assert backend.seen == []


async def test_nobody_listens_or_speaks(cluster: Cluster, backend: Backend) -> None:
    known = cluster.objects.get("endpoints", "web", "default")
    known["subsets"][0]["addresses"] = [{"ip": cluster.settings.plan.local("127.0.64.9")}]
    cluster.objects.update("endpoints", known)
    said = await cluster.request("GET", f"{WEB}:80/proxy/")
    assert said.status == 503
    assert said.body["message"].startswith("error trying to reach service: dial tcp 127.0.128.9:")


async def test_it_is_a_right_of_its_own(cluster: Cluster, backend: Backend) -> None:
    said = await cluster.request("POST", f"{WEB}:80/proxy/", b"", headers={"Impersonate-User": "jane"})
    assert said.status == 403
    assert 'User "jane" cannot create resource "services/proxy" in API group ""' in said.body["message"]
    rule = {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}
    cluster.objects.create("clusterroles.rbac.authorization.k8s.io", {"metadata": {"name": "looks"}, "rules": [rule]})
    bound = {
        "metadata": {"name": "looks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "looks"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    }
    cluster.objects.create("clusterrolebindings.rbac.authorization.k8s.io", bound)
    said = await cluster.request("GET", f"{WEB}:80/proxy/", headers={"Impersonate-User": "jane"})
    assert said.status == 418
