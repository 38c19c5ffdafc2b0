# SPDX-License-Identifier: Apache-2.0
"""Identities and policies seen in traffic through real Envoys."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from meshbox.mesh.certificates import Authority

from .bookshop import Bookshop, gateway_server, opened, to
from .world import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPIFFE = "spiffe://cluster.local/ns/bookinfo/sa/"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        yield shop


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def old_shop(tmp_path_factory: pytest.TempPathFactory, second_plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), second_plan, "1.2.2") as shop:
        yield shop


async def plain(shop: Bookshop, pod: str = "ratings-v1", **options: Any) -> Reply | None:
    """A call in plain text from outside the mesh; None where the connection is cut."""
    try:
        return await shop.http(shop.pods[pod].ip, 9080, **options)
    except (ConnectionError, asyncio.IncompleteReadError):
        return None


async def in_force(shop: Bookshop, condition: Any, what: str) -> None:
    """The server's side follows on its own: wait for the first effect."""
    await shop.until(condition, what)


async def test_sidecars_meet_with_identities_and_others_are_let_in(shop: Bookshop) -> None:
    seen = (await shop.get(host="ratings")).json["headers"]
    assert f"URI={SPIFFE}client-sa" in seen["x-forwarded-client-cert"]
    assert f"By={SPIFFE}ratings-sa" in seen["x-forwarded-client-cert"]
    reply = await plain(shop)
    assert reply is not None
    assert "x-forwarded-client-cert" not in reply.json["headers"]


async def test_the_old_release_speaks_plain_text_until_a_rule_says_otherwise(old_shop: Bookshop) -> None:
    assert "x-forwarded-client-cert" not in (await old_shop.get(host="ratings")).json["headers"]
    mutual = {"host": "ratings", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    async with old_shop.rules(("DestinationRule", "ratings", mutual)):
        seen = (await old_shop.get(host="ratings")).json["headers"]
        assert f"URI={SPIFFE}client-sa" in seen["x-forwarded-client-cert"]


@pytest.mark.usefixtures("patient")
async def test_strict_refuses_plain_text_and_loses_no_call_of_the_mesh(shop: Bookshop) -> None:
    statuses: list[int] = []
    stop = asyncio.Event()

    async def calling() -> None:
        while not stop.is_set():
            statuses.append((await shop.get(host="ratings")).status)

    caller = asyncio.create_task(calling())
    try:
        async with shop.rules(("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}})):

            async def cut() -> bool:
                return await plain(shop) is None

            await in_force(shop, cut, "plain text is refused")
            assert (await shop.get(host="ratings")).status == 200
    finally:
        stop.set()
        await caller
    assert set(statuses) == {200}

    async def let_in() -> bool:
        return await plain(shop) is not None

    await in_force(shop, let_in, "plain text is let in again")


async def test_the_old_releases_policies_are_strict_or_permissive(old_shop: Bookshop) -> None:
    async def cut() -> bool:
        return await plain(old_shop) is None

    async with old_shop.rules(("Policy", "default", {"peers": [{"mtls": {}}]})):
        await in_force(old_shop, cut, "plain text is refused")
    permissive = {"targets": [{"name": "ratings"}], "peers": [{"mtls": {"mode": "PERMISSIVE"}}]}
    async with old_shop.rules(("Policy", "default", {"peers": [{"mtls": {}}]}), ("Policy", "ratings", permissive)):

        async def reviews_cut() -> bool:
            return await plain(old_shop, "reviews-v1") is None

        await in_force(old_shop, reviews_cut, "reviews refuses plain text")
        assert await plain(old_shop) is not None


async def test_strict_on_one_port_of_one_workload(shop: Bookshop) -> None:
    spec = {
        "selector": {"matchLabels": {"app": "ratings"}},
        "mtls": {"mode": "PERMISSIVE"},
        "portLevelMtls": {"9080": {"mode": "STRICT"}},
    }
    async with shop.rules(("PeerAuthentication", "ratings", spec)):

        async def cut() -> bool:
            return await plain(shop) is None

        await in_force(shop, cut, "ratings refuses plain text")
        assert await plain(shop, "reviews-v1") is not None


async def test_only_the_mesh_own_identities_are_let_in(
    shop: Bookshop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stranger")
    stranger = Authority(folder)
    stranger.load()

    async def status(authority: Authority, *, certificate: bool = True) -> int | None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["istio-peer-exchange", "istio"])
        if certificate:
            identity = authority.issue(f"{SPIFFE}someone")
            file = folder / "identity.pem"
            file.write_text(identity.key + identity.chain)
            context.load_cert_chain(file)
        try:
            return (await shop.http(shop.pods["ratings-v1"].ip, 9080, tls=context, server_hostname="x")).status
        except (OSError, asyncio.IncompleteReadError):
            return None

    assert await status(shop.mesh._authority) == 200
    assert await status(stranger) is None
    assert await status(stranger, certificate=False) is None


async def test_allow_and_deny_by_identity_path_and_method(shop: Bookshop) -> None:
    selector = {"selector": {"matchLabels": {"app": "ratings"}}}
    allow = {
        **selector,
        "rules": [
            {
                "from": [{"source": {"principals": ["cluster.local/ns/bookinfo/sa/client-sa"]}}],
                "to": [{"operation": {"methods": ["GET"], "paths": ["/ok*"]}}],
            }
        ],
    }
    deny = {**selector, "action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/ok/not"]}}]}]}
    async with shop.rules(("AuthorizationPolicy", "allow", allow), ("AuthorizationPolicy", "deny", deny)):

        async def denied() -> bool:
            return (await shop.get("/else", host="ratings")).status == 403

        await in_force(shop, denied, "what is not allowed is denied")
        assert (await shop.get("/ok", host="ratings")).status == 200
        assert (await shop.get("/ok", host="ratings", method="DELETE")).status == 403
        refused = await shop.get("/ok/not", host="ratings")
        assert (refused.status, refused.body) == (403, b"RBAC: access denied")
        stranger = await plain(shop, path="/ok")
        assert stranger is not None
        assert stranger.status == 403


