# SPDX-License-Identifier: Apache-2.0
"""What proxies let out and in besides the mesh's own hosts, and how they tell requests apart, through real Envoys."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, gateway_server, opened, to, virtual_service
from .conftest import RELEASES
from .world import Reply, Streams, _reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]

TODAY = pytest.mark.parametrize("shop", ["1.30.3"], indirect=True)
HELLO = b"hello\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    # As for an ordinary user, who may not bind ports below 1024.
    ordinary = replace(plan, low_ports=False)
    async with opened(tmp_path_factory.mktemp("mesh"), ordinary, request.param) as shop:
        yield shop


async def asked(streams: Streams, head: str) -> Reply:
    """The answer to a request of which all lines are given."""
    reader, writer = streams
    writer.write("".join(f"{line}\r\n" for line in [*head.split("\n"), ""]).encode())
    try:
        return await _reply(reader)
    finally:
        writer.close()


async def proxied(shop: Bookshop, host: str, path: str = "/", method: str = "GET") -> Reply:
    """What the client's programs get that only know how to ask an HTTP proxy, such as curl."""
    streams = await asyncio.open_connection(shop.pods["client"].local, 15001)
    target = host if method == "CONNECT" else f"http://{host}{path}"
    return await asked(streams, f"{method} {target} HTTP/1.1\nhost: {host}\nconnection: close")


@contextlib.asynccontextmanager
async def far_away(shop: Bookshop) -> AsyncIterator[str]:
    """A Service of another namespace; what kube-proxy does for its address is done here. Yields that address."""
    address = shop.service("far", namespace="library")
    app = shop.apps["ratings-v1"]
    async with await asyncio.start_server(app.serve, address, shop.settings.plan.port(9080)):
        yield address
    shop.objects.drop("services", "far", "library")
    await shop.follow()


NEAR = ("Sidecar", "default", {"egress": [{"hosts": ["./*"]}]})


async def test_a_service_out_of_sight_is_passed_on_to(shop: Bookshop) -> None:
    async with far_away(shop) as address, shop.rules(NEAR):
        for host in ("far.library:9080", "far.library.svc.cluster.local:9080", f"{address}:9080"):
            reply = await proxied(shop, host, "/x")
            assert (reply.status, reply.json["path"], reply.json["headers"]["host"]) == (200, "/x", host)
        captured = await shop.call("client", address, "/y", headers={"host": "far.library:9080"})
        assert (captured.status, captured.json["path"]) == (200, "/y")
        assert shop.pods["client"].log is not None
        log = shop.pods["client"].log
        await shop.until(lambda: "PassthroughCluster" in log.read_text(), "the log names the cluster")


async def test_a_low_port_out_of_sight_is_found_where_it_really_is(shop: Bookshop) -> None:
    ports = [{"name": "http", "port": 80}, {"name": "tcp", "port": 143}]
    address = shop.service("low", ports, namespace="library")
    web = await asyncio.start_server(shop.apps["ratings-v1"].serve, address, 20080)
    async with web, await asyncio.start_server(echo, address, 20143), shop.rules(NEAR):
        assert (await proxied(shop, "low.library", "/x")).json["path"] == "/x"
        captured = await shop.call("client", address, "/y", port=80, headers={"host": "low.library"})
        assert captured.json["path"] == "/y"
        assert await told(await shop.captured("client", address, 143)) == HELLO
    shop.objects.drop("services", "low", "library")
    await shop.follow()


async def test_a_service_that_is_not_exported_is_passed_on_to(shop: Bookshop) -> None:
    async with far_away(shop):
        service = shop.objects.get("services", "far", "library")
        annotations = {"networking.istio.io/exportTo": "."}
        meta = {**service["metadata"], "annotations": annotations}
        shop.objects.put("services", {**service, "metadata": meta}, "library")
        await shop.follow()
        assert (await proxied(shop, "far.library:9080")).status == 200


