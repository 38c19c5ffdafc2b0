# SPDX-License-Identifier: Apache-2.0
"""The lessons' tokens, checked by somebody else's cryptography."""

from __future__ import annotations

import base64
import json
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from labkit.istio import tokens


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_token_is_signed_with_the_key_that_is_published() -> None:
    (key,) = json.loads(tokens.jwks())["keys"]
    n, e = (int.from_bytes(decoded(key[name])) for name in ("n", "e"))
    public = RSAPublicNumbers(e, n).public_key()
    assert public.key_size == 2048
    made = tokens.token("ann", groups=["readers"])
    signed, _, signature = made.rpartition(".")
    public.verify(decoded(signature), signed.encode(), PKCS1v15(), SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(decoded(signature), f"{signed}x".encode(), PKCS1v15(), SHA256())
    head, said = (json.loads(decoded(part)) for part in signed.split("."))
    assert (head["alg"], head["kid"]) == ("RS256", key["kid"])
    assert (said["iss"], said["sub"], said["groups"]) == (tokens.ISSUER, "ann", ["readers"])
    assert said["exp"] - said["iat"] == 3600


def test_a_token_may_have_expired() -> None:
    said = json.loads(decoded(tokens.token("ann", seconds=-60).split(".")[1]))
    assert said["exp"] < time.time()
