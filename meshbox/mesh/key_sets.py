# SPDX-License-Identifier: Apache-2.0
"""Which sets of keys an Envoy takes: of one without a key that can be used it refuses the whole listener."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from labkit.ground import reading

__all__ = ["usable"]

_BASE64 = re.compile(r"[-_A-Za-z0-9]+={0,2}")
_RSA = frozenset(f"{kind}{bits}" for kind in ("RS", "PS") for bits in (256, 384, 512))
_HMAC = frozenset(f"HS{bits}" for bits in (256, 384, 512))
_CURVES: dict[str, tuple[str, ec.EllipticCurve]] = {
    "P-256": ("ES256", ec.SECP256R1()),
    "P-384": ("ES384", ec.SECP384R1()),
    "P-521": ("ES512", ec.SECP521R1()),
}


@functools.lru_cache(256)
def usable(text: str) -> bool:
    """Whether a JWK set has a key by which an Envoy can check tokens."""
    try:
        found = reading.json_value(text)
    except reading.ReadingError:
        return False
    keys = found.get("keys") if isinstance(found, Mapping) else None
    return isinstance(keys, list) and any(isinstance(key, Mapping) and _sound(key) for key in keys)


def _sound(key: Mapping[str, Any]) -> bool:
    kind, algorithm = key.get("kty"), key.get("alg", "")
    if not isinstance(algorithm, str) or not isinstance(key.get("kid", ""), str):
        return False
    try:
        if kind == "RSA":
            rsa.RSAPublicNumbers(_number(key.get("e")), _number(key.get("n"))).public_key()
            return algorithm in ("", *_RSA)
        if kind == "EC":
            meant, curve = _CURVES[str(key.get("crv"))]
            ec.EllipticCurvePublicNumbers(_number(key.get("x")), _number(key.get("y")), curve).public_key()
            return algorithm in ("", meant)
        if kind == "oct":
            return bool(_bytes(key.get("k"))) and algorithm in ("", *_HMAC)
        return (
            kind == "OKP"
            and key.get("crv") == "Ed25519"
            and len(_bytes(key.get("x"))) == 32
            and algorithm in ("", "EdDSA")
        )
    except (ValueError, KeyError):
        return False


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or not _BASE64.fullmatch(value):
        raise ValueError
    text = value.rstrip("=")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(value: object) -> int:
    return int.from_bytes(_bytes(value), "big")
