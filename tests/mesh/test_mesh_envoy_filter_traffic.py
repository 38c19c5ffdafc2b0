# SPDX-License-Identifier: Apache-2.0
"""EnvoyFilters seen in traffic through real Envoys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, gateway_server, opened, to, virtual_service
from .world import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]

REVIEWS = {"labels": {"app": "reviews"}}
LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
LIMIT = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
STRUCT = "type.googleapis.com/udpa.type.v1.TypedStruct"
MANAGER = "envoy.filters.network.http_connection_manager"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        yield shop


def before_router(value: Obj, context: str = "SIDECAR_INBOUND", **listener: Any) -> Obj:
    chain = {"filterChain": {"filter": {"name": MANAGER, "subFilter": {"name": "envoy.filters.http.router"}}}}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": {**listener, **chain}},
        "patch": {"operation": "INSERT_BEFORE", "value": value},
    }


def lua(code: str) -> Obj:
    return {"name": "envoy.filters.http.lua", "typed_config": {"@type": LUA, "inlineCode": code}}


def adds(name: str, value: str) -> str:
    return f'function envoy_on_response(handle) handle:headers():add("{name}", "{value}") end'


def limit(tokens: int) -> Obj:
    """Istio's own example of a local rate limit."""
    bucket = {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "3600s"}
    full = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    value = {
        "stat_prefix": "http_local_rate_limiter",
        "token_bucket": bucket,
        "filter_enabled": {"runtime_key": "local_rate_limit_enabled", **full},
        "filter_enforced": {"runtime_key": "local_rate_limit_enforced", **full},
        "response_headers_to_add": [
            {"append": False, "header": {"key": "x-local-rate-limit", "value": "true"}},
        ],
    }
    del value["response_headers_to_add"][0]["append"]  # type: ignore[attr-defined]
    config = {"@type": STRUCT, "type_url": LIMIT, "value": value}
    return {"name": "envoy.filters.http.local_ratelimit", "typed_config": config}


def envoy_filter(*patches: Obj, name: str = "under-test", **spec: Any) -> tuple[str, str, Obj]:
    return "EnvoyFilter", name, {"workloadSelector": REVIEWS, **spec, "configPatches": list(patches)}


async def played(shop: Bookshop, condition: Any, what: str) -> None:
    await shop.until(condition, what)


def carries(shop: Bookshop, header: str, value: str | None, **options: Any) -> Any:
    async def seen() -> bool:
        replies = await asyncio.gather(*(shop.get(**options) for _ in range(6)))
        return all(reply.headers.get(header) == value for reply in replies)

    return seen


async def test_a_lua_filter_works_on_what_comes_in(shop: Bookshop) -> None:
    async with shop.rules(envoy_filter(before_router(lua(adds("x-lua", "in"))))):
        await played(shop, carries(shop, "x-lua", "in"), "reviews' answers carry the script's header")
        assert "x-lua" not in (await shop.get(host="ratings")).headers
    await played(shop, carries(shop, "x-lua", None), "without the filter nothing is added")


async def test_a_lua_filter_works_on_what_goes_out_of_one_port(shop: Bookshop) -> None:
    selector = {"labels": {"app": "client"}}
    here = before_router(lua(adds("x-lua", "out")), "SIDECAR_OUTBOUND", portNumber=9080)
    other = before_router(lua(adds("x-other", "out")), "SIDECAR_OUTBOUND", portNumber=9999)
    async with shop.rules(envoy_filter(here, other, workloadSelector=selector)):
        await played(shop, carries(shop, "x-lua", "out"), "answers carry it")
        assert "x-other" not in (await shop.get()).headers


async def test_a_local_rate_limit_answers_429(shop: Bookshop) -> None:
    selector = {"labels": {"app": "ratings"}}
    async with shop.rules(envoy_filter(before_router(limit(3)), workloadSelector=selector)):

        async def limited() -> Reply | None:
            reply = await shop.get(host="ratings")
            return reply if reply.status == 429 else None

        # The next one may be sent on a connection to the listener of before, which knows no limit.
        reply = await shop.until(limited, "the bucket is empty")
        assert reply.headers["x-local-rate-limit"] == "true"
        assert (await shop.get()).status == 200


