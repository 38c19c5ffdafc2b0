# SPDX-License-Identifier: Apache-2.0
"""A Gateway's own proxy seen in traffic: TLS, certificates of other namespaces and of clients, TCP, who may attach."""

from __future__ import annotations

import asyncio
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
from meshbox.mesh.gateway_api.binding import SERVICE
from meshbox.mesh.kinds import (
    GATEWAYS,
    HTTP_ROUTES,
    KUBERNETES_GATEWAYS,
    LISTENER_SETS,
    REFERENCE_GRANTS,
    TCP_ROUTES,
    TLS_ROUTES,
)

from .bookshop import VERSIONS
from .test_gateway_api_listeners import grant
from .world import App, Reply, World

Obj = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIBRARYS = "kubernetes-gateway://library/shop"
PORTS = (80, 443, 444, 8443, 31400)
"""All that these tests' Gateways listen on."""

OWN = {"gateway.networking.k8s.io/gateway-name": "gw"}


class Doors(World):
    """A world with a Gateway's own proxy, three applications behind it, and certificates.

    Args:
        home: Its folder.
        plan: Its addresses.
    """

    def __init__(self, home: Path, plan: AddressPlan) -> None:
        super().__init__(home, plan, "1.30.3")
        self.public, self.clients = Authority(home / "public"), Authority(home / "clients")

    async def open(self) -> None:
        self.objects.install_gateway_api()
        await self.start()
        for version in VERSIONS:
            name = f"reviews-{version}"
            self.service(name)
            await self.pod(name, {"app": name}, app=App(name))
        await self.pod("gw", OWN, role="router", ports=())
        await self.ready()
        for authority in (self.public, self.clients):
            authority.load()
        for namespace in ("bookinfo", "library"):
            identity = self.public.issue(f"https://{namespace}.test")
            pair = {"tls.crt": identity.chain, "tls.key": identity.key}
            data = {name: base64.b64encode(text.encode()).decode() for name, text in pair.items()}
            meta = {"name": "shop", "namespace": namespace}
            self.objects.put("secrets", {"metadata": meta, "type": "kubernetes.io/tls", "data": data})
        await self._serve_tls()
        meta = {"name": "clients", "namespace": "bookinfo"}
        self.objects.put("configmaps", {"metadata": meta, "data": {"ca.crt": self.clients.root}})

    async def _serve_tls(self) -> None:
        """An application that speaks TLS itself, and has no sidecar."""
        identity, file = self.public.issue("https://secret.test"), self.settings.home / "secret.pem"
        file.write_text(identity.key + identity.chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        self.service("secret", ports=[{"name": "tls", "port": 9080}])
        pod = await self.pod("secret", {"app": "secret"}, role="")
        pod.server = await asyncio.start_server(App("secret").serve, pod.ip, 9080, ssl=context)

    def gateway(self, *listeners: Obj, **spec: Any) -> None:
        """Let the Gateway have these listeners."""
        spec = {"gatewayClassName": "istio", "listeners": list(listeners), **spec}
        self.objects.put(KUBERNETES_GATEWAYS, {"metadata": {"name": "gw", "namespace": "bookinfo"}, "spec": spec})

    def listener_set(self, *listeners: Obj) -> None:
        """Let namespace library add listeners to the Gateway."""
        spec = {"parentRef": {"name": "gw", "namespace": "bookinfo"}, "listeners": list(listeners)}
        self.objects.put(LISTENER_SETS, {"metadata": {"name": "more", "namespace": "library"}, "spec": spec})

    def route(self, name: str, section: str, kind: str = HTTP_ROUTES, namespace: str = "bookinfo", **spec: Any) -> None:
        """Let a listener lead to an application."""
        backend = {"name": name, "port": 9080, **({"namespace": "bookinfo"} if namespace != "bookinfo" else {})}
        parent = {"name": "gw", "namespace": "bookinfo", "sectionName": section}
        meta = {"name": f"{section}-{name}", "namespace": namespace}
        made = {"parentRefs": [parent], "rules": [{"backendRefs": [backend]}], **spec}
        self.objects.put(kind, {"metadata": meta, "spec": made})

    def clear(self) -> None:
        """Take all of it away again; the proxy follows later."""
        routes = HTTP_ROUTES, TLS_ROUTES, TCP_ROUTES
        for resource in (*routes, REFERENCE_GRANTS, LISTENER_SETS, KUBERNETES_GATEWAYS, GATEWAYS):
            for obj in self.objects.list(resource):
                self.objects.drop(resource, obj["metadata"]["name"], obj["metadata"]["namespace"])

    async def ask(self, port: int, host: str = "a.test", *, tls: Any = None) -> Reply | None:
        """One request to the Gateway's proxy; None where there is no answer."""
        named = {"tls": tls, "server_hostname": host} if tls is not None else {}
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            where = self.pods["gw"].ip, self.settings.plan.port(port)
            return await self.http(*where, "/", headers={"host": host}, **named)
        return None

    async def served(self, port: int, app: str, host: str = "a.test", *, tls: Any = None) -> None:
        """Wait until a host of a port leads to an application."""

        async def seen() -> bool:
            reply = await self.ask(port, host, tls=tls)
            return reply is not None and (reply.status, reply.headers.get("x-app")) == (200, app)

        await self.until(seen, f"{host}:{port} leads to {app}")

    async def closed(self, port: int, host: str = "a.test", *, tls: Any = None) -> None:
        """Wait until nobody answers at a port."""

        async def seen() -> bool:
            return await self.ask(port, host, tls=tls) is None

        await self.until(seen, f"{host}:{port} is closed")

    def listener(self, number: int = 0) -> dict[str, tuple[str, str]]:
        """What the status says of a listener."""
        found = self.objects.get(KUBERNETES_GATEWAYS, "gw", "bookinfo")["status"].get("listeners") or []
        conditions = found[number]["conditions"] if len(found) > number else []
        return {one["type"]: (one["status"], one["reason"]) for one in conditions}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Doors]:
    made = Doors(tmp_path_factory.mktemp("mesh"), plan)
    try:
        await made.open()
        yield made
    finally:
        await made.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def doors(world: Doors) -> AsyncIterator[Doors]:
    yield world
    world.clear()
    # What the proxy still serves of this test the next one would take for its own.
    for port in PORTS:
        await world.listening(world.pods["gw"].ip, world.settings.plan.port(port), taken=False)