async def test_conditions_on_headers_and_namespaces(shop: Bookshop) -> None:
    rule = {
        "from": [{"source": {"namespaces": ["bookinfo"]}}],
        "when": [{"key": "request.headers[x-token]", "values": ["abc*"]}],
    }
    spec = {"selector": {"matchLabels": {"app": "ratings"}}, "rules": [rule]}
    async with shop.rules(("AuthorizationPolicy", "conditions", spec)):

        async def denied() -> bool:
            return (await shop.get(host="ratings")).status == 403

        await in_force(shop, denied, "a call without the header is denied")
        assert (await shop.get(host="ratings", headers={"x-token": "abcd"})).status == 200


async def test_a_policy_reaches_connections_that_are_open(shop: Bookshop) -> None:
    reader, writer = await asyncio.open_connection(shop.pods["ratings-v1"].ip, 9080)

    async def status() -> int:
        writer.write(b"GET / HTTP/1.1\r\nhost: ratings\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length"))
        await reader.readexactly(length)
        return int(head.split()[1])

    try:
        assert await status() == 200
        async with shop.rules(("AuthorizationPolicy", "nobody", {"selector": {"matchLabels": {"app": "ratings"}}})):

            async def denied() -> bool:
                return await status() == 403

            await in_force(shop, denied, "the open connection is denied as well")
    finally:
        writer.close()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(secret: bytes, **claims: Any) -> str:
    head = encoded(json.dumps({"alg": "HS256", "kid": "k"}).encode())
    body = encoded(json.dumps({"exp": int(time.time()) + 600, **claims}).encode())
    return f"{head}.{body}.{encoded(hmac.new(secret, f'{head}.{body}'.encode(), hashlib.sha256).digest())}"