async def test_routes_and_hosts_are_patched(shop: Bookshop) -> None:
    shop.objects.forget_events()
    name = "reviews.bookinfo.svc.cluster.local:9080"
    host = {
        "applyTo": "VIRTUAL_HOST",
        "match": {"context": "SIDECAR_OUTBOUND", "routeConfiguration": {"name": "9080", "vhost": {"name": name}}},
        "patch": {
            "operation": "MERGE",
            "value": {"response_headers_to_add": [{"header": {"key": "x-host", "value": "patched"}}]},
        },
    }
    route = {
        "applyTo": "HTTP_ROUTE",
        "match": {"routeConfiguration": {"vhost": {"name": name, "route": {"name": "one", "action": "ANY"}}}},
        "patch": {
            "operation": "MERGE",
            "value": {"responseHeadersToAdd": [{"header": {"key": "x-route", "value": "one"}}]},
        },
    }
    rules = [
        {"name": "one", "match": [{"uri": {"prefix": "/one"}}], "route": [to("v1")]},
        {"name": "two", "route": [to("v2")]},
    ]
    selector = {"labels": {"app": "client"}}
    given = envoy_filter(host, route, workloadSelector=selector)
    async with shop.rules(virtual_service(*rules), given):
        await played(shop, carries(shop, "x-route", "one", path="/one"), "the route is patched")
        first, second = await shop.get("/one"), await shop.get("/two")
        assert (first.headers["x-host"], second.headers["x-host"]) == ("patched", "patched")
        assert "x-route" not in second.headers
        assert shop.objects.warnings("under-test") == []


async def test_the_settings_of_a_cluster_are_patched(shop: Bookshop) -> None:
    ejects = {"consecutive_5xx": 1, "baseEjectionTime": "300s", "interval": "300s", "max_ejection_percent": 100}
    value = {"outlier_detection": ejects, "common_lb_config": {"healthy_panic_threshold": {"value": 0}}}
    cluster = {
        "applyTo": "CLUSTER",
        "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"service": "ratings.bookinfo.svc.cluster.local"}},
        "patch": {"operation": "MERGE", "value": value},
    }
    app = shop.apps["ratings-v1"]
    async with shop.rules(envoy_filter(cluster, workloadSelector={"labels": {"app": "client"}})):

        async def ejected() -> bool:
            app.status = 500
            await shop.get(host="ratings")
            app.status = 200
            return (await shop.get(host="ratings")).status == 503

        await played(shop, ejected, "one error is enough to turn calls away")
    assert (await shop.get(host="ratings")).status == 200


async def test_what_comes_in_is_logged_as_a_patch_of_the_listener_says(shop: Bookshop) -> None:
    form = {"text_format_source": {"inline_string": "PATCHED %DOWNSTREAM_LOCAL_PORT%\n"}}
    file = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
    log = {"name": "own", "typed_config": {"@type": file, "path": "/dev/stdout", "log_format": form}}
    listener = {
        "applyTo": "LISTENER",
        "match": {"context": "SIDECAR_INBOUND", "listener": {"name": "virtualInbound"}},
        "patch": {"operation": "MERGE", "value": {"access_log": [log]}},
    }
    told = shop.pods["ratings-v1"].log
    other = shop.pods["reviews-v1"].log
    line = f"PATCHED {shop.settings.plan.port(9080)}\n"
    assert told is not None
    assert other is not None
    async with shop.rules(envoy_filter(listener, workloadSelector={"labels": {"app": "ratings"}})):

        async def logged() -> bool:
            # A connection is logged when it ends.
            for path in ("/one", "/two"):
                await shop.http(shop.pods["ratings-v1"].ip, 9080, path, headers={"connection": "close"})
                await shop.http(shop.pods["reviews-v1"].ip, 9080, path, headers={"connection": "close"})
            return line in told.read_text()

        await played(shop, logged, "the listener's own line is in the log")
    assert "PATCHED " not in other.read_text()


