# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens of service accounts: signed with the sandbox's own, so that no pod or Secret carries that one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

from labkit.ground.guard import same_secret

__all__ = ["Tokens"]

_FOR_EVER = 4_102_444_800
"""To the year 2100: the sandbox ends before its tokens do."""


class Tokens:
    """Who a bearer token belongs to.

    Args:
        admin: The sandbox's own token; tokens of service accounts are signed with it.
    """

    def __init__(self, admin: str) -> None:
        self._admin = admin
        self._secret = hashlib.sha256(b"service accounts\0" + admin.encode()).digest()

    def issue(
        self, namespace: str, name: str, uid: str, seconds: int, audiences: list[str], now: int | None = None
    ) -> str:
        """A signed token (JWT) of a service account, good for `seconds` from `now` (seconds since 1970; None: now)."""
        now = int(time.time()) if now is None else now
        claims = {
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "iss": "https://kubernetes.default.svc.cluster.local",
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        head = _base64(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        signed = f"{head}.{_base64(json.dumps(claims, separators=(',', ':')).encode())}"
        return f"{signed}.{self._sign(signed)}"

    def of_account(self, namespace: str, name: str, uid: str) -> str:
        """A token for pods' files and token Secrets: always the same one, so that those need no rewriting."""
        return self.issue(namespace, name, uid, _FOR_EVER, ["https://kubernetes.default.svc"], now=0)

    def _sign(self, text: str) -> str:
        return _base64(hmac.new(self._secret, text.encode(), hashlib.sha256).digest())

    def user(self, token: str) -> str:
        """The name of the user who holds `token`; "" where nobody does."""
        if not token.isascii():
            return ""
        if same_secret(token, self._admin):
            return "kubernetes-admin"
        signed, _, signature = token.rpartition(".")
        if not signed or not same_secret(signature, self._sign(signed)):
            return ""
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        return str(claims["sub"]) if claims["exp"] > time.time() else ""


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
