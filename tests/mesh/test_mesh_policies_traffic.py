# SPDX-License-Identifier: Apache-2.0
"""Policies of today's release, part by part, seen in traffic through real Envoys."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from labkit.ground.web import Request
from meshbox.addresses import AddressPlan
from meshbox.images.extauthz.keys import answer
from meshbox.images.extauthz.server import DENIED

from .askers import authorizer, providers
from .bookshop import Bookshop, opened
from .test_mesh_security_traffic import encoded, token
from .world import App, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]
RATINGS = {"selector": {"matchLabels": {"app": "ratings"}}}
PUBLISHED = (
    "eyJhbGciOiJSUzI1NiIsImtpZCI6IkRIRmJwb0lVcXJZOHQyenBBMnFYZkNtcjVWTzVaRXI0UnpIVV8tZW52dlEiLCJ0eXAiOiJKV1QifQ.eyJleH"
    "AiOjQ2ODU5ODk3MDAsImZvbyI6ImJhciIsImlhdCI6MTUzMjM4OTcwMCwiaXNzIjoidGVzdGluZ0BzZWN1cmUuaXN0aW8uaW8iLCJzdWIiOiJ0ZXN0"
    "aW5nQHNlY3VyZS5pc3Rpby5pbyJ9.CfNnxWP2tcnR9q0vxyxweaF3ovQYHYZl82hAUsn21bwQd9zP7c-LS9qd_vpdLG4Tn1A15NxfCjp5f7QNBUo-K"
    "C9PJqYpgGbaXhaGx7bEdFWjcwv3nZzvc7M__ZpaCERdwU7igUmJqYGBYQ51vr2njU9ZimyKkfDe3axcyiBZde7G6dabliUosJvvKOPcKIWPccCgefS"
    "j_GNfwIip3-SsFdlR7BtbVUcqR-yv-XOxJ3Uc1MI0tz3uMiiZcyPV7sNCU4KRnemRIMHVOfuvHsU60_GhGbiSFzgPTAa9WTltbnarTbxudb_YEOx12"
    "JiwYToeX0DCPb43W1tzIBxgm8NxUg"
)
"""The token that Istio's samples publish, of issuer testing@secure.istio.io."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        yield shop


async def status(shop: Bookshop, path: str = "/", **options: Any) -> int:
    return (await shop.get(path, host="ratings", **options)).status


async def in_force(shop: Bookshop, wanted: int, path: str = "/", **options: Any) -> None:
    """The server's side follows on its own: wait for the first effect."""

    async def seen() -> bool:
        return await status(shop, path, **options) == wanted

    await shop.until(seen, f"{path} answers {wanted}")


async def test_a_sidecar_takes_no_policy_that_names_its_targets(shop: Bookshop) -> None:
    target = {"kind": "Service", "group": "", "name": "ratings"}
    gateway = {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "shop"}
    deny = {"action": "DENY", "rules": [{}]}
    # What is denied here shows that the proxies follow.
    marker = {**RATINGS, "action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/marker"]}}]}]}
    async with shop.rules(
        ("AuthorizationPolicy", "service", {**deny, "targetRefs": [target]}),
        ("AuthorizationPolicy", "gateway", {**deny, "targetRefs": [gateway]}),
        ("AuthorizationPolicy", "older", {**deny, "targetRef": gateway}),
        ("AuthorizationPolicy", "marker", marker),
    ):
        await in_force(shop, 403, "/marker")
        assert await status(shop) == 200
        assert "waypoints" in " ".join(shop.objects.warnings("service"))


async def test_templates_of_paths(shop: Bookshop) -> None:
    paths = ["/any/{*}/x", "/deep/{**}"]
    async with shop.rules(
        ("AuthorizationPolicy", "paths", {**RATINGS, "rules": [{"to": [{"operation": {"paths": paths}}]}]})
    ):
        await in_force(shop, 403, "/other")
        assert await status(shop, "/any/a/x") == 200
        assert await status(shop, "/any/a/b/x") == 403
        assert await status(shop, "/any/a/x?q=1") == 200
        assert await status(shop, "/deep/a/b/c") == 200
    other = {**RATINGS, "action": "DENY", "rules": [{"to": [{"operation": {"notPaths": ["/open/{*}"]}}]}]}
    async with shop.rules(("AuthorizationPolicy", "paths", other)):
        await in_force(shop, 403, "/other")
        assert await status(shop, "/open/a") == 200
        assert await status(shop, "/open/a/b") == 403


