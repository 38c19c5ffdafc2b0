# SPDX-License-Identifier: Apache-2.0
"""The authority that a user plugs into istiod: the files of Secret `cacerts`, looked at as istiod does at its start."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec import Struct

from meshbox.contracts import Objects
from meshbox.mesh.mesh_config import MeshConfig

__all__ = ["Signer", "files_of", "plugged"]

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_OWN_FORM = ("ca-cert.pem", "ca-key.pem", "root-cert.pem", ("cert-chain.pem",))
_TLS_FORM = ("tls.crt", "tls.key", "ca.crt", ("tls.crt", "ca.crt"))
"""The files of a certificate, its key, the root, and of what stands between; the second where there is a tls.crt."""

_FAILED = "failed to create an istiod CA"


class Signer(Struct, frozen=True):
    """Who signs identities.

    Args:
        key: Its key.
        certificate: Its certificate.
        chain: What each identity shows between its own certificate and the root, in PEM.
        root: Whom all trust, in PEM.
    """

    key: SigningKey
    certificate: x509.Certificate
    chain: str
    root: str


def files_of(objects: Objects) -> dict[str, bytes]:
    """What istiod finds below /etc/cacerts: Secret `cacerts` beside it, which every installation mounts there."""
    found = objects.find("secrets", "cacerts", MeshConfig.root_namespace) or {}
    return {name: base64.b64decode(text) for name, text in (found.get("data") or {}).items()}


def plugged(files: Mapping[str, bytes]) -> Signer | None:
    """The authority in `files`; None where there is none at all.

    Raises:
        ValueError: it is not whole, or does not fit together: istiod does not start, and says this.
    """
    cert, key, root, chain = _TLS_FORM if "tls.crt" in files else _OWN_FORM
    there = {name in files for name in (cert, key, root, *chain)}
    if True not in there:
        return None
    if False in there:
        raise ValueError(f"{_FAILED}: incomplete signing CA bundle detected")
    try:
        private = serialization.load_pem_private_key(files[key], None)
        certificate = x509.load_pem_x509_certificate(files[cert])
        roots = x509.load_pem_x509_certificates(files[root])
        between = x509.load_pem_x509_certificates(b"\n".join(files[name] for name in chain))
    except (ValueError, TypeError):
        raise _unfit("its certificates or its key are no PEM that can be read") from None
    if not isinstance(private, SigningKey) or private.public_key() != certificate.public_key():
        raise _unfit("the cert does not match the key")
    if not _leads(certificate, roots, between):
        raise _unfit("cannot verify the cert with the provided root chain and cert pool")
    if not _signs(certificate):
        raise ValueError(f"{_FAILED}: certificate is not authorized to sign other certificates")
    shown = "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in between)
    return Signer(private, certificate, shown, files[root].decode())


def _unfit(why: str) -> ValueError:
    return ValueError(f"{_FAILED}: failed to create CA KeyCertBundle ({why})")


def _signs(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _leads(certificate: x509.Certificate, roots: list[x509.Certificate], between: list[x509.Certificate]) -> bool:
    """Whether a root has signed the certificate, or what stands between them has."""
    if certificate in roots:
        return True
    issuer = next((one for one in (*roots, *between) if one != certificate and _signed(certificate, one)), None)
    return issuer is not None and _leads(issuer, roots, [one for one in between if one != issuer])


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
