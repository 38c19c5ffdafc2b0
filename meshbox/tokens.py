# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens of service accounts: signed with the sandbox's own, so that no pod or Secret carries that one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from labkit.ground.guard import same_secret
from meshbox.rbac.users import ADMIN, User, user_of

__all__ = ["ISSUER", "Tokens"]

ISSUER = "https://kubernetes.default.svc.cluster.local"

_BOUND = ("pod", "secret")
"""Kinds of objects that a token may be bound to."""
_FOR_EVER = 4_102_444_800
"""To the year 2100: the sandbox ends before its tokens do."""


class Tokens:
    """Who a bearer token belongs to.

    Args:
        admin: The sandbox's own token; tokens of service accounts are signed with it.
        lives: Whether the object is there that a token is bound to: resource, namespace, name and uid ("": any). None:
            nobody looks.
    """

    def __init__(self, admin: str, lives: Callable[[str, str, str, str], bool] | None = None) -> None:
        self._admin = admin
        self._lives = lives
        self._secret = hashlib.sha256(b"service accounts\0" + admin.encode()).digest()

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        seconds: int,
        audiences: list[str],
        now: int | None = None,
        bound: tuple[str, str, str] | None = None,
    ) -> str:
        """A signed token (JWT) of a service account, good for `seconds` from `now` (seconds since 1970; None: now).

        It ends earlier with the account, and with the object it is `bound` to: "pod" or "secret", name and uid.
        """
        now = int(time.time()) if now is None else now
        about: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        if bound is not None:
            about[bound[0]] = {"name": bound[1], "uid": bound[2]}
        claims = {
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "iss": ISSUER,
            "kubernetes.io": about,
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

    def holder(self, token: str) -> User | None:
        """Who holds `token`; None where nobody does."""
        if not token.isascii():
            return None
        if same_secret(token, self._admin):
            return ADMIN
        signed, _, signature = token.rpartition(".")
        if not signed or not same_secret(signature, self._sign(signed)):
            return None
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        if claims["exp"] <= time.time() or not self._bound(claims["kubernetes.io"]):
            return None
        return user_of(str(claims["sub"]))

    def audiences(self, token: str) -> list[str]:
        """For whom the token of a ServiceAccount is; [] for the sandbox's own. `holder` says whether it is good."""
        body = token.split(".")[1:2]
        return list(json.loads(base64.urlsafe_b64decode(body[0] + "=="))["aud"]) if body and self.holder(token) else []

    def _bound(self, about: dict[str, Any]) -> bool:
        """Whether all that a token is bound to is there."""
        if self._lives is None:
            return True
        return all(
            self._lives(f"{kind}s", about["namespace"], about[kind]["name"], about[kind]["uid"])
            for kind in ("serviceaccount", *_BOUND)
            if kind in about
        )


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