async def counted(shop: Bookshop, pod: str, word: str) -> dict[str, int]:
    reply = await shop.http(shop.pods[pod].ip, 15090, "/stats/prometheus")
    lines = [line for line in reply.body.decode().splitlines() if word in line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in lines}


async def test_a_dry_run_counts_and_lets_pass(shop: Bookshop) -> None:
    deny = {**RATINGS, "action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/not"]}}]}]}
    shop.istio("AuthorizationPolicy", "dry", deny, annotations={"istio.io/dry-run": "true"})
    allow = {**RATINGS, "rules": [{"to": [{"operation": {"paths": ["/yes"]}}]}]}
    shop.istio("AuthorizationPolicy", "dry-allow", allow, annotations={"istio.io/dry-run": "true"})
    try:
        await shop.follow()

        async def shown() -> bool:
            assert await status(shop, "/not") == 200
            assert await status(shop, "/yes") == 200
            found = await counted(shop, "ratings-v1", "authz_dry_run")
            return all(
                any(a in name and b in name and count for name, count in found.items())
                for a, b in (("deny", "denied"), ("deny", "allowed"), ("allow", "denied"), ("allow", "allowed"))
            )

        await shop.until(shown, "shadow counters")
        log = shop.pods["ratings-v1"].log
        assert log is not None
        streams = await asyncio.open_unix_connection(log.parent / "admin.sock")
        assert (await shop._ask(*streams, "/logging?rbac=debug", "POST", {"host": "admin"})).status == 200
        assert await status(shop, "/not") == 200

        def logged() -> bool:
            return "shadow denied, matched policy ns[bookinfo]-policy[dry]-rule[0]" in log.read_text()

        await shop.until(logged, "the log names the policy")
    finally:
        shop.remove("authorizationpolicies.security.istio.io", "dry")
        shop.remove("authorizationpolicies.security.istio.io", "dry-allow")
        await shop.follow()