def plain(name: str = "web", port: int = 80, **fields: Any) -> Obj:
    return {"name": name, "port": port, "protocol": "HTTP", **fields}


def secure(name: str = "secure", port: int = 443, **tls: Any) -> Obj:
    return {"name": name, "port": port, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "shop"}], **tls}}


def trusting(doors: Doors, *, client: Authority | None = None, name: str = "https://someone.test") -> ssl.SSLContext:
    """What a caller believes: the public authority; and who it says that it is."""
    context = ssl.create_default_context(cadata=doors.public.root)
    context.check_hostname = False
    if client is not None:
        identity, file = client.issue(name), doors.settings.home / "caller.pem"
        file.write_text(identity.key + identity.chain)
        context.load_cert_chain(file)
    return context


def uri(answer: ssl.SSLObject | None) -> Any:
    assert answer is not None
    return (answer.getpeercert() or {}).get("subjectAltName")


async def shown(doors: Doors, port: int, host: str = "a.test") -> Any:
    """The names of the certificate that a port shows."""
    where = doors.pods["gw"].ip, doors.settings.plan.port(port)
    _, writer = await asyncio.open_connection(*where, ssl=trusting(doors), server_hostname=host)
    found = uri(writer.get_extra_info("ssl_object"))
    writer.close()
    return found


async def test_listeners_of_one_port_are_told_apart_by_hostname(doors: Doors) -> None:
    doors.gateway(plain(hostname="a.test"), plain("other", hostname="*.b.test"))
    doors.route("reviews-v1", "web")
    doors.route("reviews-v2", "other")
    await doors.served(80, "reviews-v1")
    await doors.served(80, "reviews-v2", "x.b.test")
    reply = await doors.ask(80, "c.test")
    assert reply is not None
    assert reply.status == 404


async def test_tls_ends_here_and_goes_on_there(doors: Doors) -> None:
    doors.gateway(secure())
    doors.route("reviews-v1", "secure")
    await doors.served(443, "reviews-v1", tls=trusting(doors))
    assert await shown(doors, 443) == (("URI", "https://bookinfo.test"),)
    await doors.until(lambda: doors.listener().get("Programmed") == ("True", "Programmed"), "its status")
    # A Gateway that comes again is served at once.
    doors.clear()
    await doors.closed(443, tls=trusting(doors))
    doors.gateway(secure())
    doors.route("reviews-v1", "secure")
    await doors.served(443, "reviews-v1", tls=trusting(doors))


async def test_another_namespaces_certificate_is_shown_while_it_is_granted(doors: Doors) -> None:
    doors.gateway(secure(certificateRefs=[{"name": "shop", "namespace": "library"}]))
    doors.route("reviews-v1", "secure")
    refused = ("False", "RefNotPermitted")
    await doors.until(lambda: doors.listener().get("ResolvedRefs") == refused, "a refusal")
    await doors.closed(443, tls=trusting(doors))
    doors.objects.put(REFERENCE_GRANTS, {**grant("library"), "kind": "ReferenceGrant"})
    await doors.served(443, "reviews-v1", tls=trusting(doors))
    assert await shown(doors, 443) == (("URI", "https://library.test"),)
    given = {name: doors.mesh._secrets.get(("bookinfo", name), LIBRARYS) is not None for name in ("gw", "reviews-v1")}
    assert given == {"gw": True, "reviews-v1": False}
    doors.objects.drop(REFERENCE_GRANTS, "grant", "library")
    await doors.closed(443, tls=trusting(doors))
    await doors.until(lambda: doors.listener().get("ResolvedRefs") == refused, "a refusal again")
    assert doors.mesh._secrets.get(("bookinfo", "gw"), LIBRARYS) is None
    # Nor to whoever writes it into a Gateway of Istio's, in whatever guise.
    server = {
        "port": {"number": 444, "name": "https", "protocol": "HTTPS"},
        "hosts": ["*"],
        "tls": {"mode": "SIMPLE", "credentialName": LIBRARYS},
    }
    guise = {"name": "guise", "namespace": "bookinfo", "annotations": {SERVICE: "bookinfo/gw-istio"}}
    doors.objects.put(GATEWAYS, {"metadata": guise, "spec": {"selector": OWN, "servers": [server]}})
    await doors.until(lambda: doors.mesh._snapshot.all(GATEWAYS), "it to be seen")
    assert doors.mesh._secrets.get(("bookinfo", "gw"), LIBRARYS) is None
    doors.objects.drop(GATEWAYS, "guise", "bookinfo")


