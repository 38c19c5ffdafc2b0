# SPDX-License-Identifier: Apache-2.0
"""Routes of the Gateway API seen in traffic through real Envoys."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from meshbox.addresses import AddressPlan
from meshbox.mesh.certificates import Authority
from meshbox.mesh.kinds import (
    BACKEND_TLS_POLICIES,
    GRPC_ROUTES,
    HTTP_ROUTES,
    KUBERNETES_GATEWAYS,
    REFERENCE_GRANTS,
    TCP_ROUTES,
    TLS_ROUTES,
)
from tests.chance import likely

from .bookshop import Bookshop
from .cluster import MANIFESTS
from .test_gateway_api_rules import grant, to
from .ways_in import Given, answered, applied, with_ways_in
from .world import App

Obj = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLES = MANIFESTS / "1.30.3" / "samples" / "bookinfo" / "gateway-api"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with with_ways_in(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        shop.objects.install_gateway_api()
        yield shop


def gateway(*listeners: Obj) -> Given:
    """A Gateway that is played by the mesh's own ingress gateway."""
    spec = {
        "gatewayClassName": "istio",
        "addresses": [{"type": "Hostname", "value": "istio-ingressgateway"}],
        "listeners": [
            {"port": 8080, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}, **one}
            for one in listeners
        ],
    }
    return KUBERNETES_GATEWAYS, {"metadata": {"name": "gw", "namespace": "istio-system"}, "spec": spec}


def route(*rules: Obj, hosts: tuple[str, ...] = ("shop.test",), **parent: Any) -> Given:
    parents = [{"name": "gw", "namespace": "istio-system", **parent}]
    return HTTP_ROUTES, {
        "metadata": {"name": "shop", "namespace": "bookinfo"},
        "spec": {"parentRefs": parents, "hostnames": list(hosts), "rules": list(rules)},
    }


def sample(name: str, *objects: str) -> list[Given]:
    found = yaml.safe_load_all((SAMPLES / name).read_text())
    return [(HTTP_ROUTES, one) for one in found if one["metadata"]["name"] in objects]


def conditions(shop: Bookshop, name: str = "shop") -> dict[str, tuple[str, str]]:
    found = shop.objects.get(HTTP_ROUTES, name, "bookinfo")
    parents = found.get("status", {}).get("parents")
    if not parents:
        return {}
    (parent,) = parents
    assert parent["controllerName"] == "istio.io/gateway-controller"
    return {one["type"]: (one["status"], one["reason"]) for one in parent["conditions"]}


async def test_the_samples_send_half_or_all_of_the_calls_elsewhere(shop: Bookshop) -> None:
    async with applied(shop, *sample("route-reviews-50-v3.yaml", "reviews")):
        seen = await shop.many(400)
        assert set(seen) == {"reviews-v1", "reviews-v3"}
        assert likely(seen["reviews-v1"], 400, 0.5), seen
        await shop.until(
            lambda: (
                conditions(shop, "reviews")
                == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
            ),
            "the route's status",
        )
    async with applied(shop, *sample("route-all-v1.yaml", "reviews")):
        assert set(await shop.many(40)) == {"reviews-v1"}


async def test_a_gateway_leads_by_path_header_query_and_method(shop: Bookshop) -> None:
    def rule(backend: str, *matches: Obj) -> Obj:
        return {"matches": list(matches), "backendRefs": [to(backend)]}

    v1, v3 = "reviews-v1", "reviews-v3"
    rules = (
        rule(v1, {"path": {"type": "PathPrefix", "value": "/books"}}),
        rule(v3, {"path": {"type": "Exact", "value": "/books/exact"}}),
        rule(
            v3, {"path": {"type": "PathPrefix", "value": "/books"}, "headers": [{"name": "end-user", "value": "jason"}]}
        ),
        rule(v3, {"path": {"type": "PathPrefix", "value": "/books"}, "queryParams": [{"name": "q", "value": "1"}]}),
        rule(v3, {"path": {"type": "PathPrefix", "value": "/books"}, "method": "POST"}),
        rule(v3, {"path": {"type": "RegularExpression", "value": "/[0-9]+"}}),
    )
    async with applied(shop, gateway({"name": "web"}), route(*rules)):
        for path, options, wanted in (
            ("/books", {}, v1),
            ("/books/any", {}, v1),
            ("/bookshelf", {}, "404"),
            ("/books/exact", {}, v3),
            ("/books", {"headers": {"end-user": "jason"}}, v3),
            ("/books?q=1", {}, v3),
            ("/books?q=2", {}, v1),
            ("/books", {"method": "POST"}, v3),
            ("/123", {}, v3),
            ("/12a", {}, "404"),
            ("/books", {"host": "other.test"}, "404"),
        ):
            assert answered(await shop.enter(path, **options)) == wanted, (path, options)


