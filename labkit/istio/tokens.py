# SPDX-License-Identifier: Apache-2.0
"""Tokens (JWT) of an issuer that exists for lessons only: both halves of its key are published here, so they prove
nothing outside of them.

RSA with SHA-256 (RS256, RFC 7518) needs no more than Python's own numbers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time

__all__ = ["ISSUER", "jwks", "token"]

ISSUER = "tokens@course.labkit.dev"
"""Who signs."""

_KEY_ID = "course-key"
_P = int(
    "e61d18f41eb18cc86cf33d22ef0be3bf70e83d88375f5f493b7873d08e7fd408b5c02efc7e7ea5582ba3fe3a12483348"
    "8321366eac13a33a69d203ad9c3d69abfe974763c3608eafc4906ff897c772f47bf93d094eb6abc54b86277b9c455fd2"
    "74a04460677b68de831314e7cdc4a387bc229439bc4c31881f0bbae21598323f",
    16,
)
_Q = int(
    "c1ef17018eed143e88c5a9241bdefd8b12b54539c1ac13c993fbbe7965aed77944049761543fcef74589ee881345beb7"
    "fd59bb1f02fe3746f7526ec6f3ca02da56c4a10195f4354c3445bda411e5e0b4f3f8482a630add799cda36ea39b6e9eb"
    "b907b435ad0c645cfdcf7133540745853d2f47acc1e3c508b650e1c157150df3",
    16,
)
_N, _E = _P * _Q, 65537
_LENGTH = 256
# What PKCS #1 v1.5 puts before a hash, to say that it is SHA-256.
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


def jwks() -> str:
    """The public key, as a JSON Web Key Set in one line: what `jwks` of a RequestAuthentication takes."""
    key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": _KEY_ID, "n": _number(_N), "e": _number(_E)}
    return json.dumps({"keys": [key]})


def token(sub: str, *, seconds: int = 3600, iss: str = ISSUER, **claims: object) -> str:
    """A signed token.

    Args:
        sub: Whom it speaks of.
        seconds: For how long it is valid from now on; below 0 for one that has expired.
        iss: Who it says has signed it.
        claims: What else it says, such as `groups=["readers"]`.
    """
    now = int(time.time())
    said = {"iss": iss, "sub": sub, "iat": now, "exp": now + seconds, **claims}
    head = {"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}
    signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, said))
    hashed = _SHA256 + hashlib.sha256(signed.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (_LENGTH - len(hashed) - 3) + b"\x00" + hashed
    secret = pow(_E, -1, (_P - 1) * (_Q - 1))
    signature = pow(int.from_bytes(padded), secret, _N).to_bytes(_LENGTH)
    return f"{signed}.{_encoded(signature)}"


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