async def test_tokens_are_checked_and_their_claims_asked_for(shop: Bookshop) -> None:
    secret = b"a-secret-of-thirty-two-bytes-len"
    keys = json.dumps({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": encoded(secret)}]})
    selector = {"selector": {"matchLabels": {"app": "ratings"}}}
    readers = {"key": "request.auth.claims[groups]", "values": ["readers"]}
    known = {"source": {"requestPrincipals": ["books/*"]}}
    require = {**selector, "rules": [{"from": [known], "when": [readers]}]}
    asked = {**selector, "jwtRules": [{"issuer": "books", "jwks": keys}]}
    async with shop.rules(("RequestAuthentication", "jwt", asked), ("AuthorizationPolicy", "jwt", require)):

        async def status(text: str = "") -> int:
            headers = {"authorization": f"Bearer {text}"} if text else {}
            return (await shop.get(host="ratings", headers=headers)).status

        async def followed() -> bool:
            return await status() == 403 and await status("x.y.z") == 401

        await in_force(shop, followed, "no token is denied, a bad one refused")
        assert await status(token(secret, iss="books", sub="ann", groups=["readers", "x"])) == 200
        assert await status(token(secret, iss="books", sub="ann", groups=["writers"])) == 403
        assert await status(token(b"another-secret-of-thirty-two-by!", iss="books", sub="ann")) == 401


async def test_the_old_releases_roles_are_bound_to_subjects(old_shop: Bookshop) -> None:
    service = "ratings.bookinfo.svc.cluster.local"
    on: tuple[str, str, dict[str, Any]] = (
        "ClusterRbacConfig",
        "default",
        {"mode": "ON_WITH_INCLUSION", "inclusion": {"services": [service]}},
    )
    role = {"rules": [{"services": [service], "methods": ["GET"], "paths": ["/ok*"]}]}
    role["rules"].append({"services": ["details.*"], "methods": ["*"]})
    reference = {"kind": "ServiceRole", "name": "reader"}
    everybody = {"subjects": [{"user": "*"}], "roleRef": reference}
    named = {"subjects": [{"user": "cluster.local/ns/bookinfo/sa/client-sa"}], "roleRef": reference}
    spaced = {"subjects": [{"properties": {"source.namespace": "bookinfo"}}], "roleRef": reference}

    async def status(path: str = "/ok", **options: Any) -> int:
        return (await old_shop.get(path, host="ratings", **options)).status

    async def denied() -> bool:
        return await status("/else") == 403

    async def let_in() -> bool:
        return await status() == 200

    async with old_shop.rules(on):
        await in_force(old_shop, denied, "nothing is granted yet")
        assert await status() == 403
        assert (await old_shop.get()).status == 200
        async with old_shop.rules(("ServiceRole", "reader", role), ("ServiceRoleBinding", "all", everybody)):
            await in_force(old_shop, let_in, "everybody may read")
            assert await status("/else") == 403
            assert await status(method="POST") == 403
        mutual = {"host": "ratings", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
        for binding in (named, spaced):
            async with old_shop.rules(
                ("ServiceRole", "reader", role),
                ("ServiceRoleBinding", "some", binding),
                ("DestinationRule", "ratings", mutual),
            ):
                await in_force(old_shop, let_in, "whoever is named may read")
                stranger = await plain(old_shop, path="/ok")
                assert stranger is not None
                assert stranger.status == 403


async def test_the_old_releases_origins_show_a_token(old_shop: Bookshop) -> None:
    secret = b"a-secret-of-thirty-two-bytes-len"
    keys = json.dumps({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": encoded(secret)}]})
    jwt: dict[str, Any] = {"issuer": "books", "jwks": keys, "triggerRules": [{"excludedPaths": [{"prefix": "/open"}]}]}
    policy = {"targets": [{"name": "ratings"}], "origins": [{"jwt": jwt}], "principalBinding": "USE_ORIGIN"}
    good = {"authorization": f"Bearer {token(secret, iss='books', sub='ann')}"}

    async def status(path: str = "/", **options: Any) -> int:
        return (await old_shop.get(path, host="ratings", **options)).status

    async def refused() -> bool:
        return await status() == 401

    async with old_shop.rules(("Policy", "ratings", policy)):
        await in_force(old_shop, refused, "a token is asked for")
        reply = await old_shop.get(host="ratings")
        assert reply.body == b"Origin authentication failed."
        assert await status(headers=good) == 200
        assert await status(headers={"authorization": "Bearer x.y.z"}) == 401
        assert await status("/open/a") == 200
    unknown = {"issuer": "books", "jwksUri": "http://nowhere.bookinfo/keys"}
    async with old_shop.rules(("Policy", "ratings", {**policy, "origins": [{"jwt": unknown}]})):
        await in_force(old_shop, refused, "no keys, no entry")
        assert await status(headers=good) == 401


async def test_the_gateway_terminates_tls_with_a_secret(shop: Bookshop) -> None:
    authority = Authority(shop.settings.home / "public")
    authority.load()
    identity = authority.issue("https://books.test")
    data = {"tls.crt": identity.chain, "tls.key": identity.key}
    secret = {
        "metadata": {"name": "books-cert", "namespace": "istio-system"},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
    }
    shop.objects.put("secrets", secret)
    tls = {"mode": "SIMPLE", "credentialName": "books-cert"}
    server = gateway_server(8443, "books.test", "HTTPS", tls=tls)
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    spec = {"hosts": ["books.test"], "gateways": ["secure"], "http": [{"route": [to("v1")]}]}
    async with shop.rules(("Gateway", "secure", gateway), ("VirtualService", "secure", spec)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        where = shop.pods["ingress"].ip
        await shop.listening(where, 8443)

        async def served() -> bool:
            try:
                named = {"server_hostname": "books.test", "headers": {"host": "books.test"}}
                reply = await shop.http(where, 8443, tls=context, **named)
            except (OSError, asyncio.IncompleteReadError):
                return False
            return reply.headers.get("x-app") == "reviews-v1"

        await in_force(shop, served, "the gateway serves TLS")
    shop.objects.drop("secrets", "books-cert", "istio-system")