async def test_filters_change_requests_and_answers(shop: Bookshop) -> None:
    def rule(path: str, *filters: Obj, **fields: Any) -> Obj:
        return {
            "matches": [{"path": {"value": path}}],
            "filters": list(filters),
            "backendRefs": [to("reviews-v1")],
            **fields,
        }

    def replaced(kind: str, field: str, value: str) -> Obj:
        return {"path": {"type": kind, field: value}}

    asked = {"set": [{"name": "x-set", "value": "1"}], "add": [{"name": "x-add", "value": "2"}], "remove": ["x-gone"]}
    rules = (
        rule("/headers", {"type": "RequestHeaderModifier", "requestHeaderModifier": asked}),
        rule(
            "/answers",
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-app", "value": "me"}]}},
        ),
        rule(
            "/old",
            {
                "type": "URLRewrite",
                "urlRewrite": {
                    **replaced("ReplacePrefixMatch", "replacePrefixMatch", "/new"),
                    "hostname": "inner.test",
                },
            },
        ),
        rule("/strip", {"type": "URLRewrite", "urlRewrite": replaced("ReplacePrefixMatch", "replacePrefixMatch", "/")}),
        rule("/full", {"type": "URLRewrite", "urlRewrite": replaced("ReplaceFullPath", "replaceFullPath", "/whole")}),
        rule(
            "/away",
            {
                "type": "RequestRedirect",
                "requestRedirect": {
                    **replaced("ReplacePrefixMatch", "replacePrefixMatch", "/there"),
                    "hostname": "far.test",
                    "port": 81,
                    "statusCode": 301,
                },
            },
            backendRefs=[],
        ),
        rule("/copied", {"type": "RequestMirror", "requestMirror": {"backendRef": to("ratings")}}),
        rule("/cors", {"type": "CORS", "cors": {"allowOrigins": ["https://*.shop.test"]}}),
    )
    async with applied(shop, gateway({"name": "web"}), route(*rules)):
        headers = (await shop.enter("/headers", headers={"x-gone": "0", "x-set": "0"})).json["headers"]
        assert (headers["x-set"], headers["x-add"], "x-gone" in headers) == ("1", "2", False)
        assert (await shop.enter("/answers")).headers["x-app"] == "me"
        moved = (await shop.enter("/old/one?q=1")).json
        assert (moved["path"], moved["headers"]["host"]) == ("/new/one?q=1", "inner.test")
        for path, wanted in (
            ("/strip/one", "/one"),
            ("/strip", "/"),
            ("/strip/", "/"),
            ("/full/one?q=1", "/whole?q=1"),
        ):
            assert (await shop.enter(path)).json["path"] == wanted
        away = await shop.enter("/away/one")
        assert (away.status, away.headers["location"]) == (301, "http://far.test:81/there/one")
        before = shop.apps["ratings-v1"].count
        assert answered(await shop.enter("/copied")) == "reviews-v1"
        await shop.until(lambda: shop.apps["ratings-v1"].count == before + 1, "the copy arrives")
        for origin, allowed in (("https://a.shop.test", "https://a.shop.test"), ("https://evil.test", None)):
            reply = await shop.enter("/cors", headers={"origin": origin})
            assert reply.headers.get("access-control-allow-origin") == allowed


async def test_a_redirect_names_a_port_where_its_scheme_does_not(shop: Bookshop) -> None:
    cases: list[tuple[Obj, str]] = [
        ({"scheme": "https"}, "https://shop.test/0"),
        ({"scheme": "https", "port": 443}, "https://shop.test/1"),
        ({"scheme": "https", "port": 8443}, "https://shop.test:8443/2"),
        ({"scheme": "http", "port": 80, "hostname": "far.test"}, "http://far.test/3"),
        ({"hostname": "far.test"}, "http://far.test:8080/4"),
        ({"port": 80, "hostname": "far.test"}, "http://far.test/5"),
    ]
    rules = [
        {
            "matches": [{"path": {"type": "Exact", "value": f"/{number}"}}],
            "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}],
        }
        for number, (redirect, _) in enumerate(cases)
    ]
    async with applied(shop, gateway({"name": "web"}), route(*rules)):
        found = [(await shop.enter(f"/{number}")).headers["location"] for number in range(len(cases))]
    assert found == [wanted for _, wanted in cases]


