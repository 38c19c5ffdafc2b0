# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' Ingresses seen in traffic through real Envoys, in both releases."""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from meshbox.mesh.certificates import Authority
from meshbox.mesh.kinds import GATEWAYS, INGRESSES

from .bookshop import Bookshop
from .conftest import RELEASES
from .ways_in import ADDRESS, Given, answered, applied, with_ways_in

Obj = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASSES = "ingressclasses.networking.k8s.io"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    async with with_ways_in(tmp_path_factory.mktemp("mesh"), plan, request.param) as shop:
        yield shop


def ingress(*paths: Obj, host: str = "shop.test", **spec: Any) -> Given:
    meta = {"name": "shop", "namespace": "bookinfo", "annotations": {"kubernetes.io/ingress.class": "istio"}}
    rules = [{"host": host, "http": {"paths": list(paths)}}]
    api = "networking.k8s.io/v1"
    return INGRESSES, {"apiVersion": api, "kind": "Ingress", "metadata": meta, "spec": {"rules": rules, **spec}}


def path(text: str, kind: str, name: str = "reviews-v1", port: Obj | None = None) -> Obj:
    return {"path": text, "pathType": kind, "backend": {"service": {"name": name, "port": port or {"number": 9080}}}}


def balancer(shop: Bookshop) -> Any:
    return (shop.objects.get(INGRESSES, "shop", "bookinfo").get("status") or {}).get("loadBalancer")


@pytest.mark.parametrize("shop", ["1.30.3"], indirect=True)
async def test_an_ingress_is_served_by_the_ingress_gateway(shop: Bookshop) -> None:
    paths = (
        path("/books", "Prefix"),
        path("/books/exact", "Exact", "reviews-v3", {"name": "http"}),
        path("/shelf/*", "ImplementationSpecific"),
        path("/only", "ImplementationSpecific"),
    )
    port = shop.settings.plan.port(80)
    async with applied(shop, ingress(*paths)):
        for text, wanted in (
            ("/books", "reviews-v1"),
            ("/books/any", "reviews-v1"),
            ("/bookshelf", "404"),
            ("/books/exact", "reviews-v3"),
            ("/shelf/any", "reviews-v1"),
            ("/only", "reviews-v1"),
            ("/only/one", "404"),
        ):
            assert answered(await shop.enter(text, port=port)) == wanted, text
        assert (await shop.enter("/books", port=port, host="other.test")).status == 404
        await shop.until(lambda: balancer(shop) == {"ingress": [{"ip": ADDRESS}]}, "the gateway's address")


@pytest.mark.parametrize("shop", ["1.30.3"], indirect=True)
async def test_an_ingress_may_be_met_with_tls(shop: Bookshop, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.load()
    identity = authority.issue("spiffe://shop.test/server")
    parts = {"tls.crt": identity.chain, "tls.key": identity.key}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in parts.items()}
    secret = {"metadata": {"name": "shop", "namespace": "istio-system"}, "type": "kubernetes.io/tls", "data": data}
    tls = ssl.create_default_context(cadata=authority.root)
    tls.check_hostname = False
    given = ingress(path("/books", "Prefix"), tls=[{"hosts": ["shop.test"], "secretName": "shop"}])
    port = shop.settings.plan.port(443)
    async with applied(shop, ("secrets", secret), given):

        async def served() -> bool:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                reply = await shop.enter("/books", port=port, tls=tls, server_hostname="shop.test")
                return answered(reply) == "reviews-v1"
            return False

        # Its certificate is fetched after the listener that names it.
        await shop.until(served, "an answer over TLS")
        assert answered(await shop.enter("/books", port=shop.settings.plan.port(80))) == "reviews-v1"


@pytest.mark.parametrize("shop", ["1.30.3"], indirect=True)
async def test_an_ingress_says_its_class_by_name(shop: Bookshop) -> None:
    def of_class(name: str, controller: str) -> Given:
        return CLASSES, {"metadata": {"name": name}, "spec": {"controller": controller}}

    def asking(name: str) -> Given:
        resource, obj = ingress(path("/books", "Prefix"), ingressClassName=name)
        return resource, {**obj, "metadata": {"name": "shop", "namespace": "bookinfo"}}

    port = shop.settings.plan.port(80)
    classes = of_class("ours", "istio.io/ingress-controller"), of_class("theirs", "somebody.else/controller")
    for resource, obj in classes:
        shop.objects.put(resource, obj)
    for name, wanted in (("ours", "reviews-v1"), ("theirs", ""), ("ours", "reviews-v1")):
        async with applied(shop, asking(name)):
            if wanted:
                assert answered(await shop.enter("/books", port=port)) == wanted, name
                await shop.until(lambda: balancer(shop) == {"ingress": [{"ip": ADDRESS}]}, "the gateway's address")
            else:
                # Without anything for that port, nobody listens there.
                await shop.listening(shop.pods["ingress"].ip, port, taken=False)
                assert not (balancer(shop) or {}).get("ingress")
    for resource, obj in classes:
        shop.objects.drop(resource, obj["metadata"]["name"])


@pytest.mark.parametrize("shop", ["1.2.2"], indirect=True)
async def test_the_old_release_leaves_the_gateway_of_ingresses_to_its_user(shop: Bookshop) -> None:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    meta = {"name": "istio-autogenerated-k8s-ingress", "namespace": "istio-system"}
    own = GATEWAYS, {"metadata": meta, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]}}
    port = shop.settings.plan.port(80)
    async with applied(shop, ingress(path("/books/*", "ImplementationSpecific"))):
        await shop.until(lambda: balancer(shop) == {"ingress": [{"ip": ADDRESS}]}, "the gateway's address")

        def said() -> list[str]:
            return [words for words in shop.objects.warnings("shop") if "yours to make" in words]

        (told,) = await shop.until(said, "whose the Gateway is")
        assert "Gateway istio-system/istio-autogenerated-k8s-ingress" in told
        async with applied(shop, own):
            assert answered(await shop.enter("/books/any", port=port)) == "reviews-v1"
            assert (await shop.enter("/other", port=port)).status == 404
