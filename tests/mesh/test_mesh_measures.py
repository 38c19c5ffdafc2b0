# SPDX-License-Identifier: Apache-2.0
"""What real Envoys measure of each request, in both releases: bytes, their buckets, and the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, opened
from .conftest import RELEASES
from .test_mesh_proxy import labels_of, stats
from .world import App

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("measures"), plan, request.param) as shop:
        yield shop


async def total(shop: Bookshop, metric: str) -> float:
    """What the client has counted of its calls to ratings."""
    found = labels_of(await stats(shop, "client"), metric, destination_service_name="ratings")
    return sum(float(one[""]) for one in found)


async def published(shop: Bookshop) -> None:
    """Wait until histograms hold every request: Envoy merges them at its own pace, counters are there at once."""

    async def whole() -> bool:
        requests = await total(shop, "requests_total")
        return 0 < requests == await total(shop, "request_bytes_count") == await total(shop, "response_bytes_count")

    await shop.until(whole, "histograms hold every request")


async def test_bytes_are_of_the_body_in_mixers_time_and_on_the_wire_today(shop: Bookshop) -> None:
    await shop.get("/small", host="ratings")
    await published(shop)
    before = [await total(shop, f"{name}_bytes_sum") for name in ("request", "response")]
    reply = await shop.get("/large", host="ratings", headers={"filler": "x" * 1000})
    await published(shop)
    after = [await total(shop, f"{name}_bytes_sum") for name in ("request", "response")]
    asked, answered = (now - earlier for now, earlier in zip(after, before, strict=True))
    if shop.settings.legacy:
        # Envoy keeps a histogram's values in bins, each at most a tenth wide.
        assert (asked, answered) == (0, pytest.approx(len(reply.body), rel=0.1, abs=1))
    else:
        assert 1000 < asked < 2000
        assert len(reply.body) + 50 < answered < len(reply.body) + 1000


async def test_the_protocol_is_what_the_request_says_and_not_what_its_port_is_called(shop: Bookshop) -> None:
    for path, kind in (("/a", "application/grpc"), ("/b", "application/grpc+proto"), ("/c", "application/grpc-web")):
        await shop.get(path, host="ratings", headers={"content-type": kind})

    async def counted() -> bool:
        text = await stats(shop, "ratings-v1")
        grpc = labels_of(text, "requests_total", request_protocol="grpc", destination_service_name="ratings")
        return sum(int(one[""]) for one in grpc) == 2

    await shop.until(counted, "the server's side has counted two of gRPC")
    text = await stats(shop, "client")
    found = labels_of(text, "requests_total", destination_service_name="ratings", request_protocol="grpc")
    assert sum(int(one[""]) for one in found) == 2
    assert {one["request_protocol"] for one in labels_of(text, "requests_total")} == {"grpc", "http"}


class Calls(App):
    """Answers a call of gRPC whose status is in its head, and counts who asked."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.count += 1
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n"
        )
        await writer.drain()
        writer.close()


@pytest.mark.parametrize("shop", ["1.30.3"], indirect=True)
async def test_only_calls_of_grpc_have_its_status(shop: Bookshop) -> None:
    shop.service("calls", [{"name": "http", "port": 9080}])
    await shop.pod("calls", {"app": "calls"}, app=Calls("calls"))
    await shop.ready("calls")
    await shop.follow()
    await shop.get("/shop.Books/Get", host="calls", headers={"content-type": "application/grpc"})
    await shop.get("/plain", host="ratings")

    async def counted() -> bool:
        return bool(labels_of(await stats(shop, "client"), "requests_total", destination_service_name="calls"))

    await shop.until(counted, "the call is counted")
    text = await stats(shop, "client")
    (call,) = labels_of(text, "requests_total", destination_service_name="calls")
    assert (call["request_protocol"], call["grpc_response_status"], call["response_code"]) == ("grpc", "14", "200")
    plain = labels_of(text, "requests_total", destination_service_name="ratings", request_protocol="http")
    assert plain
    assert {one.get("grpc_response_status", "") for one in plain} == {""}


async def test_the_protocol_is_told_whatever_becomes_of_a_request(shop: Bookshop) -> None:
    shop.service("nobody", [{"name": "http", "port": 9080}])
    await shop.follow()
    for kind in ("application/grpc", "text/plain"):
        await shop.get(host="nobody", headers={"content-type": kind})

    async def counted() -> bool:
        lost = labels_of(await stats(shop, "client"), "requests_total", response_flags="UH")
        # To gRPC an Envoy answers in gRPC's words.
        return {(one["request_protocol"], one["response_code"]) for one in lost} == {("grpc", "200"), ("http", "503")}

    await shop.until(counted, "both are counted as what they are")


async def test_what_is_passed_through_is_counted_in_the_releases_words(shop: Bookshop) -> None:
    app = App("outside")
    # At a port that Services have, requests are looked at; elsewhere there are only bytes to count.
    address, port = shop.settings.plan.node, 9080
    async with await asyncio.start_server(app.serve, address, shop.settings.plan.port(port)):
        reply = await shop.get(host=address, port=port, headers={"host": "out.test"})
        assert (reply.status, reply.headers["x-app"]) == (200, "outside")
        old = {"destination_service": "unknown", "destination_service_name": "unknown"}
        today = {"destination_service": "out.test", "destination_service_name": "PassthroughCluster"}
        wanted = old if shop.settings.legacy else today

        async def counted() -> bool:
            return bool(labels_of(await stats(shop, "client"), "requests_total", response_code="200", **wanted))

        await shop.until(counted, "the client's side has counted")
    (seen,) = labels_of(await stats(shop, "client"), "requests_total", response_code="200", **wanted)
    assert (seen["request_protocol"], seen["destination_workload"]) == ("http", "unknown")
    assert seen[""] == "1"


async def test_mixers_sizes_have_nine_finite_buckets(shop: Bookshop) -> None:
    await shop.get("/any", host="ratings")
    await published(shop)
    bounds = {float(one["le"]) for one in labels_of(await stats(shop, "client"), "request_bytes_bucket")}
    if shop.settings.legacy:
        assert bounds == {*(10.0**power for power in range(9)), float("inf")}
    else:
        assert len(bounds) == 20