async def test_what_cannot_be_reached_is_500_until_it_is_permitted(shop: Bookshop) -> None:
    shelf = {"metadata": {"name": "shelf", "namespace": "library"}, "spec": {"ports": [{"name": "http", "port": 9080}]}}
    rules = [
        {"matches": [{"path": {"value": f"/{name}"}}], "backendRefs": [ref]}
        for name, ref in (("gone", to("gone")), ("shelf", to("shelf", namespace="library")), ("none", to(weight=0)))
    ]
    shop.objects.put("services", shelf)
    address = {"ip": shop.pods["ratings-v1"].ip, "targetRef": {"kind": "Pod", "name": "none"}}
    shop.objects.serve("shelf", [address], [{"name": "http", "port": 9080}], "library")
    async with applied(shop, gateway({"name": "web"}), route(*rules)):
        for path in ("/gone", "/shelf", "/none"):
            assert (await shop.enter(path)).status == 500
        await shop.until(
            lambda: conditions(shop).get("ResolvedRefs") == ("False", "RefNotPermitted"), "what is not permitted"
        )
        async with applied(shop, (REFERENCE_GRANTS, grant("library"))):
            assert answered(await shop.enter("/shelf")) == "ratings-v1"
            assert (await shop.enter("/gone")).status == 500
            await shop.until(
                lambda: conditions(shop).get("ResolvedRefs") == ("False", "BackendNotFound"), "what is not there"
            )
        assert (await shop.enter("/shelf")).status == 500
    shop.objects.drop("services", "shelf", "library")


