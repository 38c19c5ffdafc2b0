# SPDX-License-Identifier: Apache-2.0
"""What a mesh's settings and the narrower fields of its rules do to traffic, through real Envoys."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, destination_rule, opened, subsets, to, virtual_service
from .conftest import RELEASES
from .world import App

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]
LOG = {"accessLogFile": "/dev/stdout"}
RATINGS = {"selector": {"matchLabels": {"app": "ratings"}}}


TODAY = pytest.mark.parametrize("shop", ["1.30.3"], indirect=True)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, request.param) as shop:
        yield shop


async def told(shop: Bookshop, path: str) -> str:
    """What the administration page of the client's proxy says."""
    log = shop.pods["client"].log
    assert log is not None
    streams = await asyncio.open_unix_connection(log.parent / "admin.sock")
    return (await shop._ask(*streams, path, "GET", {"host": "admin"})).body.decode()


async def connections(shop: Bookshop, cluster: str, what: str) -> int:
    """How many connections of the client's proxy to the endpoints of a cluster are `what`."""
    words = (line.split("::") for line in (await told(shop, "/clusters")).splitlines())
    return sum(int(line[3]) for line in words if line[0] == cluster and line[2:3] == [what])


@TODAY
async def test_the_meshs_own_retries_are_those_that_are_made(shop: Bookshop) -> None:
    app = shop.apps["ratings-v1"]
    app.status = 503
    shop.mesh_config(**LOG, defaultHttpRetryPolicy={"attempts": 4, "retryOn": "5xx"})
    try:
        async with shop.rules():
            before = app.count
            assert (await shop.get(host="ratings")).status == 503
            assert app.count - before == 5
        shop.mesh_config(**LOG, defaultHttpRetryPolicy={"attempts": 0})
        async with shop.rules():
            before = app.count
            assert (await shop.get(host="ratings")).status == 503
            assert app.count - before == 1
    finally:
        app.status = 200
        shop.mesh_config(**LOG)


