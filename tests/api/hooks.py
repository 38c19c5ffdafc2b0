# SPDX-License-Identifier: Apache-2.0
"""Webhook servers for tests: TLS at an address of the sandbox's own, with answers that the test chooses."""

from __future__ import annotations

import asyncio
import base64
import copy
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshbox.api.objects import ObjectStore
from meshbox.settings import SandboxSettings

__all__ = ["MUTATING", "VALIDATING", "Hook", "configuration", "hook", "keys", "patch"]

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"

Respond = Callable[[dict[str, Any]], dict[str, Any] | Awaitable[dict[str, Any]]]
PODS = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
MAPS = {**PODS, "operations": ["*"], "resources": ["configmaps"]}


def keys(folder: Path, *names: str) -> tuple[Path, str]:
    """A file with the key and the certificate of a server that has these names, and the caBundle that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hook")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{names[0]}.pem"
    file.write_bytes(secret + pem)
    return file, base64.b64encode(pem).decode()


class _Cluster(Protocol):
    """Those of tests/api and of tests/controllers."""

    @property
    def objects(self) -> ObjectStore: ...
    @property
    def settings(self) -> SandboxSettings: ...


class Hook:
    """A webhook server behind Service default/`name`.

    Args:
        name: Of the Service.
        bundle: The caBundle that trusts it.
    """

    def __init__(self, name: str, bundle: str) -> None:
        self.name = name
        self.bundle = bundle
        self.port = 0
        self.seen: list[dict[str, Any]] = []
        """The requests of all reviews, in the order in which they came."""
        self.respond: Respond = lambda _request: {"allowed": True}
        self.raw: Callable[[dict[str, Any]], web.Response] | None = None
        """Answers in place of `respond`, with whatever it likes."""

    async def handle(self, request: web.Request) -> web.Response:
        review = json.loads(await request.read())
        self.seen.append(copy.deepcopy(review["request"]))
        if self.raw is not None:
            return self.raw(review)
        said = self.respond(review["request"])
        said = said if isinstance(said, dict) else await said
        return web.json_response(
            {
                "kind": "AdmissionReview",
                "apiVersion": review["apiVersion"],
                "response": {"uid": review["request"]["uid"], **said},
            }
        )

    def webhook(self, name: str = "", **fields: Any) -> dict[str, Any]:
        """An item of `webhooks` that leads here, for pods that are created."""
        return {
            "name": name or f"{self.name}.example.com",
            "clientConfig": {
                "service": {"name": self.name, "namespace": "default", "path": "/ask"},
                "caBundle": self.bundle,
            },
            "rules": [PODS],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **fields,
        }


def patch(*steps: dict[str, Any]) -> dict[str, Any]:
    """A response that allows, and changes."""
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(steps).encode()).decode()}


def configuration(name: str, *webhooks: dict[str, Any]) -> dict[str, Any]:
    """A Mutating- or ValidatingWebhookConfiguration."""
    return {"metadata": {"name": name}, "webhooks": list(webhooks)}


@asynccontextmanager
async def hook(cluster: _Cluster, name: str = "hook", *, served_as: str = "") -> AsyncIterator[Hook]:
    """A webhook server, its Service and the Endpoints that lead to it.

    Args:
        cluster: Where the objects are made.
        name: Of the Service in namespace default.
        served_as: The name in its certificate; "": the right one.
    """
    file, bundle = keys(cluster.settings.home, served_as or f"{name}.default.svc")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    made = Hook(name, bundle)
    application = web.Application()
    application.router.add_post("/ask", made.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    node = cluster.settings.plan.node
    await web.TCPSite(runner, node, 0, ssl_context=context).start()
    made.port = int(runner.addresses[0][1])
    meta = {"name": name, "namespace": "default"}
    cluster.objects.create("services", {"metadata": meta, "spec": {"ports": [{"port": 443, "name": "https"}]}})
    subset = {"addresses": [{"ip": node}], "ports": [{"name": "https", "port": made.port}]}
    cluster.objects.create("endpoints", {"metadata": meta, "subsets": [subset]})
    try:
        yield made
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)