class Keys(App):
    """Serves keys, and counts who asked."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.count += 1
        body = answer(Request("GET", "/jwks", {})).body
        assert isinstance(body, str)
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()


async def test_keys_are_fetched_and_without_them_no_token_passes(shop: Bookshop) -> None:
    place = "http://jwt-server.istio-system:8000/jwks"
    asked = {**RATINGS, "jwtRules": [{"issuer": "testing@secure.istio.io", "jwksUri": place}]}
    headers = {"authorization": f"Bearer {PUBLISHED}"}
    async with shop.rules(("RequestAuthentication", "fetched", asked)):
        await in_force(shop, 401, headers=headers)
        assert await status(shop) == 200

        def told() -> bool:
            return any(place in line and "401" in line for line in shop.objects.warnings("fetched"))

        await shop.until(told, "an event says so")
        # The server comes up later.
        shop.service("jwt-server", [{"name": "http", "port": 8000}], "istio-system")
        await shop.pod(
            "jwt-server", {"app": "jwt-server"}, namespace="istio-system", ports=(8000,), role="", app=Keys("k")
        )
        await in_force(shop, 200, headers=headers)
        assert await status(shop, headers={"authorization": f"Bearer {PUBLISHED[:-4]}AAAA"}) == 401


async def test_what_else_a_rule_about_tokens_says(shop: Bookshop) -> None:
    secret = b"a-secret-of-thirty-two-bytes-len"
    keys = json.dumps({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": encoded(secret)}]})
    rule = {
        "issuer": "books",
        "jwks": keys,
        "audiences": ["shop"],
        "fromHeaders": [{"name": "x-token", "prefix": "Token "}],
        "fromParams": ["tok"],
        "fromCookies": ["session"],
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}],
        "spaceDelimitedClaims": ["roles"],
    }
    other = {"issuer": "others", "jwksUri": "http://nowhere.istio-system/keys", "fromHeaders": [{"name": "x-other"}]}
    roles = {"key": "request.auth.claims[roles]", "values": ["admin"]}
    allow = {**RATINGS, "rules": [{"when": [roles]}, {"to": [{"operation": {"paths": ["/open"]}}]}]}
    good = token(secret, iss="books", sub="ann", aud="shop", roles="user admin")
    async with shop.rules(
        ("RequestAuthentication", "tokens", {**RATINGS, "jwtRules": [rule, other]}),
        ("AuthorizationPolicy", "tokens", allow),
    ):
        await in_force(shop, 403)
        await in_force(shop, 401, headers={"x-token": "Token x.y.z"})
        for way in ({"x-token": f"Token {good}"}, {"cookie": f"session={good}"}):
            assert await status(shop, headers=way) == 200
        seen = (await shop.get(f"/?tok={good}", host="ratings")).json["headers"]
        assert seen["x-sub"] == "ann"
        assert "x-payload" in seen
        assert "x-token" not in seen
        wrong = token(secret, iss="books", sub="ann", aud="bank", roles="admin")
        assert await status(shop, headers={"x-token": f"Token {wrong}"}) in (401, 403)
        assert await status(shop, headers={"authorization": f"Bearer {good}"}) == 403
        assert await status(shop, "/open", headers={"x-other": good}) == 401


def asking(provider: str, *paths: str) -> tuple[str, str, Obj]:
    rules = [{"to": [{"operation": {"paths": list(paths)}}]}]
    return (
        "AuthorizationPolicy",
        f"ask-{provider}",
        {**RATINGS, "action": "CUSTOM", "provider": {"name": provider}, "rules": rules},
    )


async def test_somebody_else_is_asked(shop: Bookshop) -> None:
    providers(shop)
    pod, process = await authorizer(shop)
    assert pod.log is not None
    try:
        async with shop.rules(asking("http", "/ask*")):
            await in_force(shop, 403, "/ask")
            denied = await shop.get("/ask", host="ratings")
            assert denied.body.decode() == DENIED
            assert denied.headers["x-ext-authz-check-result"] == "denied"
            assert await status(shop, "/else") == 200
            allowed: Reply = await shop.get("/ask/it", host="ratings", headers={"x-ext-authz": "allow", "x-other": "1"})
            assert allowed.status == 200
            assert allowed.headers["x-ext-authz-check-result"] == "allowed"
            seen = allowed.json["headers"]
            assert seen["x-ext-authz-additional-header-override"] == "ours"
            assert "X-Ext-Authz:[allow]" in seen["x-ext-authz-check-received"]
            assert "x-other" not in seen["x-ext-authz-check-received"].lower()
            # A denial of the mesh's own comes after the question.
            deny = {**RATINGS, "action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/ask/not"]}}]}]}
            async with shop.rules(("AuthorizationPolicy", "deny", deny)):
                await in_force(shop, 403, "/ask/not", headers={"x-ext-authz": "allow"})
                refused = await shop.get("/ask/not", host="ratings")
                assert refused.body.decode() == DENIED
        async with shop.rules(asking("grpc", "/ask*")):
            await in_force(shop, 403, "/ask")
            denied = await shop.get("/ask", host="ratings")
            assert denied.body.decode() == DENIED
            allowed = await shop.get("/ask", host="ratings", headers={"x-ext-authz": "allow"})
            assert allowed.status == 200
            seen = allowed.json["headers"]
            assert seen["x-ext-authz-additional-header-override"] == "grpc-additional-header-override-value"
            assert "client-sa" in seen["x-ext-authz-check-received"]
        text = pod.log.read_text()
        assert "[HTTP][denied]: GET ratings:9080/ask" in text
        assert "[gRPCv3][allowed]: ratings:9080/ask" in text
    finally:
        process.terminate()
        process.wait()


async def test_whoever_cannot_be_asked_lets_nobody_in_whom_it_would_be_asked_about(shop: Bookshop) -> None:
    providers(shop)
    for name, why in (("nobody", "has no 'nobody'"), ("gone", "there is no service")):
        async with shop.rules(asking(name, "/ask")):
            # As in Istio what the rules speak of is denied.
            await in_force(shop, 403, "/ask")
            await in_force(shop, 200, "/else")
            (said,) = [line for line in shop.objects.warnings(f"ask-{name}") if "denied (403)" in line]
            assert why in said


async def test_the_mesh_other_names(shop: Bookshop) -> None:
    shop.mesh_config(accessLogFile="/dev/stdout", trustDomainAliases=["old.example"])
    allow = {**RATINGS, "rules": [{"from": [{"source": {"principals": ["old.example/ns/bookinfo/sa/client-sa"]}}]}]}
    other = {
        **RATINGS,
        "action": "DENY",
        "rules": [
            {"from": [{"source": {"serviceAccounts": ["client-sa"]}}], "to": [{"operation": {"paths": ["/no"]}}]}
        ],
    }
    async with shop.rules(("AuthorizationPolicy", "alias", allow), ("AuthorizationPolicy", "account", other)):
        await in_force(shop, 403, "/no")
        assert await status(shop) == 200
        assert (await shop.http(shop.pods["ratings-v1"].ip, 9080)).status == 403
    # Identities move with the mesh's own name; what says cluster.local goes on to mean them.
    shop.mesh_config(accessLogFile="/dev/stdout", trustDomain="new.example", trustDomainAliases=["cluster.local"])
    deny = {**RATINGS, "action": "DENY", "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/*/sa/x"]}}]}]}
    allow = {**RATINGS, "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/bookinfo/sa/client-sa"]}}]}]}
    async with shop.rules(("AuthorizationPolicy", "alias", allow), ("AuthorizationPolicy", "other", deny)):

        async def moved() -> bool:
            reply = await shop.get(host="ratings")
            told = reply.json["headers"]["x-forwarded-client-cert"] if reply.status == 200 else ""
            return "URI=spiffe://new.example/ns/bookinfo/sa/client-sa" in told

        await shop.until(moved, "the client has its new name")
        assert (await shop.http(shop.pods["ratings-v1"].ip, 9080)).status == 403
    shop.mesh_config(accessLogFile="/dev/stdout")
    await shop.follow()
    # Identities come apart from all else: until every proxy has its own again, some do not know each other.
    secrets = [state.told["secrets"] for state in shop.mesh._proxies.values()]
    await shop.until(lambda: all(one.settled for one in secrets), "old names are back")


async def test_the_caller_before_trusted_proxies(shop: Bookshop) -> None:
    shop.mesh_config(accessLogFile="/dev/stdout", defaultConfig={"gatewayTopology": {"numTrustedProxies": 1}})
    server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["shop.test"]}
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    spec = {"hosts": ["shop.test"], "gateways": ["shop"], "http": [{"route": [{"destination": {"host": "ratings"}}]}]}
    rule = {"from": [{"source": {"remoteIpBlocks": ["10.1.0.0/16"]}}]}
    deny = {"selector": {"matchLabels": {"istio": "ingressgateway"}}, "action": "DENY", "rules": [rule]}
    shop.istio("AuthorizationPolicy", "remote", deny, "istio-system")
    try:
        async with shop.rules(("Gateway", "shop", gateway), ("VirtualService", "shop", spec)):
            await shop.listening(shop.pods["ingress"].ip, 8080)

            async def denied() -> bool:
                headers = {"x-forwarded-for": "9.9.9.9, 10.1.2.3"}
                return (await shop.enter(headers=headers)).status == 403

            await shop.until(denied, "the last but one is whom the gateway believes")
            assert (await shop.enter(headers={"x-forwarded-for": "10.1.2.3, 9.9.9.9"})).status == 200
            assert (await shop.enter()).status == 200
    finally:
        shop.remove("authorizationpolicies.security.istio.io", "remote", "istio-system")
        shop.mesh_config(accessLogFile="/dev/stdout")


async def test_the_caller_before_a_load_balancer_that_speaks_the_proxy_protocol(shop: Bookshop) -> None:
    topology = {"proxyProtocol": {}, "forwardClientCertDetails": "ALWAYS_FORWARD_ONLY"}
    server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["shop.test"]}
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    spec = {"hosts": ["shop.test"], "gateways": ["shop"], "http": [{"route": [{"destination": {"host": "ratings"}}]}]}
    deny = {"action": "DENY", "rules": [{"from": [{"source": {"remoteIpBlocks": ["10.1.0.0/16"]}}]}]}
    shop.istio("AuthorizationPolicy", "remote", deny, "istio-system")

    async def enter(first: str) -> str:
        reader, writer = await asyncio.open_connection(shop.pods["ingress"].ip, 8080)
        asked = "GET / HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-Client-Cert: Hash=1\r\nConnection: close\r\n\r\n"
        writer.write(f"{first}{asked}".encode())
        with contextlib.closing(writer), contextlib.suppress(ConnectionResetError):
            return (await reader.read()).decode()
        return ""

    async def heard() -> bool:
        return "200 OK" in await enter("")

    async def closed() -> bool:
        return await enter("") == ""

    try:
        async with shop.rules(("Gateway", "shop", gateway), ("VirtualService", "shop", spec)):
            await shop.until(heard, "the gateway serves")
            shop.mesh_config(accessLogFile="/dev/stdout", defaultConfig={"gatewayTopology": topology})
            await shop.until(closed, "who sends no PROXY header is not heard")
            answers = [await enter(f"PROXY TCP4 10.{n}.2.3 127.0.0.1 1 2\r\n") for n in (1, 2)]
            shop.mesh_config(accessLogFile="/dev/stdout")
            await shop.until(heard, "the gateway serves as before")
    finally:
        shop.remove("authorizationpolicies.security.istio.io", "remote", "istio-system")
        shop.mesh_config(accessLogFile="/dev/stdout")
    assert "403 Forbidden" in answers[0]
    assert '"x-forwarded-for": "10.2.2.3"' in answers[1]
    assert '"x-forwarded-client-cert": "Hash=1' in answers[1]


async def test_plain_connections_are_judged_by_what_they_show(shop: Bookshop) -> None:
    shop.service("echo", [{"name": "tcp", "port": 9100}])
    await shop.pod("echo", {"app": "echo"}, ports=(9100,), app=App("echo"))
    await shop.ready("echo")
    shop.service("ext-authz", [{"name": "http", "port": 8000}, {"name": "grpc", "port": 9000}])
    providers(shop)
    chosen = {"selector": {"matchLabels": {"app": "echo"}}}

    async def heard() -> bool:
        try:
            return (await shop.get(host="echo", port=9100)).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    async def cut() -> bool:
        return not await heard()

    client = {"source": {"principals": ["cluster.local/ns/bookinfo/sa/client-sa"]}}
    path = {"operation": {"paths": ["/no"], "ports": ["9100"]}}
    asked, nobody = ({"action": "CUSTOM", "provider": {"name": name}, "rules": [{}]} for name in ("http", "gone"))
    await shop.until(heard, "echo is heard")
    for spec, let_in in (
        ({"rules": [{"from": [client]}]}, True),
        # What only HTTP can show never allows a plain connection, and saves none from being denied.
        ({"rules": [{"from": [client], "to": [{"operation": {"methods": ["GET"]}}]}]}, False),
        ({"action": "DENY", "rules": [{"to": [path]}]}, False),
        ({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["9101"]}}]}]}, True),
        ({"rules": [{"from": [{"source": {"namespaces": ["other"]}}]}]}, False),
        # Whoever is asked about HTTP only is asked nothing about plain connections, as in Istio.
        (asked, True),
        (nobody, False),
    ):
        async with shop.rules(("AuthorizationPolicy", "plain", {**chosen, **spec})):
            await shop.until(heard if let_in else cut, f"{spec} lets in: {let_in}")
        await shop.until(heard, "echo is heard again")
