# SPDX-License-Identifier: Apache-2.0
"""How a host's endpoints are found, chosen and spoken to, seen in traffic through real Envoys."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from tests.chance import likely
from tests.conftest import PATIENCE

from .bookshop import VERSIONS, Bookshop, destination_rule, opened, to, virtual_service
from .conftest import RELEASES
from .world import App, Streams

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]

PLACES = {"client": "us.east", "reviews-v1": "us.east", "reviews-v2": "us.west", "reviews-v3": "eu.north"}
NO_RETRIES = virtual_service({"route": [to()], "retries": {"attempts": 1, "retryOn": "reset"}})


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, request.param) as shop:
        for name, place in PLACES.items():
            pod = shop.objects.get("pods", name, "bookinfo")
            pod["metadata"]["labels"]["istio-locality"] = place
            shop.objects.update("pods", pod)
        yield shop


def legacy(shop: Bookshop) -> bool:
    return shop.settings.legacy


def detection(shop: Bookshop) -> Obj:
    errors = {"consecutiveErrors": 1} if legacy(shop) else {"consecutive5xxErrors": 1}
    return {**errors, "interval": "0.05s", "baseEjectionTime": "3600s", "maxEjectionPercent": 100}


@contextlib.asynccontextmanager
async def balanced(shop: Bookshop, setting: Obj, **more: Any) -> AsyncIterator[None]:
    """A `localityLbSetting` in force: the rule's own, or in Istio 1.2, which knew no other, the mesh's."""
    policy = {"outlierDetection": detection(shop), **more}
    if legacy(shop):
        shop.mesh_config(accessLogFile="/dev/stdout", localityLbSetting=setting)
    else:
        policy["loadBalancer"] = {"localityLbSetting": setting}
    try:
        async with shop.rules(destination_rule(**policy), NO_RETRIES):
            yield
    finally:
        shop.mesh_config(accessLogFile="/dev/stdout")


async def answers(shop: Bookshop, *names: str) -> None:
    """Wait until exactly these answer."""

    async def only() -> bool:
        return set(await shop.many(20)) == set(names)

    await shop.until(only, f"{names} answer")
    # One of two is never chosen in 60 times with a probability of 2 x 2^-60.
    assert set(await shop.many(60)) == set(names)


async def test_the_nearest_answer_and_the_next_take_over(shop: Bookshop) -> None:
    apps = [shop.apps[f"reviews-{version}"] for version in VERSIONS]
    try:
        async with balanced(shop, {}):
            await answers(shop, "reviews-v1")
            apps[0].status = 503
            await answers(shop, "reviews-v2")
            apps[1].status = 503
            await answers(shop, "reviews-v3")
    finally:
        for app in apps:
            app.status = 200


async def test_requests_are_spread_over_places_as_said(shop: Bookshop) -> None:
    setting = {"distribute": [{"from": "us/*", "to": {"us/east": 75, "eu/*": 25}}]}
    async with balanced(shop, setting):
        await answers(shop, "reviews-v1", "reviews-v3")
        seen = await shop.many(1600)
    assert likely(seen["reviews-v1"], 1600, 0.75), seen


async def test_those_with_the_clients_own_labels_are_preferred(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no failoverPriority")
    app = shop.apps["reviews-v3"]
    try:
        setting = {"failoverPriority": ["version=v3", "topology.kubernetes.io/zone"]}
        async with balanced(shop, setting):
            await answers(shop, "reviews-v3")
            app.status = 503
            await answers(shop, "reviews-v1", "reviews-v2")
    finally:
        app.status = 200


EVERYTHING: list[Obj] = [
    {
        "connectionPool": {
            "tcp": {
                "maxConnections": 100,
                "connectTimeout": "60s",
                "idleTimeout": "1h",
                "maxConnectionDuration": "1h",
                "tcpKeepalive": {"probes": 3, "time": "60s", "interval": "5s"},
            },
            "http": {"maxRetries": 3, "maxRequestsPerConnection": 9, "idleTimeout": "30s", "useClientProtocol": True},
        },
        "outlierDetection": {
            "consecutive5xxErrors": 7,
            "consecutiveGatewayErrors": 5,
            "consecutiveLocalOriginFailures": 3,
            "splitExternalLocalOriginErrors": True,
            "interval": "5s",
            "baseEjectionTime": "5s",
            "maxEjectionPercent": 50,
            "minHealthPercent": 10,
        },
        "loadBalancer": {"warmup": {"duration": "1s", "minimumPercent": 20, "aggression": 1.5}},
        "retryBudget": {"percent": 25, "minRetryConcurrency": 5},
    },
    {"loadBalancer": {"simple": "ROUND_ROBIN", "warmupDurationSecs": "1s"}, "retryBudget": {}},
    {
        "loadBalancer": {
            "consistentHash": {
                "httpCookie": {"name": "user", "ttl": "0s", "attributes": [{"name": "SameSite", "value": "Strict"}]},
                "maglev": {"tableSize": 251},
            }
        }
    },
]


@pytest.mark.parametrize("policy", EVERYTHING)
async def test_envoy_takes_every_field(shop: Bookshop, policy: Obj) -> None:
    if legacy(shop):
        pytest.skip("most of it came after Istio 1.2")
    shop.objects.forget_events()
    async with shop.rules(destination_rule(**policy)):
        replies = [await shop.get() for _ in range(5)]
    assert {reply.status for reply in replies} == {200}
    assert shop.objects.warnings() == []
    if "consistentHash" in policy["loadBalancer"]:
        assert "samesite=strict" in replies[0].headers["set-cookie"].lower()


@contextlib.asynccontextmanager
async def machine(shop: Bookshop, app: App) -> AsyncIterator[int]:
    """An application outside of all pods, at the node's address; its port."""
    server = await asyncio.start_server(app.serve, shop.settings.plan.node, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def entry(*ports: Obj, host: str = "vm.test", **fields: Any) -> tuple[str, str, Obj]:
    http = {"number": 80, "name": "http", "protocol": "HTTP"}
    return "ServiceEntry", host.replace("*", "any"), {"hosts": [host], "ports": list(ports) or [http], **fields}


async def test_a_service_entry_chooses_workload_entries(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no WorkloadEntry")
    node = shop.settings.plan.node
    chosen = entry(resolution="STATIC", location="MESH_INTERNAL", workloadSelector={"labels": {"app": "vm"}})
    one, two = App("vm-1"), App("vm-2")
    async with machine(shop, one) as first, machine(shop, two) as second:
        there = [
            (
                "WorkloadEntry",
                f"vm-{n}",
                {"address": node, "ports": {"http": port}, "labels": {"app": "vm", "n": str(n)}},
            )
            for n, port in ((1, first), (2, second))
        ]
        subsets = {"host": "vm.test", "subsets": [{"name": "two", "labels": {"n": "2"}}]}
        second_only = {
            "hosts": ["vm.test"],
            "http": [
                {"match": [{"uri": {"exact": "/two"}}], "route": [to("two", host="vm.test")]},
                {"route": [to(host="vm.test")]},
            ],
        }
        asked: Obj = {"host": "10.9.9.9", "port": 80, "headers": {"host": "vm.test"}}
        rules = [("DestinationRule", "vm", subsets), ("VirtualService", "vm", second_only)]
        async with shop.rules(chosen, *there, *rules):
            assert set(await shop.many(60, **asked)) == {"vm-1", "vm-2"}
            assert set(await shop.many(20, "/two", **asked)) == {"vm-2"}


async def test_a_service_chooses_workload_entries_as_well(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no WorkloadEntry")
    vm = App("vm")
    async with machine(shop, vm) as port:
        spec = {"address": shop.settings.plan.node, "ports": {"http": port}, "labels": {"app": "ratings"}}
        async with shop.rules(("WorkloadEntry", "ratings-vm", spec)):
            assert set(await shop.many(60, host="ratings")) == {"ratings-v1", "vm"}


async def test_a_workload_entry_with_an_account_is_met_with_mtls(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no WorkloadEntry")
    asked: Obj = {"host": "10.9.9.9", "port": 80, "headers": {"host": "vm.test"}}
    chosen = entry(resolution="STATIC", location="MESH_INTERNAL", workloadSelector={"labels": {"app": "vm"}})
    there = {"address": shop.pods["ratings-v1"].ip, "ports": {"http": 9080}, "labels": {"app": "vm"}}
    strict = ("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}})
    async with shop.rules(chosen, strict, ("WorkloadEntry", "vm", {**there, "serviceAccount": "ratings-sa"})):
        assert set(await shop.many(5, **asked)) == {"ratings-v1"}
    # Whose account is another one's is not who was meant.
    async with shop.rules(chosen, strict, ("WorkloadEntry", "vm", {**there, "serviceAccount": "reviews-sa"})):
        assert set(await shop.many(5, **asked)) == {"503"}
    # Who has none is met in plain text.
    async with shop.rules(chosen, strict, ("WorkloadEntry", "vm", there)):
        assert set(await shop.many(5, **asked)) == {"503"}
    async with shop.rules(chosen, ("WorkloadEntry", "vm", there)):
        assert set(await shop.many(5, **asked)) == {"ratings-v1"}


@dataclass
class Raw:
    """A server of bytes: keeps the first line that each connection sends, and answers with its own."""

    greeting: bytes = b"hello\n"
    lines: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines.append(await reader.readline())
        writer.write(self.greeting)
        await writer.drain()
        # Whoever closes while something is unread resets the connection, and what was sent may be lost with it.
        await reader.read()
        writer.close()


@dataclass
class ForwardProxy:
    """A forward proxy: what it was asked for, wherever it leads."""

    where: tuple[str, int]
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        onward = await asyncio.open_connection(*self.where)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_copy(reader, onward[1]), _copy(onward[0], writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def listening(shop: Bookshop, serve: Any) -> AsyncIterator[int]:
    async with await asyncio.start_server(serve, shop.settings.plan.node, 0) as server:
        yield server.sockets[0].getsockname()[1]


async def talk(streams: Streams, line: bytes = b"ping\n") -> bytes:
    reader, writer = streams
    writer.write(line)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.readline()
    writer.close()
    return answer


def raw_entry(shop: Bookshop, port: int) -> tuple[str, str, Obj]:
    there = [{"address": shop.settings.plan.node, "ports": {"tcp": port}}]
    tcp = {"number": 7000, "name": "tcp", "protocol": "TCP"}
    return entry(tcp, host="raw.test", addresses=["10.8.8.8"], resolution="STATIC", endpoints=there)


async def test_a_tunnel_is_asked_of_a_forward_proxy(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no tunnels")
    raw = Raw()
    async with listening(shop, raw.serve) as port:
        proxy = ForwardProxy((shop.settings.plan.node, port))
        async with listening(shop, proxy.serve) as door:
            tunnel = {"tunnel": {"protocol": "CONNECT", "targetHost": "far.test", "targetPort": 443}}
            rule = ("DestinationRule", "raw", {"host": "raw.test", "trafficPolicy": tunnel})
            async with shop.rules(raw_entry(shop, door), rule):
                assert await talk(await shop.captured("client", "10.8.8.8", 7000)) == b"hello\n"
                # Who asks the sidecar for a tunnel, as curl does here, is led the same way.
                reader, writer = await asyncio.open_connection(shop.pods["client"].local, 15001)
                writer.write(b"CONNECT raw.test:7000 HTTP/1.1\r\nhost: raw.test:7000\r\n\r\n")
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                assert await talk((reader, writer)) == b"hello\n"
    assert proxy.heads == ["CONNECT far.test:443 HTTP/1.1"] * 2
    assert raw.lines == [b"ping\n"] * 2


@pytest.mark.parametrize("version", ["V1", "V2"])
async def test_a_proxy_header_says_who_calls(shop: Bookshop, version: str) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no proxyProtocol")
    raw = Raw()
    async with listening(shop, raw.serve) as port:
        policy = {"proxyProtocol": {"version": version}}
        rule = ("DestinationRule", "raw", {"host": "raw.test", "trafficPolicy": policy})
        async with shop.rules(raw_entry(shop, port), rule):
            assert await talk(await shop.captured("client", "10.8.8.8", 7000)) == b"hello\n"
    ip = shop.pods["client"].ip
    if version == "V1":
        assert raw.lines[0].startswith(f"PROXY TCP4 {ip} ".encode())
    else:
        # Its twelve bytes begin with an empty line.
        assert raw.lines == [b"\r\n"]


async def test_a_wildcard_host_is_resolved_by_the_name_that_is_asked_for(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no DYNAMIC_DNS")
    app = App("found-by-name")
    async with await asyncio.start_server(app.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        any_host = entry(
            {"number": port, "name": "http", "protocol": "HTTP"}, host="*.localhost", resolution="DYNAMIC_DNS"
        )
        async with shop.rules(any_host):
            headers = {"host": f"books.localhost:{port}"}
            assert set(await shop.many(3, host="10.9.9.9", port=port, headers=headers)) == {"found-by-name"}


async def test_a_host_without_an_address_is_given_one(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 gave none")
    one, two = Raw(b"one\n"), Raw(b"two\n")
    tcp = {"number": 7000, "name": "tcp", "protocol": "TCP"}

    def there(host: str, port: int) -> tuple[str, str, Obj]:
        where = [{"address": shop.settings.plan.node, "ports": {"tcp": port}}]
        return entry(tcp, host=host, resolution="STATIC", endpoints=where)

    def given(host: str) -> list[str]:
        obj = shop.objects.get("serviceentries.networking.istio.io", host, "bookinfo")
        addresses = (obj.get("status") or {}).get("addresses") or []
        assert all(address["host"] == host for address in addresses)
        return [address["value"] for address in addresses]

    async with listening(shop, one.serve) as first, listening(shop, two.serve) as second:
        entries = [there("one.test", first), there("two.test", second)]
        async with shop.rules(*entries):
            await shop.until(lambda: given("one.test") and given("two.test"), "both have addresses")
            await shop.follow()
            for host, answer in (("one.test", b"one\n"), ("two.test", b"two\n")):
                four, six = given(host)
                assert four.startswith("240.240.")
                assert six.startswith("2001:2::")
                # Both have one port, and are told apart by their addresses.
                assert await talk(await shop.captured("client", four, 7000)) == answer


def client_hello(name: str) -> bytes:
    """The first bytes of a TLS client that asks for `name`."""
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


async def test_a_wildcard_host_is_resolved_by_its_server_name(shop: Bookshop) -> None:
    if legacy(shop):
        pytest.skip("Istio 1.2 had no DYNAMIC_DNS")
    hello = client_hello("tls.localhost")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"met\n" if await reader.readexactly(len(hello)) == hello else b"else\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        tls = {"number": port, "name": "tls", "protocol": "TLS"}
        async with shop.rules(entry(tls, host="*.localhost", resolution="DYNAMIC_DNS")):
            assert await talk(await shop.captured("client", "10.9.9.9", port), hello) == b"met\n"
