# SPDX-License-Identifier: Apache-2.0
"""Why a certificate and a key do not go together, in the words of Go's crypto/tls."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["key_pair_problem"]

_BLOCK = re.compile(rb"^-----BEGIN ([^\n]*?)-----[ \t\r]*\n(.*?)^-----END \1-----[ \t\r]*$", re.DOTALL | re.MULTILINE)


def key_pair_problem(data: Mapping[str, Any]) -> list[str]:
    """What is wrong with the pair in the data of a Secret, as it is stored; nothing where all is well."""
    certificates, keys = (_blocks(data.get(name)) for name in ("tls.crt", "tls.key"))
    others = [kind for kind, _ in certificates if kind != "CERTIFICATE"]
    if len(others) == len(certificates):
        return [_no_certificate(others)]
    skipped = list[str]()
    for kind, key in keys:
        if kind == "PRIVATE KEY" or kind.endswith(" PRIVATE KEY"):
            return _pair(next(body for kind, body in certificates if kind == "CERTIFICATE"), key)
        skipped.append(kind)
    return [_no_key(skipped)]


def _no_certificate(skipped: list[str]) -> str:
    if not skipped:
        return "tls: failed to find any PEM data in certificate input"
    failed = "tls: failed to find"
    if len(skipped) == 1 and skipped[0].endswith("PRIVATE KEY"):
        found = "but did find a private key; PEM inputs may have been switched"
        return f"{failed} certificate PEM data in certificate input, {found}"
    after = f"after skipping PEM blocks of the following types: [{' '.join(skipped)}]"
    return f'{failed} "CERTIFICATE" PEM block in certificate input {after}'


def _no_key(skipped: list[str]) -> str:
    if not skipped:
        return "tls: failed to find any PEM data in key input"
    if skipped == ["CERTIFICATE"]:
        return "tls: found a certificate rather than a key in the PEM for the private key"
    after = f"after skipping PEM blocks of the following types: [{' '.join(skipped)}]"
    return f'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input {after}'


def _blocks(value: Any) -> list[tuple[str, bytes]]:
    found = []
    for kind, body in _BLOCK.findall(base64.b64decode(value or "")):
        try:
            found.append((kind.decode(errors="replace"), base64.b64decode(b"".join(body.split()), validate=True)))
        except binascii.Error:
            # Go goes on behind a block that it cannot read.
            continue
    return found


def _pair(certificate: bytes, key: bytes) -> list[str]:
    # Some milliseconds, which only who has such Secrets spends.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        public: Any = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return ["x509: malformed certificate"]
    try:
        private: Any = serialization.load_der_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ["tls: failed to parse private key"]
    own = private.public_key()
    if type(own) is not type(public):
        return ["tls: private key type does not match public key type"]
    return [] if own == public else ["tls: private key does not match public key"]
