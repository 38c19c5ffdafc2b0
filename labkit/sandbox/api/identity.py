"""Who this API server is: its keys on disk, the kubeconfig that trusts them."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import secrets
import ssl
from pathlib import Path
from typing import Any

from labkit.errors import SandboxError
from labkit.sandbox.settings import SandboxSettings

__all__ = ["Identity", "write_private"]

_YEARS = 10
_HOSTS = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; a reader sees the old content or the new, never a part."""
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(content)
    os.replace(fresh, path)


class Identity:
    """The server's certificate authority, certificate and nonce; made once and kept in the sandbox's folder.

    Args:
        settings: Of the sandbox.

    Raises:
        SandboxError: where the folder cannot be written.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        home = settings.home
        self.ca = home / "ca.crt"
        # Its name carries the address it is good for: another address, another certificate.
        self._cert = home / f"server-{settings.plan.node}.pem"
        self._nonce = home / "identity"
        try:
            if not (self.ca.exists() and self._cert.exists()):
                self._make()
            if not self._nonce.exists():
                write_private(self._nonce, secrets.token_hex(16).encode())
        except OSError as error:
            raise SandboxError(
                f"The API server's keys cannot be written to {home}: {error.strerror}.",
                next_step="Check the permissions and the free space of that folder.",
            ) from error
        self.nonce = self._nonce.read_text()

    @functools.cached_property
    def hosts(self) -> frozenset[str]:
        """Names and addresses the server answers to."""
        plan = self._settings.plan
        return frozenset((*_HOSTS, plan.node, str(plan.service_cidr[1])))

    def context(self) -> ssl.SSLContext:
        """TLS for the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._cert)
        except (ssl.SSLError, OSError):
            # A damaged file: a new certificate is as good, and the kubeconfig is written again anyway.
            self._make()
            context.load_cert_chain(self._cert)
        return context

    def write_kubeconfig(self, port: int) -> None:
        """Write `settings.home`/kubeconfig (0600) for the server at `port`."""
        name = self._settings.node_name
        # kubectl keeps what a server serves for hours under the server's URL. A slash at its end makes another URL of
        # the same server: one that plays the older Kubernetes is not mistaken for one that played the newer.
        slash = "/" if self._settings.legacy else ""
        cluster = {
            "server": f"https://{self._settings.plan.node}:{port}{slash}",
            "certificate-authority-data": base64.b64encode(self.ca.read_bytes()).decode(),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": {"token": self._settings.token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        write_private(self._settings.home / "kubeconfig", json.dumps(config, indent=2).encode() + b"\n")

    def _make(self) -> None:
        # Not needed when the keys are there: 60 ms of every other start.
        import datetime
        import ipaddress

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509 import oid

        begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        end = begin + datetime.timedelta(days=365 * _YEARS)
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        # The name is unique: OpenSSL mixes up authorities of one name and different keys.
        ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"labkit-ca-{secrets.token_hex(4)}")])
        common = x509.CertificateBuilder().issuer_name(ca_name).not_valid_before(begin).not_valid_after(end)
        ca = (
            common.subject_name(ca_name)
            .public_key(ca_key.public_key())
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(x509, sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        names: list[x509.GeneralName] = []
        for host in sorted(self.hosts):
            with contextlib.suppress(ValueError):
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
                continue
            names.append(x509.DNSName(host))
        cert = (
            common.subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(x509, sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_private(self._cert, private + cert.public_bytes(pem))
        write_private(self.ca, ca.public_bytes(pem))


def _usage(x509: Any, *, sign: bool) -> Any:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