async def test_where_only_the_registry_counts_it_is_refused(shop: Bookshop) -> None:
    kind, name, spec = NEAR
    only = {**spec, "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    async with far_away(shop) as address, shop.rules((kind, name, only)):
        assert (await proxied(shop, "far.library:9080")).status == 502
        assert (await shop.call("client", address, headers={"host": "far.library:9080"})).status == 502
        assert (await proxied(shop, "reviews:9080")).status == 200


async def test_a_tunnel_that_must_lead_nowhere_ends_as_soon_as_it_is_there(shop: Bookshop) -> None:
    """So a client of TLS learns it in its handshake, as it does where its connection is captured."""
    kind, name, spec = NEAR
    only = {**spec, "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    async with shop.rules((kind, name, only)):
        reader, writer = await asyncio.open_connection(shop.pods["client"].local, 15001)
        writer.write(b"CONNECT www.books.test:443 HTTP/1.1\r\nhost: www.books.test:443\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"\x16\x03\x01 the first words of TLS, which are not looked at")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


@TODAY
async def test_a_sidecar_may_send_what_is_unknown_to_a_proxy(shop: Bookshop) -> None:
    policy = {
        "mode": "ALLOW_ANY",
        "egressProxy": {"host": "ratings.bookinfo.svc.cluster.local", "port": {"number": 9080}},
    }
    async with shop.rules(("Sidecar", "default", {"outboundTrafficPolicy": policy, "egress": [{"hosts": ["./*"]}]})):
        assert (await proxied(shop, "nowhere.test", "/z")).json["path"] == "/z"
        assert (await shop.call("client", "10.9.9.9", "/w", port=80)).headers["x-app"] == "ratings-v1"


@pytest.mark.parametrize("through", ["gateway", "sidecar", "server"])
async def test_http_1_0_is_asked_to_upgrade(shop: Bookshop, through: str) -> None:
    spec = {"hosts": ["*"], "gateways": ["shop"], "http": [{"route": [to()]}]}
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(8080)]}
    async with shop.rules(("Gateway", "shop", gateway), ("VirtualService", "shop", spec)):
        ingress = shop.pods["ingress"].ip
        await shop.listening(ingress, 8080)
        streams = {
            "gateway": lambda: asyncio.open_connection(ingress, 8080),
            "sidecar": lambda: shop.captured("client", "10.9.9.9", 9080),
            "server": lambda: asyncio.open_connection(shop.pods["reviews-v1"].ip, 9080),
        }[through]
        old = await asked(await streams(), "GET / HTTP/1.0\nhost: reviews:9080")
        new = await asked(await streams(), "GET / HTTP/1.1\nhost: reviews:9080\nconnection: close")
    assert (old.status, new.status) == (426, 200)


async def test_who_answers_is_named_by_the_last_proxy(shop: Bookshop) -> None:
    spec = {"hosts": ["*"], "gateways": ["shop"], "http": [{"route": [to()]}]}
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(8080)]}
    async with shop.rules(("Gateway", "shop", gateway), ("VirtualService", "shop", spec)):
        await shop.listening(shop.pods["ingress"].ip, 8080)
        outside = await shop.enter()
    inside = await shop.get()
    bare = await shop.http(shop.pods["reviews-v1"].ip, 9080, headers={"host": "reviews:9080"})
    assert [one.headers["server"] for one in (outside, inside, bare)] == ["istio-envoy", "envoy", "istio-envoy"]
    assert all(one.headers["x-envoy-upstream-service-time"].isdigit() for one in (outside, inside, bare))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


