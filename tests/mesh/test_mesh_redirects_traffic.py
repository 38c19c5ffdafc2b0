# SPDX-License-Identifier: Apache-2.0
"""Where redirects of a gateway lead, through a real Envoy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, gateway_server, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        yield shop


async def test_redirects_know_the_port(shop: Bookshop) -> None:
    rules = [
        {"match": [{"uri": {"prefix": path}}], "redirect": {"authority": "other.test", **redirect}}
        for path, redirect in (
            ("/same", {"derivePort": "FROM_REQUEST_PORT"}),
            ("/default", {"derivePort": "FROM_PROTOCOL_DEFAULT"}),
            ("/secure", {"scheme": "https", "port": 443, "redirectCode": 308}),
        )
    ]
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(8000)]}
    spec = {"hosts": ["*"], "gateways": ["shop"], "http": rules}
    async with shop.rules(("Gateway", "shop", gateway), ("VirtualService", "shop", spec)):
        await shop.listening(shop.pods["ingress"].ip, 8000)
        replies = [await shop.enter(path, port=8000) for path in ("/same", "/default", "/secure")]
    assert [(one.status, one.headers["location"]) for one in replies] == [
        (301, "http://other.test:8000/same"),
        (301, "http://other.test/default"),
        (308, "https://other.test/secure"),
    ]


async def test_a_redirect_to_another_scheme_takes_a_default_port_with_it(shop: Bookshop) -> None:
    redirects: Obj = {
        "scheme": {"scheme": "https"},
        "default": {"scheme": "https", "derivePort": "FROM_PROTOCOL_DEFAULT"},
        "request": {"scheme": "https", "derivePort": "FROM_REQUEST_PORT"},
        "secure": {"scheme": "https", "port": 443},
        "plain": {"port": 80, "authority": "other.test"},
    }
    rules = [{"match": [{"uri": {"exact": f"/{name}"}}], "redirect": one} for name, one in redirects.items()]
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(8000)]}
    spec = {"hosts": ["*"], "gateways": ["shop"], "http": rules}

    async def location(name: str, host: str) -> str:
        return (await shop.enter(f"/{name}", port=8000, host=host)).headers["location"]

    async with shop.rules(("Gateway", "shop", gateway), ("VirtualService", "shop", spec)):
        await shop.listening(shop.pods["ingress"].ip, 8000)
        found = {
            name: [await location(name, f"shop.test{port}") for port in ("", ":80", ":8000")] for name in redirects
        }
    # A port that the caller named and that is no scheme's own stays, unless the rule names another.
    left = [f"https://shop.test{port}/" for port in ("", "", ":8000")]
    assert found == {
        "scheme": [f"{one}scheme" for one in left],
        "default": [f"{one}default" for one in left],
        "request": ["https://shop.test:8000/request"] * 3,
        "secure": [f"{one}secure" for one in left],
        "plain": ["http://other.test/plain"] * 3,
    }
