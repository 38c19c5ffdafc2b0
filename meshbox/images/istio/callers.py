# SPDX-License-Identifier: Apache-2.0
"""Who calls istiod's secured port: the API server says whose token it is, and the mesh what istiod shows."""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import threading
import time
from pathlib import Path

from labkit.ground.client import Connections
from meshbox.images.istio.work import ask_mesh

__all__ = ["Shown", "namespace_of"]

_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCOUNT = "system:serviceaccount:"
_AGE = 600.0
"""Seconds until the mesh is asked again: it renews certificates long before they end."""


def namespace_of(token: str) -> str:
    """The namespace of the service account that a token is of; "" where it is none's.

    Raises:
        OSError: The API server cannot be asked.
    """
    folder = Path(os.environ.get("LABKIT_ROOT", "/")) / "var/run/secrets/kubernetes.io/serviceaccount"
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), int(os.environ.get("KUBERNETES_SERVICE_PORT", "0"))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    headers = {
        "Authorization": f"Bearer {(folder / 'token').read_text().strip()}",
        "Content-Type": "application/json",
        "Connection": "close",
    }

    def trust() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(folder / "ca.crt"))

    with Connections(host, port, 5, trust=trust) as server:
        answer = server.request("POST", _REVIEWS, headers, json.dumps(review))
    if answer.status not in (200, 201):
        raise PermissionError(f"the API server does not review tokens: {answer.status} {answer.text[:200]}")
    status = json.loads(answer.text).get("status") or {}
    user = str((status.get("user") or {}).get("username") or "") if status.get("authenticated") else ""
    return user.removeprefix(_ACCOUNT).partition(":")[0] if user.startswith(_ACCOUNT) else ""


class Shown:
    """The certificate that istiod shows, signed by the mesh's authority.

    Args:
        protocols: What is spoken over TLS, as ALPN names it.
    """

    def __init__(self, *protocols: str) -> None:
        self._protocols = list(protocols)
        self._context: ssl.SSLContext | None = None
        self._since = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> ssl.SSLContext:
        """The settings of a new connection.

        Raises:
            OSError: The mesh gives no certificate.
        """
        with self._lock:
            if self._context is None or time.monotonic() - self._since > _AGE:
                self._context, self._since = self._made(), time.monotonic()
            return self._context

    def _made(self) -> ssl.SSLContext:
        answer = ask_mesh("/control-plane/identity")
        if answer.status != 200:
            raise ConnectionRefusedError(f"the mesh gives no certificate: {answer.text.strip()}")
        found = json.loads(answer.text)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(self._protocols)
        # Only files can be loaded; this one is the owner's alone, and gone at once.
        with tempfile.NamedTemporaryFile("w", dir=os.environ.get("LABKIT_ROOT")) as file:
            file.write(found["key"] + found["chain"])
            file.flush()
            context.load_cert_chain(file.name)
        return context