async def test_whoever_takes_no_connection_is_given_up_after_the_meshs_time(shop: Bookshop) -> None:
    # Nobody takes what waits here: with its queue full, a further connection gets no answer, as behind a firewall.
    with socket.socket() as full:
        full.bind((shop.settings.plan.node, 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex((shop.settings.plan.node, port))
        spec = {
            "hosts": ["full.test"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": shop.settings.plan.node, "ports": {"http": port}}],
        }
        shop.mesh_config(**LOG, connectTimeout="0.3s")
        try:
            async with shop.rules(("ServiceEntry", "full", spec)):
                reply = await shop.get(host="10.9.9.9", port=80, headers={"host": "full.test"})
                assert reply.status == 503
                assert await connections(shop, "outbound|80||full.test", "cx_connect_fail") == 3
                log = shop.pods["client"].log
                assert log is not None
                why = " 503 URX,UF " if shop.settings.legacy else " 503 UF"
                await shop.until(lambda: why in log.read_text(), "the log says why")
        finally:
            shop.mesh_config(**LOG)
            for one in waiting:
                one.close()


async def test_what_the_mesh_exports_to_nobody_else_is_out_of_sight(shop: Bookshop) -> None:
    address = shop.service("far", namespace="library")
    app = shop.apps["ratings-v1"]
    only = ("Sidecar", "default", {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "egress": [{"hosts": ["*/*"]}]})
    far: Obj = {"headers": {"host": "far.library:9080"}}
    async with await asyncio.start_server(app.serve, address, shop.settings.plan.port(9080)):
        try:
            async with shop.rules(only):
                # A Service without a pod is known, and has nobody to answer.
                assert (await shop.get(host=address, **far)).status == 503
                shop.mesh_config(**LOG, defaultServiceExportTo=["."])
                await shop.follow()
                assert (await shop.get(host=address, **far)).status == 502
                assert (await shop.get(host="ratings")).status == 200
        finally:
            shop.mesh_config(**LOG)
            shop.objects.drop("services", "far", "library")
            await shop.follow()


@TODAY
async def test_a_subsets_settings_for_a_port_take_nothing_from_those_above(shop: Bookshop) -> None:
    spec: Obj = destination_rule(loadBalancer={"consistentHash": {"httpHeaderName": "x-user"}})[2]
    every = {"name": "every", "labels": {"app": "reviews"}}
    rule = virtual_service({"route": [to("every")]})
    async with shop.rules(("DestinationRule", "reviews", {**spec, "subsets": [*subsets(), every]}), rule):
        assert len(await shop.many(60, headers={"x-user": "jason"})) == 1
    pool = {"tcp": {"maxConnections": 100}}
    # 60 calls that only by chance all reach the same of three: 3 x 3^-60.
    own = {**every, "trafficPolicy": {"portLevelSettings": [{"port": {"number": 9080}, "connectionPool": pool}]}}
    async with shop.rules(("DestinationRule", "reviews", {**spec, "subsets": [*subsets(), own]}), rule):
        assert len(await shop.many(60, headers={"x-user": "jason"})) > 1


@TODAY
async def test_a_connection_carries_no_more_requests_at_once_than_said(shop: Bookshop) -> None:
    app = shop.apps["ratings-v1"]
    upgrade: Obj = {"h2UpgradePolicy": "UPGRADE"}
    for pool, wanted in ((upgrade, 1), ({**upgrade, "maxConcurrentStreams": 1}, 3)):
        policy = {"host": "ratings", "trafficPolicy": {"connectionPool": {"http": pool}}}
        async with shop.rules(("DestinationRule", "ratings", policy)):
            assert (await shop.get(host="ratings")).status == 200
            app.gate, app.count = asyncio.Event(), 0
            try:
                async with asyncio.TaskGroup() as group:
                    calls = [group.create_task(shop.get(host="ratings")) for _ in range(3)]
                    await shop.until(lambda: app.count == 3, "all three have arrived")
                    active = await connections(shop, "outbound|9080||ratings.bookinfo.svc.cluster.local", "cx_active")
                    app.gate.set()
            finally:
                app.gate.set()
                app.gate = None
            assert [call.result().status for call in calls] == [200, 200, 200]
            assert active == wanted


BUDGET = {"retryBudget": {"percent": 10, "minRetryConcurrency": 1}}
"""A tenth of three calls is none, so there is the least that the budget leaves."""


@TODAY
@pytest.mark.parametrize(("budget", "again", "wanted"), [({}, 3, [200, 200, 200]), (BUDGET, 1, [200, 503, 503])])
async def test_tries_share_a_budget(shop: Bookshop, budget: Obj, again: int, wanted: list[int]) -> None:
    app = shop.apps["ratings-v1"]
    policy = {"connectionPool": {"tcp": {"maxConnections": 100}}, **budget}
    retries = {"route": [to(host="ratings")], "retries": {"attempts": 3, "retryOn": "5xx"}}
    rule = ("DestinationRule", "ratings", {"host": "ratings", "trafficPolicy": policy})
    async with shop.rules(virtual_service(retries, host="ratings"), rule):
        assert (await shop.get(host="ratings")).status == 200
        first, second = asyncio.Event(), asyncio.Event()
        app.gate, app.count, app.status = first, 0, 503
        try:
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(shop.get(host="ratings")) for _ in range(3)]
                await shop.until(lambda: app.count == 3, "all three have arrived")
                # They are refused together; whoever is sent again waits for the second gate.
                app.gate = second
                first.set()
                await shop.until(lambda: sum(one.done() for one in calls) == 3 - again, "the others get the refusal")
                await shop.until(lambda: app.count == 3 + again, "what may be sent again has arrived")
                app.status = 200
                second.set()
        finally:
            first.set()
            second.set()
            app.gate, app.status = None, 200
        assert sorted(call.result().status for call in calls) == wanted
        assert app.count == 3 + again


@TODAY
async def test_an_applications_own_connections_are_limited(shop: Bookshop) -> None:
    app = shop.apps["ratings-v1"]
    pool = {"http": {"http1MaxPendingRequests": 1, "maxRequestsPerConnection": 1}, "tcp": {"maxConnections": 1}}
    chosen = {"workloadSelector": {"labels": {"app": "ratings"}}, "inboundConnectionPool": pool}
    never = virtual_service({"route": [to(host="ratings")], "retries": {"attempts": 0}}, host="ratings")
    async with shop.rules(("Sidecar", "ratings", chosen), never):
        app.gate = asyncio.Event()
        before = app.count
        try:
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(shop.get(host="ratings"))]
                # Until its connection is there the first one is the one that may wait.
                await shop.until(lambda: app.count == before + 1, "one is under way")
                calls += [group.create_task(shop.get(host="ratings")) for _ in range(5)]
                # One waits; whoever comes then is turned away at once.
                await shop.until(lambda: sum(call.done() for call in calls) == 4, "four are turned away")
                turned = [call.result() for call in calls if call.done()]
                app.gate.set()
        finally:
            app.gate.set()
            app.gate = None
        assert [reply.status for reply in turned] == [503] * 4
        assert {reply.headers["x-envoy-overloaded"] for reply in turned} == {"true"}
        assert sorted(call.result().status for call in calls) == [200, 200, 503, 503, 503, 503]
        assert app.count - before == 2


@TODAY
async def test_a_host_is_asked_for_by_each_new_connection(shop: Bookshop) -> None:
    app = App("by-name")
    async with await asyncio.start_server(app.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        spec = {
            "hosts": ["rr.test"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "DNS_ROUND_ROBIN",
            "endpoints": [{"address": "localhost", "ports": {"http": port}}],
        }
        async with shop.rules(("ServiceEntry", "rr", spec)):
            asked: Obj = {"host": "10.9.9.9", "port": 80, "headers": {"host": "rr.test"}}

            async def looked_up() -> bool:
                return (await shop.get(**asked)).status == 200

            # The proxy has taken the cluster before it has an answer about the name, and serves it after.
            await shop.until(looked_up, "the name is looked up")
            assert set(await shop.many(3, **asked)) == {"by-name"}
            dump = await told(shop, "/config_dump?name_regex=.*rr.test.*")
            assert '"LOGICAL_DNS"' in dump


@TODAY
async def test_a_policy_may_only_take_note(shop: Bookshop) -> None:
    audit = {**RATINGS, "action": "AUDIT", "rules": [{}]}
    deny = {**RATINGS, "action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/no"]}}]}]}
    async with shop.rules(("AuthorizationPolicy", "note", audit), ("AuthorizationPolicy", "no", deny)):

        async def refused() -> bool:
            return (await shop.get("/no", host="ratings")).status == 403

        await shop.until(refused, "the rule beside it is in force")
        assert (await shop.get("/yes", host="ratings")).status == 200