async def test_what_manages_connections_is_merged(shop: Bookshop) -> None:
    """Istio's own example: settings of the connection manager, found by its name in a listener."""
    config = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    chain = {"filterChain": {"filter": {"name": MANAGER}}}
    manager = {
        "applyTo": "NETWORK_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "listener": chain},
        "patch": {
            "operation": "MERGE",
            "value": {"name": MANAGER, "typed_config": {"@type": config, "server_name": "patched"}},
        },
    }
    bare: Obj = {"headers": {"host": "reviews:9080"}}
    async with shop.rules(envoy_filter(manager)):

        async def renamed() -> bool:
            reply = await shop.http(shop.pods["reviews-v1"].ip, 9080, **bare)
            return reply.headers["server"] == "patched"

        await played(shop, renamed, "the server's proxy calls itself what the patch says")
        assert (await shop.http(shop.pods["ratings-v1"].ip, 9080, **bare)).headers["server"] == "istio-envoy"


async def test_a_gateway_is_patched_from_the_root_namespace(shop: Bookshop) -> None:
    gateway = ("Gateway", "g", {"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(8080)]})
    routed = {"hosts": ["*"], "gateways": ["g"], "http": [{"route": [to("v1")]}]}
    chain = {"filter": {"name": MANAGER, "subFilter": {"name": "istio.stats"}}}
    patch = before_router(lua(adds("x-gate", "way")), "GATEWAY", portNumber=8080, filterChain=chain)
    async with shop.rules(gateway, ("VirtualService", "routed", routed)):
        shop.istio("EnvoyFilter", "edge", {"configPatches": [patch]}, "istio-system")

        async def seen() -> bool:
            return (await shop.enter()).headers.get("x-gate") == "way"

        await played(shop, seen, "the gateway's answers carry it")
        assert "x-gate" not in (await shop.get()).headers
        shop.objects.drop("envoyfilters.networking.istio.io", "edge", "istio-system")


async def test_what_envoy_refuses_changes_nothing_and_is_said(shop: Bookshop) -> None:
    shop.objects.forget_events()
    bad = before_router(lua("function envoy_on_response(handle) en"))
    good = envoy_filter(before_router(lua(adds("x-good", "1"))), name="good")
    async with shop.rules(envoy_filter(bad), good):
        await played(shop, carries(shop, "x-good", "1"), "the good one is in force")

        def told() -> list[str]:
            return shop.objects.warnings("under-test")

        await played(shop, told, "the bad one is named")
        assert len(told()) == 1
        assert "until it is changed: script load error" in told()[0]
        assert shop.objects.warnings("good") == []
        # What comes after it reaches the proxies as ever.
        async with shop.rules(virtual_service({"route": [to("v3")]})):
            assert set(await shop.many(20)) == {"reviews-v3"}
        kind, name, spec = envoy_filter(before_router(lua(adds("x-mended", "1"))))
        shop.istio(kind, name, spec)

        async def mended() -> Reply | None:
            reply = await shop.get()
            return reply if reply.headers.get("x-mended") == "1" else None

        # Of that very proxy: another one of the three may not have come so far.
        assert (await shop.until(mended, "the mended one is in force")).headers["x-good"] == "1"


async def test_what_finds_nothing_is_said(shop: Bookshop) -> None:
    shop.objects.forget_events()
    nowhere = before_router(lua(adds("x", "1")), portNumber=4711)
    selects_nobody = envoy_filter(nowhere, name="nobody", workloadSelector={"labels": {"app": "nobody"}})
    async with shop.rules(envoy_filter(nowhere), selects_nobody):
        await played(shop, lambda: shop.objects.warnings("under-test"), "an event")
        assert shop.objects.warnings("under-test") == [
            "configPatches[0] (INSERT_BEFORE HTTP_FILTER) finds nothing in the proxies that it selects, "
            "so it has no effect"
        ]
        await played(shop, lambda: shop.objects.warnings("nobody"), "an event")
        assert shop.objects.warnings("nobody") == ["it selects no proxy that runs now, so it has no effect"]
