# SPDX-License-Identifier: Apache-2.0
"""Rules seen in traffic through real Envoys, in both releases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from tests.chance import likely

from .bookshop import Bookshop, destination_rule, gateway_server, opened, to, virtual_service
from .conftest import RELEASES
from .world import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = 1600
"""Calls of which a share is counted: enough to tell it to 7 %."""

JASON = {"headers": {"end-user": {"exact": "jason"}}}


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, request.param) as shop:
        yield shop


def legacy(shop: Bookshop) -> bool:
    return shop.settings.legacy


# Envoy's event loop (libevent) reads the kernel's coarse clock: a timer may end that clock's tick
# early, 4 ms on most Linux kernels. Of 200 delays of 100 ms here the shortest took 98.1 ms.
TICK = time.clock_getres(6)  # CLOCK_MONOTONIC_COARSE, to which Python gives no name


async def quickest(shop: Bookshop, status: int, **options: Any) -> float:
    """The least that five calls at once took, in seconds; how long they may take at most is no claim here."""

    async def one() -> float:
        began = time.perf_counter()
        assert (await shop.get(**options)).status == status
        return time.perf_counter() - began

    return min(await asyncio.gather(*(one() for _ in range(5))))


async def test_without_rules_every_version_answers(shop: Bookshop) -> None:
    # One of three is never chosen in 60 times with a probability of 3 x (2/3)^60 = 8e-11.
    assert set(await shop.many(60)) == {"reviews-v1", "reviews-v2", "reviews-v3"}


async def test_weights_are_kept(shop: Bookshop) -> None:
    rule = {"route": [to("v1", weight=75), to("v3", weight=25)]}
    async with shop.rules(virtual_service(rule)):
        seen = await shop.many(MANY)
    assert set(seen) == {"reviews-v1", "reviews-v3"}
    assert likely(seen["reviews-v1"], MANY, 0.75), seen


async def test_a_rule_is_followed_by_every_request_after_the_first(shop: Bookshop) -> None:
    async with shop.rules(virtual_service({"route": [to("v3")]})):
        for version in ("v1", "v2", "v3", "v1", "v2"):
            shop.istio(*virtual_service({"route": [to(version)]}))

            async def followed(app: str = f"reviews-{version}") -> bool:
                return (await shop.get()).headers["x-app"] == app

            await shop.until(followed, f"the rule for {version} is followed")
            assert set(await shop.many(20)) == {f"reviews-{version}"}


@pytest.mark.parametrize(
    ("match", "hit", "miss"),
    [
        (JASON, {"headers": {"end-user": "jason"}}, {"headers": {"end-user": "jasonx"}}),
        (
            {"headers": {"cookie": {"regex": "^(.*?;)?(user=jason)(;.*)?$"}}},
            {"headers": {"cookie": "a=b;user=jason"}},
            {"headers": {"cookie": "user=jasonx"}},
        ),
        ({"headers": {"x": {"prefix": "ab"}}}, {"headers": {"x": "abc"}}, {"headers": {"x": "bc"}}),
        ({"uri": {"exact": "/a"}}, {"path": "/a"}, {"path": "/a/b"}),
        ({"uri": {"prefix": "/a"}}, {"path": "/a/b"}, {"path": "/b"}),
        ({"uri": {"regex": "/[0-9]+"}}, {"path": "/42"}, {"path": "/x42"}),
        ({"method": {"exact": "POST"}}, {"method": "POST"}, {"method": "GET"}),
        ({"queryParams": {"v": {"exact": "2"}}}, {"path": "/?v=2"}, {"path": "/?v=3"}),
        ({"authority": {"prefix": "reviews.bookinfo"}}, {"headers": {"host": "reviews.bookinfo:9080"}}, {}),
        ({"sourceLabels": {"app": "client"}, "uri": {"prefix": "/s"}}, {"path": "/s"}, {"path": "/t"}),
        ({"port": 9080, "uri": {"prefix": "/p"}}, {"path": "/p"}, {"path": "/q"}),
    ],
)
async def test_matches_choose_the_route(shop: Bookshop, match: dict, hit: dict, miss: dict) -> None:  # type: ignore[type-arg]
    rules = [{"match": [match], "route": [to("v2")]}, {"route": [to("v1")]}]
    async with shop.rules(virtual_service(*rules)):
        assert (await shop.get(**hit)).headers["x-app"] == "reviews-v2"
        assert (await shop.get(**miss)).headers["x-app"] == "reviews-v1"


async def test_rewrite_redirect_and_headers(shop: Bookshop) -> None:
    headers = {
        "request": {"set": {"x-set": "1"}, "add": {"x-add": "100%%"}, "remove": ["x-gone"]},
        "response": {"add": {"x-back": "2"}, "remove": ["x-app"]},
    }
    rules = [
        {"match": [{"uri": {"prefix": "/old"}}], "rewrite": {"uri": "/new", "authority": "other"}, "route": [to("v1")]},
        {"match": [{"uri": {"exact": "/moved"}}], "redirect": {"uri": "/there", "authority": "books.test"}},
        {"headers": headers, "route": [to("v1")]},
    ]
    async with shop.rules(virtual_service(*rules)):
        rewritten = (await shop.get("/old/x")).json
        assert (rewritten["path"], rewritten["headers"]["host"]) == ("/new/x", "other")
        moved = await shop.get("/moved")
        assert (moved.status, moved.headers["location"]) == (301, "http://books.test/there")
        reply = await shop.get("/", headers={"x-gone": "1"})
        seen = reply.json["headers"]
        assert (seen["x-set"], seen["x-add"], "x-gone" in seen) == ("1", "100%", False)
        assert reply.headers["x-back"] == "2"
        assert "x-app" not in reply.headers


async def test_a_direct_response_needs_nobody(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no direct responses")
    rule = {"directResponse": {"status": 418, "body": {"string": "tea"}}}
    async with shop.rules(virtual_service(rule)):
        reply = await shop.get()
    assert (reply.status, reply.body) == (418, b"tea")


async def test_delays_meet_those_they_are_meant_for(shop: Bookshop) -> None:
    percent = {"percent": 100} if legacy(shop) else {"percentage": {"value": 100.0}}

    def delayed(duration: str) -> tuple[str, str, dict[str, Any]]:
        delay = {"delay": {"fixedDelay": duration, **percent}}
        return virtual_service({"match": [JASON], "fault": delay, "route": [to("v1")]}, {"route": [to("v1")]})

    async with shop.rules(delayed("0.5s")):
        assert await quickest(shop, 200, headers={"end-user": "jason"}) >= 0.5 - TICK
    async with shop.rules(delayed("3600s")):
        before = shop.apps["reviews-v1"].count
        jasons = asyncio.create_task(shop.get(headers={"end-user": "jason"}))
        assert set(await shop.many(20)) == {"reviews-v1"}
        assert not jasons.done()
        assert shop.apps["reviews-v1"].count == before + 20
        jasons.cancel()


async def test_aborts_come_as_often_as_said(shop: Bookshop) -> None:
    percent = {"percent": 50} if legacy(shop) else {"percentage": {"value": 50}}
    rule = {"fault": {"abort": {"httpStatus": 555, **percent}}, "route": [to("v1")]}
    async with shop.rules(virtual_service(rule)):
        seen = await shop.many(MANY)
    assert set(seen) == {"555", "reviews-v1"}
    assert likely(seen["555"], MANY, 0.5), seen


async def test_a_timeout_ends_a_slow_call(shop: Bookshop) -> None:
    gate = shop.apps["reviews-v1"].gate = asyncio.Event()
    try:
        async with shop.rules(virtual_service({"route": [to("v1")], "timeout": "0.3s"})):
            # Five calls end, though none is ever answered; none before its time, retries' back-off aside.
            assert await quickest(shop, 504) >= 0.25 - TICK
    finally:
        gate.set()
        shop.apps["reviews-v1"].gate = None


async def test_retries_ask_again(shop: Bookshop) -> None:
    app = shop.apps["reviews-v1"]
    app.status = 500
    try:
        retries = {"attempts": 3, "perTryTimeout": "60s", "retryOn": "5xx"}
        async with shop.rules(virtual_service({"route": [to("v1")], "retries": retries})):
            before = app.count
            assert (await shop.get()).status == 500
            assert app.count - before == 4
    finally:
        app.status = 200


async def test_mirrors_get_a_copy(shop: Bookshop) -> None:
    rule = {"route": [to("v1")], "mirror": to("v3")["destination"]}
    mirrored = shop.apps["reviews-v3"]
    async with shop.rules(virtual_service(rule)):
        before = len(mirrored.seen)
        assert set(await shop.many(40, "/copied")) == {"reviews-v1"}
        await shop.until(lambda: len(mirrored.seen) - before >= 40, "40 copies arrived")
    _, path, headers = mirrored.seen[-1]
    assert path == "/copied"
    assert ("-shadow" in headers["host"]) is legacy(shop)


async def test_consistent_hashing_keeps_a_user_with_one_pod(shop: Bookshop) -> None:
    async with shop.rules(destination_rule(loadBalancer={"consistentHash": {"httpHeaderName": "x-user"}})):
        for user in ("ann", "bob", "eve"):
            assert len(await shop.many(30, headers={"x-user": user})) == 1
        everyone = [await shop.get(headers={"x-user": f"user-{n}"}) for n in range(100)]
    # Each pod has at least 22 % of the ring (1024 points, six standard deviations), whatever its address: one of them
    # gets none of a hundred users with a probability of 3 x 0.78^100 = 5e-11.
    assert len({reply.headers["x-app"] for reply in everyone}) == 3


async def test_outlier_detection_takes_a_bad_pod_out_and_back(shop: Bookshop) -> None:
    errors = {"consecutiveErrors": 2} if legacy(shop) else {"consecutiveGatewayErrors": 2}
    detection = {**errors, "interval": "0.05s", "baseEjectionTime": "1s", "maxEjectionPercent": 100}
    bad = shop.apps["reviews-v2"]
    bad.status = 503
    no_retries = virtual_service({"route": [to()], "retries": {"attempts": 1, "retryOn": "reset"}})
    try:
        async with shop.rules(destination_rule(outlierDetection=detection), no_retries):

            async def ejected() -> bool:
                return "503" not in await shop.many(20)

            await shop.until(ejected, "the failing pod is ejected")
            bad.status = 200

            async def returned() -> bool:
                return "reviews-v2" in await shop.many(20)

            await shop.until(returned, "the pod that is well again is back")
    finally:
        bad.status = 200


async def test_a_circuit_breaker_refuses_what_is_too_much(shop: Bookshop) -> None:
    pool = {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1, "maxRequestsPerConnection": 1}}
    gate = shop.apps["reviews-v1"].gate = asyncio.Event()
    rule = virtual_service({"route": [to("v1")], "retries": {"attempts": 1, "retryOn": "reset"}})
    refused: list[Reply] = []

    async def call() -> None:
        reply = await shop.get()
        if reply.status == 503:
            refused.append(reply)

    try:
        async with shop.rules(destination_rule(connectionPool=pool), rule):
            calls = [asyncio.create_task(call()) for _ in range(10)]
            # No call is answered meanwhile; each of Envoy's workers may hold a few.
            await shop.until(lambda: len(refused) >= 5, "five of ten calls are refused")
            gate.set()
            await asyncio.gather(*calls)
    finally:
        gate.set()
        shop.apps["reviews-v1"].gate = None
    assert all(reply.headers.get("x-envoy-overloaded") == "true" for reply in refused)


async def test_a_subset_that_no_rule_defines_answers_503(shop: Bookshop) -> None:
    async with shop.rules(virtual_service({"route": [to("v9")]})):
        assert (await shop.get()).status == 503


async def test_cors_answers_preflights(shop: Bookshop) -> None:
    origins = {"allowOrigin": ["http://a.test"]} if legacy(shop) else {"allowOrigins": [{"exact": "http://a.test"}]}
    cors = {**origins, "allowMethods": ["GET"], "maxAge": "1m"}
    async with shop.rules(virtual_service({"corsPolicy": cors, "route": [to("v1")]})):
        asked = {"origin": "http://a.test", "access-control-request-method": "GET"}
        reply = await shop.get(method="OPTIONS", headers=asked)
    assert reply.headers["access-control-allow-origin"] == "http://a.test"
    assert reply.headers["access-control-max-age"] == "60"


async def test_the_gateway_lets_in_what_it_is_told(shop: Bookshop) -> None:
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(8080)]}
    spec = {
        "hosts": ["*"],
        "gateways": ["shop"],
        "http": [
            {"match": [{"uri": {"exact": "/reviews"}}], "route": [to("v2")]},
            {"match": [{"uri": {"prefix": "/ratings"}}], "rewrite": {"uri": "/r"}, "route": [to(host="ratings")]},
        ],
    }
    async with shop.rules(("Gateway", "shop", gateway), ("VirtualService", "shop", spec)):
        await shop.listening(shop.pods["ingress"].ip, 8080)
        assert (await shop.enter("/reviews")).headers["x-app"] == "reviews-v2"
        assert (await shop.enter("/ratings/7")).json["path"] == "/r/7"
        assert (await shop.enter("/else")).status == 404


async def test_unknown_hosts_pass_through_or_are_refused(shop: Bookshop) -> None:
    # A pod that the mesh knows, called by its address: no Service's name, so it is passed on as it is.
    where = shop.pods["ratings-v1"].ip
    passed = await shop.call("client", where)
    assert passed.headers["x-app"] == "ratings-v1"
    only = {"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    async with shop.rules(("Sidecar", "default", only)):
        refused = await shop.call("client", where)
        assert refused.status == 502
        assert (await shop.get("/", host="ratings")).status == 200


async def test_a_service_entry_is_routed_like_any_host(shop: Bookshop) -> None:
    target = shop.apps["ratings-v1"]
    server = await asyncio.start_server(target.serve, str(shop.settings.plan.node), 0)
    port = server.sockets[0].getsockname()[1]
    entry = {
        "hosts": ["api.books.test"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": str(shop.settings.plan.node), "ports": {"http": port}}],
    }
    rule = {
        "match": [{"uri": {"prefix": "/v1"}}],
        "fault": {"abort": {"httpStatus": 456, "percent": 100, "percentage": {"value": 100}}},
        "route": [to(host="api.books.test")],
    }
    if legacy(shop):
        del rule["fault"]["abort"]["percentage"]
    else:
        del rule["fault"]["abort"]["percent"]
    spec = {"hosts": ["api.books.test"], "http": [rule, {"route": [to(host="api.books.test")]}]}
    async with server, shop.rules(("ServiceEntry", "api", entry), ("VirtualService", "api", spec)):
        options = {"port": 80, "headers": {"host": "api.books.test"}}
        assert (await shop.get("/x", host="10.9.9.9", **options)).json["headers"]["host"] == "api.books.test"
        assert (await shop.get("/v1", host="10.9.9.9", **options)).status == 456
        await asyncio.sleep(0)


async def test_callers_show_their_own_address_and_not_others_words(shop: Bookshop) -> None:
    reply = await shop.get("/", headers={"x-istio-peer-workload": "forged"})
    assert not any(name.startswith("x-istio-peer") for name in reply.json["headers"])