@TODAY
async def test_callers_are_told_apart_by_their_trust_domain(shop: Bookshop) -> None:
    for domains, wanted in ((["somebody.else"], 403), (["cluster.local"], 200), (["cluster.*"], 200)):
        allow = {**RATINGS, "rules": [{"from": [{"source": {"trustDomains": domains}}]}]}
        async with shop.rules(("AuthorizationPolicy", "domain", allow)):

            async def as_said(wanted: int = wanted) -> bool:
                # Who shows no certificate is of no domain, and so is let in only while nothing is asked for.
                plain = (await shop.http(shop.pods["ratings-v1"].ip, 9080)).status
                return (plain, (await shop.get(host="ratings")).status) == (403, wanted)

            await shop.until(as_said, f"{domains}: {wanted}")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One of HTTP/2's frames (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@TODAY
async def test_what_a_client_speaks_to_a_port_without_a_name_is_spoken_between_the_proxies(shop: Bookshop) -> None:
    address = shop.service("unnamed", [{"port": 9080}], selector={"app": "ratings"})
    log = shop.pods["ratings-v1"].log
    assert log is not None
    async with shop.rules():
        _, writer = await shop.captured("client", address, 9080)
        # GET, http and / are entries 2, 6 and 4 of HPACK's static table, :authority is entry 1 (RFC 7541, appendix A).
        headers = b"\x82\x86\x84\x41" + bytes([len("unnamed:9080")]) + b"unnamed:9080"
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, headers))
        # The application itself knows HTTP/1.1 only; how far the request came, its proxy tells.
        await shop.until(lambda: '"GET / HTTP/2"' in log.read_text(), "the server's proxy is spoken to in HTTP/2")
        writer.close()
        reply = await shop.get(host=address, headers={"host": "unnamed:9080"})
        assert reply.status == 200
    shop.objects.drop("services", "unnamed", "bookinfo")
    await shop.follow()
