# SPDX-License-Identifier: Apache-2.0
"""What sidecars offer each other in TLS, through real Envoys: bytes on a port that is called so or so, and versions."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, gateway_server, opened
from .test_mesh_reach_traffic import HELLO, echo, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        yield shop


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT"])
async def test_bytes_come_through_whatever_each_service_calls_the_port(shop: Bookshop, mode: str) -> None:
    pod, at = shop.pods["ratings-v1"], {"app": "ratings"}
    # Pods' listeners go by the first Service, which leaves open what is spoken.
    named = [("any", 9002, ""), ("bytes", 9003, "tcp"), ("secret", 9004, "https")]
    where = {}
    for name, port, kind in named:
        ports = [{"port": port, "targetPort": 9002, **({"name": kind} if kind else {})}]
        where[name] = shop.service(name, ports, selector=at), port
    route = [{"destination": {"host": "any", "port": {"number": 9002}}}]
    server = gateway_server(31400, protocol="TCP")
    rules: list[tuple[str, str, Obj]] = [
        ("PeerAuthentication", "default", {"mtls": {"mode": mode}}),
        ("Gateway", "in", {"selector": {"istio": "ingressgateway"}, "servers": [server]}),
        ("VirtualService", "in", {"hosts": ["*"], "gateways": ["in"], "tcp": [{"route": route}]}),
    ]
    async with await asyncio.start_server(echo, pod.local, 9002), shop.rules(*rules):
        for name, (address, port) in where.items():

            async def answered(address: str = address, port: int = port) -> bool:
                return await told(await shop.captured("client", address, port)) == HELLO

            await shop.until(answered, f"the Service {name} lets bytes through")
        await shop.listening(shop.pods["ingress"].ip, 31400)

        async def entered() -> bool:
            return await told(await asyncio.open_connection(shop.pods["ingress"].ip, 31400)) == HELLO

        await shop.until(entered, "so does the gateway")
        assert (await shop.get(host="ratings")).status == 200


async def test_sidecars_speak_the_version_that_the_mesh_asks_for(shop: Bookshop) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["istio"])

    async def refused() -> str:
        try:
            _, writer = await asyncio.open_connection(shop.pods["ratings-v1"].ip, 9080, ssl=context)
        except ssl.SSLError as error:
            return error.reason
        writer.close()
        return ""

    strict: tuple[str, str, Obj] = ("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}})
    shop.mesh_config(accessLogFile="/dev/stdout", meshMTLS={"minProtocolVersion": "TLSV1_3"})
    try:
        async with shop.rules(strict):

            async def followed() -> bool:
                return await refused() == "TLSV1_ALERT_PROTOCOL_VERSION"

            await shop.until(followed, "a client of 1.2 is told that its version is too old")
            # Envoys as clients would offer 1.2 at most.
            assert (await shop.get(host="ratings")).status == 200
    finally:
        shop.mesh_config(accessLogFile="/dev/stdout")