@pytest_asyncio.fixture(loop_scope="module")
async def secure(shop: Bookshop, tmp_path: Path) -> AsyncIterator[str]:
    """A server that speaks HTTP over TLS behind Service `secure`; gives the CA that its certificate is from."""
    authority = Authority(tmp_path)
    authority.load()
    identity = authority.issue("spiffe://secure.test/server")
    (tmp_path / "server.pem").write_text(identity.chain + identity.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    shop.service(
        "secure", [{"name": name, "port": port, "targetPort": 8443} for name, port in (("http", 80), ("tls", 443))]
    )
    pod = await shop.pod("secure", {"app": "secure"}, ports=(8443,), role="")
    server = await asyncio.start_server(App("secure").serve, pod.ip, shop.settings.plan.port(8443), ssl=tls)
    yield authority.root
    server.close()
    del shop.pods["secure"]
    shop.objects.drop("pods", "secure", "bookinfo")
    shop.objects.drop("services", "secure", "bookinfo")


async def test_tls_to_a_backend_is_spoken_as_its_policy_says(shop: Bookshop, secure: str) -> None:
    def policy(**fields: Any) -> Given:
        config_map = {"group": "", "kind": "ConfigMap", "name": "ca"}
        validation = {"hostname": "secure.test", "caCertificateRefs": [config_map], **fields}
        target = {"group": "", "kind": "Service", "name": "secure", "sectionName": "http"}
        spec = {"targetRefs": [target], "validation": validation}
        return BACKEND_TLS_POLICIES, {"metadata": {"name": "secure", "namespace": "bookinfo"}, "spec": spec}

    def said() -> dict[str, tuple[str, str]]:
        found = shop.objects.get(BACKEND_TLS_POLICIES, "secure", "bookinfo").get("status", {}).get("ancestors")
        if not found:
            return {}
        (ancestor,) = found
        assert ancestor["controllerName"] == "istio.io/mesh-controller"
        return {one["type"]: (one["status"], one["reason"]) for one in ancestor["conditions"]}

    names = [{"type": "URI", "uri": "spiffe://secure.test/server"}]
    trusted = {"metadata": {"name": "ca", "namespace": "bookinfo"}, "data": {"ca.crt": secure}}
    async with applied(shop, ("configmaps", trusted)):
        async with applied(shop, policy(subjectAltNames=names)):
            await shop.until(
                lambda: said() == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")},
                "its status",
            )

            async def served() -> bool:
                return answered(await shop.get(host="secure", port=80)) == "secure"

            # The CA is fetched after the cluster that names it.
            await shop.until(served, "an answer over TLS")
        # Without names istiod does not say whose certificate it has to be.
        async with applied(shop, policy()):
            await shop.until(served, "an answer of whoever has the CA's certificate")
        async with applied(shop, policy(subjectAltNames=[{"type": "Hostname", "hostname": "other.test"}])):
            assert (await shop.get(host="secure", port=80)).status == 503
    async with applied(shop, policy(subjectAltNames=names)):
        await shop.until(lambda: said().get("Accepted") == ("False", "NoValidCACertificate"), "that there is no CA")
        assert (await shop.get(host="secure", port=80)).status == 503


async def test_bytes_and_tls_are_passed_on_by_a_gateway(shop: Bookshop, secure: str) -> None:
    def stream(kind: str, resource: str, section: str, *refs: Obj, **spec: Any) -> Given:
        parent = {"name": "gw", "namespace": "istio-system", "sectionName": section}
        spec = {"parentRefs": [parent], "rules": [{"backendRefs": list(refs)}], **spec}
        return resource, {"kind": kind, "metadata": {"name": section, "namespace": "bookinfo"}, "spec": spec}

    listeners = (
        {"name": "tcp", "port": 9000, "protocol": "TCP"},
        {"name": "tls", "port": 9443, "protocol": "TLS", "hostname": "*.test", "tls": {"mode": "Passthrough"}},
    )
    tls = ssl.create_default_context(cadata=secure)
    tls.check_hostname = False
    routes = (
        stream("TCPRoute", TCP_ROUTES, "tcp", to("ratings")),
        stream("TLSRoute", TLS_ROUTES, "tls", to("secure", 443), hostnames=["secure.test"]),
    )
    async with applied(shop, gateway(*listeners), *routes):
        assert answered(await shop.enter(port=9000)) == "ratings-v1"
        reply = await shop.enter(port=9443, host="secure.test", tls=tls, server_hostname="secure.test")
        assert answered(reply) == "secure"
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await shop.enter(port=9443, host="other.test", tls=tls, server_hostname="other.test")


async def test_a_route_is_served_at_the_listener_it_names(shop: Bookshop) -> None:
    listeners = ({"name": "one", "hostname": "one.test"}, {"name": "any", "hostname": "*.test"})
    rule = {"backendRefs": [to("reviews-v1")]}
    async with applied(shop, gateway(*listeners), route(rule, hosts=("one.test", "two.test"), sectionName="any")):
        assert answered(await shop.enter(host="two.test")) == "reviews-v1"
        assert (await shop.enter(host="one.test")).status == 404
    async with applied(shop, gateway(*listeners), route(rule, hosts=("else.where",))):
        await shop.until(
            lambda: conditions(shop).get("Accepted") == ("False", "NoMatchingListenerHostname"), "why it is not bound"
        )
        assert (await shop.enter(host="else.where")).status == 404


async def test_calls_are_led_by_service_and_method(shop: Bookshop) -> None:
    parents = [{"name": "gw", "namespace": "istio-system"}]
    rules = [
        {"matches": [{"method": {"service": "shop.Books", "method": "Get"}}], "backendRefs": [to("reviews-v3")]},
        {"matches": [{"method": {"service": "shop.Books"}}], "backendRefs": [to("reviews-v1")]},
    ]
    spec = {"parentRefs": parents, "rules": rules}
    grpc = GRPC_ROUTES, {"metadata": {"name": "shop", "namespace": "bookinfo"}, "spec": spec}
    async with applied(shop, gateway({"name": "web"}), grpc):
        for path, wanted in (("Books/Get", "reviews-v3"), ("Books/List", "reviews-v1"), ("Bookshelf/Get", "404")):
            assert answered(await shop.enter(f"/shop.{path}", method="POST")) == wanted


async def test_time_and_tries_are_limited(shop: Bookshop) -> None:
    app = shop.apps["reviews-v1"]
    rules = (
        {"matches": [{"path": {"value": "/slow"}}], "timeouts": {"request": "50ms"}, "backendRefs": [to("reviews-v1")]},
        {
            "matches": [{"path": {"value": "/again"}}],
            "retry": {"attempts": 2, "codes": [500]},
            "backendRefs": [to("reviews-v1")],
        },
    )
    async with applied(shop, gateway({"name": "web"}), route(*rules)):
        app.gate = asyncio.Event()
        try:
            assert (await shop.enter("/slow")).status == 504
        finally:
            app.gate.set()
            app.gate = None
        app.status = 500
        try:
            assert (await shop.enter("/again")).status == 500
        finally:
            app.status = 200
        # The call that was given up may still be on its way to the application.
        assert [path for _, path, _ in app.seen].count("/again") == 3
