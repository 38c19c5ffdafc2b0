# SPDX-License-Identifier: Apache-2.0
"""Who this API server is: its keys on disk, the kubeconfig that trusts them.

    ca.crt, ca.key          the authority; kept as long as it is sound, so that what trusts it goes on trusting it
    server-ADDRESS.pem      the server's key and certificate, good for that address; made anew from the authority

At each start they are asked what a client will ask: whether a TLS handshake under the server's address is a success. So
a key that belongs to another certificate, one that has expired, and half a file are all found, however they came about.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import logging
import secrets
import ssl
from typing import Any

from labkit.ground import files
from meshbox import kept
from meshbox.settings import SandboxSettings

__all__ = ["Identity"]

log = logging.getLogger(__name__)

_YEARS = 10
_HOSTS = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


class Identity:
    """The server's certificate authority, certificate and nonce; made once and kept in the sandbox's folder.

    What is damaged is made anew, with a line in the log.

    Args:
        settings: Of the sandbox.

    Raises:
        SandboxError: where the folder cannot be written.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        home = settings.home
        self.ca, self._ca_key = home / "ca.crt", home / "ca.key"
        # Its name carries the address it is good for: another address, another certificate.
        self._cert = home / f"server-{settings.plan.node}.pem"
        if problem := self._problem():
            self._make()
            log.info("the API server has a new certificate: %s", problem)
        self.nonce = kept.nonce(home)

    @functools.cached_property
    def hosts(self) -> frozenset[str]:
        """Names and addresses the server answers to."""
        plan = self._settings.plan
        return frozenset((*_HOSTS, plan.node, str(plan.service_cidr[1])))

    def context(self) -> ssl.SSLContext:
        """TLS for the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._cert)
        return context

    def _problem(self) -> str:
        """Why a client would not trust this server; "" if it would."""
        if not (self._cert.exists() and self.ca.exists()):
            return "there was none for this address"
        try:
            for file in (self.ca, self._cert):
                files.read(file)
            # Whether the authority's key is its own: it signs when the sandbox has another address.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.ca, self._ca_key)
            _shake_hands(self.context(), ssl.create_default_context(cafile=str(self.ca)), self._settings.plan.node)
        except (OSError, ValueError) as error:
            reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
            return f"{self._cert} and {self.ca} did not fit ({reason})"
        return ""

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
        kept.put(self._settings.home / "kubeconfig", json.dumps(config, indent=2) + "\n")

    def _make(self) -> None:
        # Not needed when the keys are there: 60 ms of every other start.
        import datetime
        import ipaddress

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509 import oid

        begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        end = begin + datetime.timedelta(days=365 * _YEARS)
        ca, ca_key = self._authority() or self._new_authority(begin, end)
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = []
        for host in sorted(self.hosts):
            with contextlib.suppress(ValueError):
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
                continue
            names.append(x509.DNSName(host))
        cert = (
            x509.CertificateBuilder()
            .issuer_name(ca.subject)
            .not_valid_before(max(begin, ca.not_valid_before_utc))
            .not_valid_after(min(end, ca.not_valid_after_utc))
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(x509, sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        kept.put(self._cert, _private(key) + _public(cert))

    def _authority(self) -> tuple[Any, Any] | None:
        """The authority's certificate and key that are there; None where they are not sound, or about to expire."""
        import datetime

        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)
        try:
            ca = x509.load_pem_x509_certificate(files.read(self.ca))
            key = serialization.load_pem_private_key(files.read(self._ca_key), None)
        except (OSError, ValueError, TypeError):
            return None
        return (ca, key) if ca.public_key() == key.public_key() and ca.not_valid_after_utc > soon else None

    def _new_authority(self, begin: Any, end: Any) -> tuple[Any, Any]:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        # The name is unique: OpenSSL mixes up authorities of one name and different keys.
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"labkit-ca-{secrets.token_hex(4)}")])
        ca = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .not_valid_before(begin)
            .not_valid_after(end)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(x509, sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        # The certificate first: one without its key is found out at the next start, and both are made anew.
        kept.put(self.ca, _public(ca))
        kept.put(self._ca_key, _private(key))
        return ca, key


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, address: str) -> None:
    """A TLS handshake in memory; raises what the client would raise."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=address),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done = [False, False]
    while not all(done):
        for index, end in enumerate(ends):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                done[index] = True


def _private(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(  # type: ignore[no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _public(certificate: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[no-any-return]


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
