# SPDX-License-Identifier: Apache-2.0
"""Gateways seen in traffic through real Envoys: ports, TLS through changes, the way out."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from labkit.ground.routing import VirtualService
from meshbox.addresses import AddressPlan
from meshbox.mesh import gateways
from meshbox.mesh.certificates import Authority, Identity
from meshbox.mesh.http_routes import Site, http_routes

from .bookshop import gateway_server
from .border import SYSTEM, Border, der, gateway, pair, to_books
from .world import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["1.2.2", "1.30.3"])
async def border(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Border]:
    border = Border(tmp_path_factory.mktemp("mesh"), plan, request.param)
    try:
        await border.open()
        yield border
    finally:
        await border.stop()


async def test_a_gateway_names_the_port_of_its_service(border: Border) -> None:
    by_port = {"match": [{"port": 80, "uri": {"prefix": "/by-port"}}], "redirect": {"uri": "/seen"}}
    routed = to_books("plain")
    routed["http"].insert(0, by_port)
    async with border.rules(("Gateway", "plain", gateway(gateway_server(80))), ("VirtualService", "plain", routed)):
        where = border.pods["ingress"].ip, border.port(80)
        reply = await border.http(*where)
        assert (reply.status, reply.headers["x-app"]) == (200, "books")
        assert (await border.http(*where, "/by-port")).headers["location"].endswith("/seen")
    assert border.objects.warnings("plain") == []


async def test_a_gateway_says_for_whom_it_asks(border: Border) -> None:
    async with border.rules(("Gateway", "p", gateway(gateway_server(80))), ("VirtualService", "p", to_books("p"))):
        where = border.pods["ingress"].ip, border.port(80)
        asked = (await border.http(*where)).json["headers"]
        # Envoy itself would name an address of the machine's: all that ask here have one of loopback.
        assert asked["x-forwarded-for"] == asked["x-envoy-external-address"] == "127.0.0.1"
        passed_on = (await border.http(*where, headers={"x-forwarded-for": "9.8.7.6"})).json["headers"]
        assert passed_on["x-forwarded-for"] == "9.8.7.6,127.0.0.1"


async def test_a_low_port_that_no_service_names_is_left_out_where_pods_are_unprivileged(border: Border) -> None:
    servers = [gateway_server(number) for number in (80, 81, 8090)]
    ingress = border.pods["ingress"].ip
    async with border.rules(
        ("Gateway", "low", gateway(*servers)),
        ("VirtualService", "low", to_books("low")),
    ):
        answered = []
        for port in (border.port(80), border.settings.plan.port(81), 8090):
            try:
                answered.append((await border.http(ingress, port)).headers["x-app"])
            except ConnectionRefusedError:
                answered.append("refused")
        if not border.settings.legacy:
            await border.until(lambda: border.objects.warnings("low"), "the Gateway is told about")
        told = border.objects.warnings("low")
    if border.settings.legacy:
        # Pods of Istio 1.2 run as root.
        assert (answered, told) == (["books", "books", "books"], [])
        return
    assert answered == ["books", "refused", "books"]
    assert told == [
        "servers[1] (port 81) is not served: no Service of its pods (istio-system/istio-ingressgateway) has port 81, "
        "and the gateway's pods run without privilege and may not listen on ports below 1024; "
        "name one of the Service's ports (80, 443), or a port above 1023"
    ]


async def test_a_redirect_leads_to_the_port_of_the_service(border: Border) -> None:
    if border.settings.legacy:
        pytest.skip("Istio 1.2 knows no derived port")
    redirects: dict[str, Obj] = {
        "/plain": {"derivePort": "FROM_REQUEST_PORT"},
        "/secure": {"derivePort": "FROM_REQUEST_PORT", "scheme": "https"},
    }
    rules = [{"match": [{"uri": {"exact": path}}], "redirect": one} for path, one in redirects.items()]
    spec = {"hosts": ["*"], "gateways": ["away"], "http": rules}
    async with border.rules(
        ("Gateway", "away", gateway(gateway_server(80))),
        ("VirtualService", "away", spec),
    ):
        where = border.pods["ingress"].ip, border.port(80)
        headers = {"host": "books.test"}
        found = [(await border.http(*where, path, headers=headers)).headers["location"] for path in redirects]
    assert found == ["http://books.test/plain", "https://books.test:80/secure"]


async def test_a_port_of_the_service_and_one_of_the_pods_are_one_listener(border: Border) -> None:
    if border.settings.legacy:
        pytest.skip("Istio 1.2 takes every number as it is written")
    whole = to_books("own")
    part = to_books("pods", match=[{"uri": {"prefix": "/x"}}], headers={"request": {"set": {"x-part": "yes"}}})
    async with border.rules(
        ("Gateway", "own", gateway(gateway_server(80))),
        ("Gateway", "pods", gateway(gateway_server(8080))),
        ("VirtualService", "own", whole),
        ("VirtualService", "pods", part),
    ):
        where = border.pods["ingress"].ip, border.port(80)
        assert (await border.http(*where, "/x")).json["headers"]["x-part"] == "yes"
        assert "x-part" not in (await border.http(*where, "/y")).json["headers"]


@contextlib.asynccontextmanager
async def secured(border: Border, **tls: Any) -> AsyncIterator[Obj]:
    """An HTTPS server with the credential `books-cert`."""
    server = gateway_server(443, "books.test", "HTTPS", tls={"credentialName": "books-cert", "mode": "SIMPLE", **tls})
    made = gateway(server)
    try:
        async with border.rules(
            ("Gateway", "secure", made), ("VirtualService", "secure", to_books("secure", host="books.test"))
        ):
            yield made
        # A listener that is drained serves on with its certificate, and so would the next one of that credential.
        await border.until(lambda: not holds(border), "the gateway has let go of the secret")
    finally:
        for secret in border.objects.list("secrets", SYSTEM):
            border.objects.drop("secrets", secret["metadata"]["name"], SYSTEM)
        border.objects.forget_events()


def holds(border: Border) -> bool:
    """Whether the gateway listens for the credential."""
    return "kubernetes://books-cert" in border.mesh._proxies[SYSTEM, "ingress"].told["secrets"].asked


def of_secrets(border: Border) -> list[str]:
    """What is told of the Gateway, but for what Istio 1.2 needs to serve credentials at all."""
    return [one for one in border.objects.warnings("secure") if "Istio 1.2's own gateways" not in one]


async def test_a_secure_gateway_may_go_and_come_and_so_may_its_secret(border: Border) -> None:
    own = border.authority.issue("https://books.test")
    async with secured(border) as made:
        assert await border.secure() == 0
        (said,) = of_secrets(border)
        assert "there is no Secret istio-system/books-cert" in said
        border.secret("books-cert", **pair(own))
        await border.becomes(border.secure, 200, "TLS is served when the Secret comes after the Gateway")
        for _ in range(2):
            border.remove("gateways.networking.istio.io", "secure")
            await border.until(lambda: not holds(border), "the gateway has let go of the secret")
            border.istio("Gateway", "secure", made)
            await border.becomes(border.secure, 200, "TLS is served again")
        border.objects.drop("secrets", "books-cert", SYSTEM)
        await border.follow()
        other = border.authority.issue("https://books.test")
        border.secret("books-cert", **pair(other))
        await border.becomes(border.certificate, der(other), "the Secret that was made again is used")
        assert border.objects.warnings("ingress") == []


async def test_a_certificate_is_rotated_without_a_failed_request(border: Border) -> None:
    border.secret("books-cert", **pair(border.authority.issue("https://books.test")))
    async with secured(border):
        await border.becomes(border.secure, 200, "TLS is served")
        statuses: list[int] = []
        stop = asyncio.Event()

        async def calling() -> None:
            while not stop.is_set():
                statuses.append(await border.secure())

        caller = asyncio.create_task(calling())
        for _ in range(5):
            renewed = border.authority.issue("https://books.test")
            border.secret("books-cert", **pair(renewed))
            await border.becomes(border.certificate, der(renewed), "the new certificate is shown")
        stop.set()
        await caller
        assert set(statuses) == {200}


async def test_a_secret_that_cannot_be_used_changes_nothing_and_is_told(border: Border) -> None:
    good = border.authority.issue("https://books.test")
    border.secret("books-cert", **pair(good))
    async with secured(border):
        await border.becomes(border.secure, 200, "TLS is served")
        stranger = border.authority.issue("https://other.test")
        border.secret("books-cert", tls_crt=good.chain, tls_key=stranger.key)
        await border.until(lambda: of_secrets(border), "the Gateway says what is wrong")
        await border.follow()
        (said,) = of_secrets(border)
        assert said.startswith(
            "servers[0].tls.credentialName: Secret istio-system/books-cert has a key at tls.key that"
        )
        assert await border.certificate() == der(good)
        assert border.objects.warnings("ingress") == []


@pytest.mark.parametrize("separate", [False, True], ids=["in-the-secret", "in-one-of-its-own"])
async def test_clients_are_asked_for_certificates_once_it_is_known_whose(border: Border, separate: bool) -> None:
    own = border.authority.issue("https://books.test")
    # What a proxy has once been given it keeps: each a Secret of its own.
    name = "books-alone" if separate else "books-whole"
    border.secret(name, **pair(own))
    async with secured(border, mode="MUTUAL", credentialName=name):
        caller = border.authority.issue("https://caller.test")
        assert await border.secure(caller) == 0
        (said,) = of_secrets(border)
        assert f"Secret istio-system/{name} has no ca.crt" in said
        if separate:
            border.secret(f"{name}-cacert", cacert=border.authority.root)
        else:
            border.secret(name, **pair(own), ca_crt=border.authority.root)

        async def served() -> int:
            return await border.secure(caller)

        await border.becomes(served, 200, "a client with a certificate is let in")
        assert await border.secure() == 0
        assert border.objects.warnings("ingress") == []


async def test_clients_may_show_certificates_but_no_strangers(border: Border, tmp_path: Path) -> None:
    if border.settings.legacy:
        pytest.skip("Istio 1.2 has no OPTIONAL_MUTUAL")
    stranger = Authority(tmp_path)
    stranger.load()
    border.secret("books-asked", **pair(border.authority.issue("https://books.test")), ca_crt=border.authority.root)
    async with secured(border, mode="OPTIONAL_MUTUAL", credentialName="books-asked"):
        await border.becomes(border.secure, 200, "a client without a certificate is let in")
        assert await border.secure(border.authority.issue("https://caller.test")) == 200
        assert await border.secure(stranger.issue("https://caller.test")) == 0


def outside(border: Border, tls_port: int) -> Obj:
    address = border.pods["outside"].ip
    ports = [
        {"number": 80, "name": "http-port", "protocol": "HTTP"},
        {"number": 443, "name": "https", "protocol": "TLS" if not border.settings.legacy else "HTTPS"},
    ]
    endpoint = {"address": address, "ports": {"http-port": border.settings.plan.port(7070), "https": tls_port}}
    return {
        "hosts": ["out.test"],
        "location": "MESH_EXTERNAL",
        "ports": ports,
        "resolution": "STATIC",
        "endpoints": [endpoint],
    }


async def test_requests_leave_through_the_egress_gateway(border: Border) -> None:
    through = {"host": f"istio-egressgateway.{SYSTEM}.svc.cluster.local", "subset": "out", "port": {"number": 80}}
    marked = {"headers": {"request": {"set": {"x-way": "egress"}}}}
    http = [
        {"match": [{"gateways": ["mesh"], "port": 80}], "route": [{"destination": through, "weight": 100}]},
        {
            "match": [{"gateways": ["way-out"], "port": 80}],
            "route": [{"destination": {"host": "out.test", "port": {"number": 80}}, "weight": 100}],
            **marked,
        },
    ]
    rule = {"host": through["host"], "subsets": [{"name": "out"}]}
    async with border.rules(
        ("ServiceEntry", "out", outside(border, 7443)),
        ("Gateway", "way-out", gateway(gateway_server(80, "out.test"), selector="egressgateway")),
        ("DestinationRule", "way-out", rule),
        ("VirtualService", "out", {"hosts": ["out.test"], "gateways": ["way-out", "mesh"], "http": http}),
    ):

        async def way() -> str:
            reply = await border.call("client", "out.test", port=80, headers={"host": "out.test"})
            return str(reply.json["headers"].get("x-way", "")) if reply.status == 200 else ""

        await border.becomes(way, "egress", "the request goes through the egress gateway")
        assert border.apps["outside"].seen[-1][2]["x-way"] == "egress"


async def test_tls_leaves_through_the_egress_gateway_as_it_is(border: Border) -> None:
    identity = border.authority.issue("https://out.test")
    file = border.settings.home / "outside.pem"
    file.write_text(identity.key + identity.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = await asyncio.start_server(border.apps["outside"].serve, border.pods["outside"].ip, 0, ssl=context)
    through = {"host": f"istio-egressgateway.{SYSTEM}.svc.cluster.local", "port": {"number": 443}}
    match: Obj = {"port": 443, "sniHosts": ["out.test"]}
    tls = [
        {"match": [{**match, "gateways": ["mesh"]}], "route": [{"destination": through}]},
        {
            "match": [{**match, "gateways": ["way-out"]}],
            "route": [{"destination": {"host": "out.test", "port": {"number": 443}}}],
        },
    ]
    passing = gateway_server(443, "out.test", "TLS", tls={"mode": "PASSTHROUGH"})
    async with (
        server,
        border.rules(
            ("ServiceEntry", "out", outside(border, server.sockets[0].getsockname()[1])),
            ("Gateway", "way-out", gateway(passing, selector="egressgateway")),
            ("VirtualService", "out", {"hosts": ["out.test"], "gateways": ["way-out", "mesh"], "tls": tls}),
        ),
    ):
        log = border.pods["egress"].log
        assert log is not None
        before = log.read_text().count("out.test")

        async def answered() -> int:
            reply: Reply | None = None
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await border.captured("client", "10.9.9.9", 443)
                await writer.start_tls(border.client_context(), server_hostname="out.test")
                reply = await border._ask(reader, writer, "/", "GET", {"host": "out.test"})
            return reply.status if reply else 0

        await border.becomes(answered, 200, "TLS passes through the egress gateway")
        await border.until(lambda: log.read_text().count("out.test") > before, "the egress gateway has passed it on")


async def test_a_sidecars_own_tls_passes_by_its_server_name(border: Border) -> None:
    name = "outbound_.9080_._.books.bookinfo.svc.cluster.local"
    caller = border.mesh._authority.identity("spiffe://cluster.local/ns/other/sa/far")
    context = border.client_context(Identity(caller.chain, caller.key, caller.renew))
    context.set_alpn_protocols(["istio"])
    passing = gateway_server(15443, "*.bookinfo.svc.cluster.local", "TLS", tls={"mode": "AUTO_PASSTHROUGH"})
    mutual = {"host": "books", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    async with border.rules(("Gateway", "passing", gateway(passing)), ("DestinationRule", "books", mutual)):

        async def caller_of_books() -> str:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reply = await border.http(border.pods["ingress"].ip, 15443, tls=context, server_hostname=name)
                return str(reply.json["headers"].get("x-forwarded-client-cert", ""))
            return ""

        await border.until(caller_of_books, "it comes to the Service that its server name says")
        assert "URI=spiffe://cluster.local/ns/other/sa/far" in await caller_of_books()
        context.set_alpn_protocols(["http/1.1"])
        assert await caller_of_books() == ""


async def test_a_refusal_names_the_object_that_was_refused_and_no_other(
    border: Border, monkeypatch: pytest.MonkeyPatch
) -> None:
    def routes(site: Site, one: VirtualService) -> list[Obj]:
        found = http_routes(site, one)
        return [{**route, "match": {"safe_regex": {"regex": "("}}} for route in found] if one.name == "wrong" else found

    # Whatever is known to be refused never gets as far as this.
    monkeypatch.setattr(gateways, "http_routes", routes)
    shown = gateway(gateway_server(80))
    routed = to_books("shown")
    async with border.rules(("Gateway", "shown", shown), ("VirtualService", "fine", routed)):
        border.istio("DestinationRule", "beside", {"host": "books", "subsets": [{"name": "all"}]})
        border.istio("VirtualService", "wrong", to_books("shown", host="wrong.test"))
        await border.until(lambda: border.objects.warnings("ingress"), "the gateway's pod says it")
        (said,) = border.objects.warnings("ingress")
        table = f"http.{80 if border.settings.legacy else 8080}"
        assert said.startswith(
            f"Envoy refused routes {table}, made of virtualservices bookinfo/wrong, and goes on with"
        )
        (said,) = border.objects.warnings("wrong")
        assert said.startswith(
            f"the Envoy of pod istio-system/ingress refused routes {table}, which this object is part of"
        )
        assert border.objects.warnings("fine") == border.objects.warnings("beside") == []
        assert (await border.http(border.pods["ingress"].ip, border.port(80))).status == 200
        border.remove("destinationrules.networking.istio.io", "beside")
    border.objects.forget_events()
