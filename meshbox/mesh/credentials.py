# SPDX-License-Identifier: Apache-2.0
"""What gateways and rules read out of Secrets: certificates with their keys, and whom to trust; or what is wrong."""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from meshbox.typed.services import Secret

__all__ = ["CredentialError", "client_roots_in", "pair_in", "secret_of", "text_in"]

_SHORTEST_RSA = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class CredentialError(Exception):
    """A Secret that cannot be used; the words go on after its name."""


def text_in(secret: Secret | None, *keys: str) -> str:
    """The first of `keys` that a Secret or nothing has, as text; empty where it has none.

    Raises:
        CredentialError: what is there is no text.
    """
    data = (secret or {}).get("data") or {}
    for key in keys:
        if data.get(key):
            try:
                return base64.b64decode(data[key]).decode()
            except ValueError:
                raise CredentialError(f"has no text at {key}; it must be PEM") from None
    return ""


def _has(secret: Secret) -> str:
    keys = sorted(secret.get("data") or {})
    return f"it has {', '.join(keys[:6])}" if keys else "it is empty"


def secret_of(resource: str, namespace: str) -> tuple[str, str, bool] | None:
    """Namespace and name of the Secret behind what a proxy asks for, and whether its CA certificates are meant.

    Args:
        resource: "kubernetes://NAME", or "kubernetes-gateway://NAMESPACE/NAME"; anything else is no Secret.
        namespace: The proxy's.
    """
    scheme, slashes, name = resource.partition("://")
    if not slashes or scheme not in ("kubernetes", "kubernetes-gateway"):
        return None
    if "/" in name:
        namespace, _, name = name.partition("/")
    return namespace, name, name.endswith("-cacert")


def pair_in(secret: Secret) -> tuple[str, str]:
    """The certificate (with its chain) and the key in a Secret, in PEM.

    Raises:
        CredentialError: they are not there, or Envoy would not take them.
    """
    for certificate, key in (("cert", "key"), ("tls.crt", "tls.key")):
        chain, private = text_in(secret, certificate), text_in(secret, key)
        if chain and private:
            problem = _pair_problem(chain, private)
            if problem:
                raise CredentialError(problem.format(certificate=certificate, key=key))
            return chain, private
    raise CredentialError(f"has neither tls.crt and tls.key nor cert and key; {_has(secret)}")


def client_roots_in(secret: Secret) -> tuple[str, str]:
    """The CA certificates in a Secret, and what these have revoked (empty where there is no list), in PEM.

    Raises:
        CredentialError: they are not there, or Envoy would not take them.
    """
    for roots_key, revoked_key in (("cacert", "crl"), ("ca.crt", "ca.crl")):
        roots = text_in(secret, roots_key)
        if roots:
            revoked = text_in(secret, revoked_key)
            problem = _roots_problem(roots, revoked)
            if problem:
                raise CredentialError(problem.format(roots=roots_key, revoked=revoked_key))
            return roots, revoked
    raise CredentialError(f"has no ca.crt (nor cacert); {_has(secret)}")


@functools.lru_cache(256)
def _roots_problem(roots: str, revoked: str) -> str:
    try:
        x509.load_pem_x509_certificates(roots.encode())
    except ValueError:
        return "has no certificate in PEM at {roots}"
    try:
        if revoked:
            x509.load_pem_x509_crl(revoked.encode())
    except ValueError:
        return "has no list of revoked certificates in PEM at {revoked}"
    return ""


@functools.lru_cache(256)
def _pair_problem(chain: str, private: str) -> str:
    try:
        own = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError:
        return "has no certificate in PEM at {certificate}"
    try:
        key = serialization.load_pem_private_key(private.encode(), None)
    except (ValueError, TypeError):
        return "has no private key in PEM at {key} that can be read without a password"
    public = own.public_key()
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < _SHORTEST_RSA:
        return f"has an RSA key of {public.key_size} bits; Envoy takes {_SHORTEST_RSA} or more"
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name not in _CURVES:
        return f"has a key on the curve {public.curve.name}, which Envoy does not take; P-256 is taken"
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != public.public_bytes(*form):
        return "has a key at {key} that is not that of the first certificate at {certificate}"
    return ""
