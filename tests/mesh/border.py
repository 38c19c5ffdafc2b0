# SPDX-License-Identifier: Apache-2.0
"""A world with a border: a client and a server in the mesh, the way in, the way out, and somebody outside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from typing import Any

from meshbox.mesh.certificates import Authority, Identity

from .bookshop import Bookshop
from .world import App

Obj = dict[str, Any]

INGRESS = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
EGRESS = {"app": "istio-egressgateway", "istio": "egressgateway"}
SYSTEM = "istio-system"


class Border(Bookshop):
    """A mesh with a client, one server, both gateways, and somebody outside."""

    async def open(self) -> None:
        await self.start()
        self._sentinels = 0
        self.apps = {name: App(name) for name in ("client", "books", "outside")}
        targets = (80, 443) if self.settings.legacy else (8080, 8443)
        ports = [
            {"name": name, "port": port, "targetPort": target}
            for name, port, target in (("http2", 80, targets[0]), ("https", 443, targets[1]))
        ]
        for labels in (INGRESS, EGRESS):
            self.service(labels["app"], ports, SYSTEM, labels)
        for name in ("client", "books"):
            self.service(name)
            await self.pod(name, {"app": name, "version": "v1"}, app=self.apps[name])
        for name, labels in (("ingress", INGRESS), ("egress", EGRESS)):
            unprivileged = not self.settings.legacy
            await self.pod(name, labels, namespace=SYSTEM, role="router", ports=(), unprivileged=unprivileged)
        await self.pod(
            "outside", {"app": "outside"}, namespace="plain", role="", ports=(7070,), app=self.apps["outside"]
        )
        await self.ready()
        self.authority = Authority(self.settings.home / "public")
        self.authority.load()

    def port(self, number: int) -> int:
        """Where the gateways' pods listen for a port of their Services."""
        return self.settings.plan.port(number if self.settings.legacy else {80: 8080, 443: 8443}.get(number, number))

    def secret(self, name: str, **data: str) -> None:
        encoded = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in data.items()}
        self.objects.put(
            "secrets", {"metadata": {"name": name, "namespace": SYSTEM}, "type": "Opaque", "data": encoded}
        )

    def client_context(self, identity: Identity | None = None) -> ssl.SSLContext:
        """Of a client that trusts anybody, and shows `identity`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if identity is not None:
            file = self.settings.home / "client.pem"
            file.write_text(identity.key + identity.chain)
            context.load_cert_chain(file)
        return context

    async def secure(self, identity: Identity | None = None, host: str = "books.test") -> int:
        """Status of one request over TLS through the ingress gateway; 0 where the connection is cut."""
        try:
            reply = await self.http(
                self.pods["ingress"].ip,
                self.port(443),
                headers={"host": host},
                tls=self.client_context(identity),
                server_hostname=host,
            )
        except (OSError, asyncio.IncompleteReadError):
            return 0
        return reply.status

    async def certificate(self) -> bytes:
        """What the ingress gateway shows; empty where the connection is cut."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(
                self.pods["ingress"].ip, self.port(443), ssl=self.client_context(), server_hostname="books.test"
            )
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return bytes(shown)
        return b""

    async def becomes(self, what: Any, value: object, words: str) -> None:
        async def reached() -> bool:
            return bool(await what() == value)

        await self.until(reached, words)


def gateway(*servers: Obj, selector: str = "ingressgateway") -> Obj:
    return {"selector": {"istio": selector}, "servers": list(servers)}


def to_books(*gateways: str, host: str = "*", **rule: Any) -> Obj:
    target = {"destination": {"host": "books", "port": {"number": 9080}}}
    return {"hosts": [host], "gateways": list(gateways), "http": [{"route": [target], **rule}]}


def der(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.chain[: identity.chain.index("-----END") + 25])


def pair(identity: Identity) -> dict[str, str]:
    return {"tls_crt": identity.chain, "tls_key": identity.key}
