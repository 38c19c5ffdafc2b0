# SPDX-License-Identifier: Apache-2.0
"""What the pods of the control plane ask the mesh, and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from meshbox.addresses import AddressPlan
from meshbox.mesh.envoy import XDS_CLUSTER
from meshbox.mesh.pages import PageServer

TOKEN = "the-token-of-this-server-long-enough"
WHO = "namespace=istio-system&pod=istiod-1"


@pytest.fixture
async def served(plan: AddressPlan, unused_tcp_port: int) -> AsyncIterator[str]:
    def metrics(component: str, asking: tuple[str, str]) -> str:
        return f'asked{{component="{component}",namespace="{asking[0]}",pod="{asking[1]}"}} 1\n'

    async def others(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=f"{request.method} {request.path}")

    server = PageServer(plan.node, unused_tcp_port, TOKEN, metrics, others)
    await server.start()
    yield f"http://{plan.node}:{unused_tcp_port}"
    await server.stop()


async def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    sent = {"Host": XDS_CLUSTER, "Authorization": f"Bearer {TOKEN}", **headers}
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=sent) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": ""}, 401),
        ({"Host": "127.0.0.1:15014"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/metrics/pilot", "/debug/syncz"])
async def test_the_pages_are_for_pods_with_the_token(
    served: str, path: str, headers: dict[str, str], status: int
) -> None:
    found, text = await asked(f"{served}{path}?{WHO}", **headers)
    assert found == status
    assert ("pilot" in text or "syncz" in text) == (status == 200)


async def test_metrics_are_those_of_the_pod_that_asks(served: str) -> None:
    metrics = 'asked{component="pilot",namespace="istio-system",pod="istiod-1"} 1\n'
    assert await asked(f"{served}/metrics/pilot?{WHO}") == (200, metrics)


async def test_all_else_is_passed_on(served: str) -> None:
    assert await asked(f"{served}/inject", "POST") == (200, "POST /inject")