async def test_clients_must_show_who_they_are(doors: Doors) -> None:
    validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "clients"}]}
    doors.gateway(secure(), tls={"frontend": {"default": {"validation": validation}}})
    doors.route("reviews-v1", "secure")
    await doors.served(443, "reviews-v1", tls=trusting(doors, client=doors.clients))
    assert await doors.ask(443, tls=trusting(doors)) is None
    assert await doors.ask(443, tls=trusting(doors, client=doors.public)) is None


async def test_tls_is_passed_on_unread(doors: Doors) -> None:
    passed = {"name": "pass", "port": 8443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
    doors.gateway({**passed, "hostname": "a.test"})
    doors.route("secret", "pass", TLS_ROUTES, hostnames=["a.test"])
    await doors.served(8443, "secret", tls=trusting(doors))
    assert await shown(doors, 8443) == (("URI", "https://secret.test"),)
    await doors.closed(8443, "b.test", tls=trusting(doors))


async def test_bytes_are_led_on(doors: Doors) -> None:
    doors.gateway({"name": "bytes", "port": 31400, "protocol": "TCP"})
    doors.route("reviews-v2", "bytes", TCP_ROUTES)
    await doors.served(31400, "reviews-v2")
    doors.gateway({"name": "bytes", "port": 31400, "protocol": "TLS", "tls": secure()["tls"] | {"mode": "Terminate"}})
    await doors.served(31400, "reviews-v2", tls=trusting(doors))
    await doors.closed(31400)


async def test_only_those_who_may_attach_are_served(doors: Doors) -> None:
    doors.gateway(plain())
    doors.route("reviews-v1", "web", hostnames=["a.test"])
    doors.route("reviews-v1", "web", namespace="library", hostnames=["b.test"])
    doors.objects.put(REFERENCE_GRANTS, grant("bookinfo", "Service", of="library", who="HTTPRoute"))
    await doors.served(80, "reviews-v1")
    reply = await doors.ask(80, "b.test")
    assert reply is not None
    assert reply.status == 404
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "library"}}
    doors.gateway(plain(allowedRoutes={"namespaces": {"from": "Selector", "selector": selector}}))
    await doors.served(80, "reviews-v1", "b.test")
    reply = await doors.ask(80)
    assert reply is not None
    assert reply.status == 404


async def test_listeners_of_another_namespace_are_served_while_they_are_taken(doors: Doors) -> None:
    doors.gateway(plain(), allowedListeners={"namespaces": {"from": "All"}})
    doors.listener_set({**secure("theirs"), "hostname": "b.test"}, plain("beside", hostname="b.test"))
    doors.route("reviews-v1", "web", hostnames=["a.test"])
    doors.objects.put(REFERENCE_GRANTS, grant("bookinfo", "Service", of="library", who="HTTPRoute"))
    ref = {"kind": "ListenerSet", "name": "more"}
    doors.route("reviews-v2", "theirs", namespace="library", parentRefs=[{**ref, "sectionName": "theirs"}])
    doors.route("reviews-v3", "beside", namespace="library", parentRefs=[{**ref, "sectionName": "beside"}])
    await doors.served(80, "reviews-v1")
    await doors.served(443, "reviews-v2", "b.test", tls=trusting(doors))
    assert await shown(doors, 443, "b.test") == (("URI", "https://library.test"),), "its own namespace's certificate"
    await doors.served(80, "reviews-v3", "b.test")
    doors.gateway(plain(), allowedListeners={"namespaces": {"from": "Same"}})
    await doors.closed(443, "b.test", tls=trusting(doors))

    async def gone() -> bool:
        reply = await doors.ask(80, "b.test")
        return reply is not None and reply.status == 404

    await doors.until(gone, "the set's other listener to be gone as well")
    await doors.served(80, "reviews-v1")


async def test_a_proxy_of_the_same_name_elsewhere_is_not_this_gateways(doors: Doors) -> None:
    await doors.pod("twin", OWN, namespace="other", role="router", ports=())
    await doors.ready("twin")
    doors.gateway(plain())
    doors.route("reviews-v1", "web")
    await doors.served(80, "reviews-v1")
    with pytest.raises(ConnectionRefusedError):
        await doors.http(doors.pods["twin"].ip, doors.settings.plan.port(80))