async def told(streams: Streams) -> bytes:
    """What an echo says to a line; nothing where the connection ends."""
    reader, writer = streams
    try:
        writer.write(HELLO)
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_port_that_nobody_declared_is_let_in(shop: Bookshop) -> None:
    pod = shop.pods["ratings-v1"]
    async with await asyncio.start_server(echo, pod.local, 9002):
        await shop.listening(pod.ip, 9002)
        assert await told(await asyncio.open_connection(pod.ip, 9002)) == HELLO
        assert await told(await shop.captured("client", pod.ip, 9002)) == HELLO
        strict: tuple[str, str, Obj] = ("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}})
        if shop.settings.legacy:
            strict = ("Policy", "default", {"peers": [{"mtls": {}}]})
        # Istio 1.2 captures declared ports only: what comes for others no policy ever sees.
        expected = HELLO if shop.settings.legacy else b""
        async with shop.rules(strict):

            async def followed() -> bool:
                return await told(await asyncio.open_connection(pod.ip, 9002)) == expected

            await shop.until(followed, "plain text is let in or not, as the release does it")
            if not shop.settings.legacy:
                entry = {
                    "hosts": ["echo.test"],
                    "addresses": ["10.8.8.8"],
                    "location": "MESH_INTERNAL",
                    "ports": [{"number": 9002, "name": "tcp", "protocol": "TCP"}],
                    "resolution": "STATIC",
                    "workloadSelector": {"labels": {"app": "ratings"}},
                }
                async with shop.rules(("ServiceEntry", "echo", entry)):
                    assert await told(await shop.captured("client", "10.8.8.8", 9002)) == HELLO

    await shop.listening(pod.ip, 9002, taken=False)


async def test_a_range_of_addresses_leads_to_its_host(shop: Bookshop) -> None:
    """Also where only the registry counts; and, in today's release, beside HTTP that others speak on that port."""
    number = 7000 if shop.settings.legacy else 9080
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        endpoint = {"address": "127.0.0.1", "ports": {"one": server.sockets[0].getsockname()[1]}}
        rules = [
            (
                "ServiceEntry",
                name,
                {
                    "hosts": [f"{name}.test"],
                    "addresses": [addresses],
                    "ports": [{"number": number, "name": "one", **({"protocol": protocol} if protocol else {})}],
                    "resolution": "STATIC",
                    "endpoints": [endpoint],
                },
            )
            for name, addresses, protocol in (
                ("far", "10.8.0.0/16", "TCP"),
                ("any", "10.9.0.0/16", "TCP" if shop.settings.legacy else ""),
            )
        ]
        everything = [{"hosts": ["*/*"]}]
        only = {"egress": everything, "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
        async with shop.rules(("Sidecar", "default", only), *rules):
            for address, expected in (("10.8.3.4", HELLO), ("10.9.3.4", HELLO), ("10.7.3.4", b"")):
                assert await told(await shop.captured("client", address, number)) == expected, address
            assert (await shop.get(host="ratings")).status == 200
            if not shop.settings.legacy:
                streams = await shop.captured("client", "10.9.3.4", number)
                # Requests are routed by the host that they name.
                reply = await asked(streams, "GET / HTTP/1.1\nhost: nobody.test\nconnection: close")
                assert reply.status == 502


async def test_a_sidecar_says_what_is_called_on_a_port(shop: Bookshop) -> None:
    port = {"number": 9080, "name": "http", "protocol": "HTTP"}
    egress = [{"port": port, "hosts": ["./ratings.bookinfo.svc.cluster.local"]}, {"hosts": ["istio-system/*", "./*"]}]
    policy = {"mode": "REGISTRY_ONLY"}
    async with shop.rules(("Sidecar", "default", {"egress": egress, "outboundTrafficPolicy": policy})):
        assert (await shop.get(host="ratings")).status == 200
        assert (await shop.get(host="reviews")).status == 502
        assert (await proxied(shop, "reviews:9080")).status == 502


async def test_a_sidecar_says_what_is_let_in(shop: Bookshop) -> None:
    pod = shop.pods["ratings-v1"]
    port = {"number": 9090, "name": "http", "protocol": "HTTP"}
    ingress = [{"port": port, "defaultEndpoint": "127.0.0.1:9080"}]
    labels = {"labels": {"app": "ratings"}}
    both = {"ingress": ingress, "egress": [{"hosts": ["*/*"]}]}
    async with shop.rules(("Sidecar", "door", {"workloadSelector": labels, **both})):
        await shop.listening(pod.ip, 9090)
        assert (await shop.http(pod.ip, 9090)).headers["x-app"] == "ratings-v1"


async def test_a_pod_of_a_headless_service_is_called_by_its_own_name(shop: Bookshop) -> None:
    shop.service("db", selector={"app": "reviews"}, clusterIP="None")
    pods = [shop.pods[f"reviews-v{number}"] for number in (1, 2, 3)]
    addresses: list[Obj] = [
        {"ip": pod.ip, "hostname": f"db-{number}", "targetRef": {"kind": "Pod", "name": pod.name}}
        for number, pod in enumerate(pods)
    ]
    shop.objects.serve("db", addresses, [{"name": "http", "port": 9080}], "bookinfo")
    strict: tuple[str, str, Obj] = ("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}})
    async with shop.rules(*([] if shop.settings.legacy else [strict])):
        for number in (0, 1, 2):
            for host in (f"db-{number}.db:9080", f"db-{number}.db.bookinfo.svc.cluster.local:9080"):
                assert (await proxied(shop, host)).headers["x-app"] == f"reviews-v{number + 1}"
                captured = await shop.call("client", pods[number].ip, headers={"host": host})
                assert captured.headers["x-app"] == f"reviews-v{number + 1}"
        anyone = {(await proxied(shop, "db:9080")).headers["x-app"] for _ in range(60)}
        assert anyone == {"reviews-v1", "reviews-v2", "reviews-v3"}
    shop.objects.drop("services", "db", "bookinfo")
    await shop.follow()


async def test_another_name_of_a_service_leads_to_it(shop: Bookshop) -> None:
    target = "ratings.bookinfo.svc.cluster.local"
    spec = {"type": "ExternalName", "externalName": target, "ports": [{"name": "http", "port": 9080}]}
    if not shop.settings.legacy:
        # Its own ports do not matter today.
        del spec["ports"]
    shop.objects.put("services", {"metadata": {"name": "stars", "namespace": "bookinfo"}, "spec": spec})
    await shop.follow()
    assert (await proxied(shop, "stars:9080")).headers["x-app"] == "ratings-v1"
    assert (await proxied(shop, "stars.bookinfo:9080")).headers["x-app"] == "ratings-v1"
    shop.objects.drop("services", "stars", "bookinfo")
    await shop.follow()


async def test_what_is_not_played_is_said_at_the_object(shop: Bookshop) -> None:
    shop.mesh_config(accessLogFile="/dev/stdout", verifyCertificateAtClient=True)
    said = await shop.until(lambda: shop.objects.warnings("istio"), "the ConfigMap's setting is named")
    assert said == ["the mesh's setting verifyCertificateAtClient has no effect in the sandbox"]
    shop.mesh_config(accessLogFile="/dev/stdout")
    listener = {"bind": "127.0.0.1", "port": {"number": 9081, "name": "http", "protocol": "HTTP"}, "hosts": ["./*"]}
    async with shop.rules(("Sidecar", "bound", {"egress": [listener, {"hosts": ["*/*"]}]})):
        said = await shop.until(lambda: shop.objects.warnings("bound"), "the Sidecar's field is named")
    assert said == ["the sandbox does not play spec.egress[0].bind: a port is listened on at every address"]


@TODAY
async def test_without_a_header_means_also_that_it_is_missing(shop: Bookshop) -> None:
    for match, hits, misses in (
        ({"x-old": {"prefix": "a"}}, [{}, {"x-old": "b"}], [{"x-old": "abc"}]),
        ({"x-old": {"exact": "a"}}, [{}, {"x-old": "b"}], [{"x-old": "a"}]),
        ({"x-old": {"regex": "a+"}}, [{}, {"x-old": "b"}], [{"x-old": "aa"}]),
        ({"x-old": {}}, [{}], [{"x-old": "b"}]),
    ):
        rules = [{"match": [{"withoutHeaders": match}], "route": [to("v2")]}, {"route": [to("v1")]}]
        async with shop.rules(virtual_service(*rules)):
            assert [(await shop.get(headers=one)).headers["x-app"] for one in hits] == ["reviews-v2"] * len(hits)
            assert [(await shop.get(headers=one)).headers["x-app"] for one in misses] == ["reviews-v1"] * len(misses)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


SECRET = b"a-secret-of-thirty-two-bytes-len"


def token(**claims: Any) -> str:
    head = _text(json.dumps({"alg": "HS256", "kid": "k"}).encode())
    body = _text(json.dumps({"exp": int(time.time()) + 600, "iss": "books", **claims}).encode())
    return f"{head}.{body}.{_text(hmac.new(SECRET, f'{head}.{body}'.encode(), hashlib.sha256).digest())}"


@TODAY
async def test_a_gateway_routes_by_the_claims_of_a_token(shop: Bookshop) -> None:
    keys = json.dumps({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": _text(SECRET)}]})
    asks = {"selector": {"matchLabels": {"istio": "ingressgateway"}}, "jwtRules": [{"issuer": "books", "jwks": keys}]}
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(8080)]}
    rules = [
        {"match": [{"headers": {name: {"exact": value}}}], "route": [to(version)]}
        for name, value, version in (
            ("@request.auth.claims.group", "admin", "v3"),
            ("@request.auth.claims[realm][roles]", "reader", "v2"),
            ("@request.auth.claims.realm.city", "Paris", "v2"),
        )
    ]
    spec = {"hosts": ["*"], "gateways": ["shop"], "http": [*rules, {"route": [to("v1")]}]}
    given = (("Gateway", "shop", gateway), ("VirtualService", "shop", spec))
    async with shop.rules(*given):
        shop.istio("RequestAuthentication", "jwt", asks, "istio-system")
        await shop.listening(shop.pods["ingress"].ip, 8080)

        async def answers(**claims: Any) -> str:
            headers = {"authorization": f"Bearer {token(**claims)}"} if claims else {}
            return (await shop.enter(headers=headers)).headers.get("x-app", "")

        async def followed() -> bool:
            return await answers(group="admin") == "reviews-v3"

        await shop.until(followed, "the gateway looks at tokens")
        assert await answers() == "reviews-v1"
        assert await answers(group="other") == "reviews-v1"
        assert await answers(group=["x", "admin"]) == "reviews-v3"
        assert await answers(realm={"roles": ["reader", "x"]}) == "reviews-v2"
        assert await answers(realm={"city": "Paris"}) == "reviews-v2"
        assert (await shop.enter(headers={"@request.auth.claims.group": "admin"})).status != 200
