# SPDX-License-Identifier: Apache-2.0
"""metrics-server: its health pages over TLS. What it would say, the API server of the sandbox says itself."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

from meshbox.images.context import ContainerContext, Image, Launch
from meshbox.images.httpbin.secure import serve_securely
from meshbox.images.standin import app, healthy

__all__ = ["IMAGES", "run"]

_PORT = 10250
_FOLDER = "/apiserver.local.config/certificates"
_PAGES = ("/livez", "/readyz", "/healthz")
_WORDS = "It answers its health checks. The API server of the sandbox answers for it: it knows what each process uses."


def run() -> int:
    """Serve the health pages at `--secure-port` until SIGTERM."""
    port = _PORT
    for argument in sys.argv:
        flag, _, value = argument.partition("=")
        if flag == "--secure-port" and value.isdigit():
            port = int(value)
    name = "metrics-server"
    pages = app(name, _WORDS, {page: healthy(name) for page in _PAGES}, component=name)
    return serve_securely(port, pages, f"{_FOLDER}/apiserver.crt", f"{_FOLDER}/apiserver.key")


def _certified(context: ContainerContext) -> Launch:
    """The program, with a certificate made for it: a pod's own process has no library for that."""
    _certify(context.path(_FOLDER))
    return Launch(entry=f"{__name__}:run", argv=context.argv)


def _certify(folder: Path) -> None:
    """Write a certificate that it signs itself, as the real one does where it is given none."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "metrics-server")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for file, content in (
        ("apiserver.crt", certificate.public_bytes(serialization.Encoding.PEM)),
        ("apiserver.key", key.private_bytes(serialization.Encoding.PEM, form, plain)),
    ):
        descriptor = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)


IMAGES = (
    Image(
        repositories=("metrics-server/metrics-server",),
        entrypoint=("/metrics-server",),
        programs={"metrics-server": _certified},
        size=22_000_000,
        stands_in="stand-in: health pages; the API server answers for it",
    ),
)
