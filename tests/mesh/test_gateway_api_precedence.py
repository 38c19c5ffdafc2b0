# SPDX-License-Identifier: Apache-2.0
"""Where a route of the Gateway API and a VirtualService speak for one host: Istio's precedence, seen in traffic."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from meshbox.mesh.kinds import HTTP_ROUTES

from .bookshop import Bookshop, to
from .test_gateway_api_rules import to as backend
from .test_gateway_api_traffic import gateway, route
from .ways_in import Given, applied, with_ways_in

Obj = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with with_ways_in(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        shop.objects.install_gateway_api()
        yield shop


def inside(backend_name: str) -> Given:
    """A route for all calls of reviews inside the mesh."""
    parent = {"group": "", "kind": "Service", "name": "reviews"}
    spec = {"parentRefs": [parent], "rules": [{"backendRefs": [backend(backend_name)]}]}
    return HTTP_ROUTES, {"metadata": {"name": "mesh", "namespace": "bookinfo"}, "spec": spec}


def rule(version: str, hosts: list[str], **spec: Any) -> tuple[str, str, Obj]:
    return "VirtualService", "under-test", {"hosts": hosts, "http": [{"route": [to(version)]}], **spec}


async def test_inside_the_mesh_the_route_of_the_callers_namespace_goes_first(shop: Bookshop) -> None:
    async with shop.rules(rule("v2", ["reviews"])):
        assert set(await shop.many(20)) == {"reviews-v2"}
        async with applied(shop, inside("reviews-v3")):
            assert set(await shop.many(20)) == {"reviews-v3"}
        assert set(await shop.many(20)) == {"reviews-v2"}
    async with applied(shop, inside("reviews-v3")), shop.rules(rule("v2", ["reviews"])):
        assert set(await shop.many(20)) == {"reviews-v3"}


async def test_at_a_gateway_each_speaks_for_what_it_is_bound_to(shop: Bookshop) -> None:
    """A VirtualService cannot be bound to what a Gateway of the Gateway API becomes; of one port the older is asked."""
    server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["istio.test"]}
    own = ("Gateway", "own", {"selector": {"istio": "ingressgateway"}, "servers": [server]})
    led = route({"backendRefs": [backend("reviews-v3")]}, hosts=("shop.test",))
    bound = rule("v2", ["istio.test", "shop.test"], gateways=["own"])
    async with shop.rules(own, bound), applied(shop, gateway({"name": "web"}), led):
        for host, wanted in (("shop.test", "reviews-v3"), ("istio.test", "reviews-v2")):
            reply = await shop.enter(host=host)
            assert (reply.status, reply.headers["x-app"]) == (200, wanted)
        assert (await shop.enter(host="other.test")).status == 404
