# SPDX-License-Identifier: Apache-2.0
"""Tokens of ServiceAccounts: Secrets that Kubernetes 1.14 makes for each, and those that users ask for."""

from __future__ import annotations

import base64
from typing import Any

from meshbox.contracts import Event, Obj
from meshbox.controllers.meta import MANAGER, Context
from meshbox.reconcile import Key, Reconciler, object_key
from meshbox.tokens import Tokens

__all__ = ["ServiceAccountController"]

TYPE = "kubernetes.io/service-account-token"
_NAME = "kubernetes.io/service-account.name"
_UID = "kubernetes.io/service-account.uid"
_WAIT = 0.2


def _account_of(secret: Obj) -> tuple[str, str]:
    annotations = secret["metadata"].get("annotations") or {}
    return annotations.get(_NAME, ""), annotations.get(_UID, "")


class ServiceAccountController:
    """Fills token Secrets, deletes those whose ServiceAccount is gone, and (1.14) makes one for each ServiceAccount."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tokens = Tokens(context.settings.token)
        self.reconciler = (
            Reconciler("serviceaccount", context.objects, self._reconcile)
            .watches("serviceaccounts")
            .watches_events("secrets", self._secret_keys)
        )

    @staticmethod
    def _secret_keys(event: Event) -> list[Key]:
        if event.object.get("type") != TYPE:
            return []
        name, _ = _account_of(event.object)
        return [(object_key(event.object)[0], name)] if name else []

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        objects = self._context.objects
        account = objects.find("serviceaccounts", name, namespace)
        uid = account["metadata"]["uid"] if account else ""
        secrets = [
            item
            for item in objects.list("secrets", namespace, fields=f"type={TYPE}")
            if _account_of(item)[0] == name and "deletionTimestamp" not in item["metadata"]
        ]
        for secret in secrets:
            if account is None or _account_of(secret)[1] not in ("", uid):
                objects.delete("secrets", secret["metadata"]["name"], namespace)
        if account is None or "deletionTimestamp" in account["metadata"]:
            return None
        authority = self._context.settings.home / "ca.crt"
        if not authority.exists():
            # The API server writes it when it first starts, which may be a moment after this.
            return _WAIT
        current = [item for item in secrets if _account_of(item)[1] in ("", uid)]
        for secret in current:
            self._fill(secret, account, authority.read_bytes())
        if self._context.settings.legacy:
            self._give_token(account, current, authority.read_bytes())
        return None

    def _content(self, account: Obj, authority: bytes) -> dict[str, str]:
        meta = account["metadata"]
        token = self._tokens.of_account(meta["namespace"], meta["name"], meta["uid"])
        parts = {"ca.crt": authority, "namespace": meta["namespace"].encode(), "token": token.encode()}
        return {key: base64.b64encode(value).decode() for key, value in parts.items()}

    def _fill(self, secret: Obj, account: Obj, authority: bytes) -> None:
        data = secret.get("data") or {}
        wanted = self._content(account, authority)
        uid = account["metadata"]["uid"]
        if wanted.items() <= data.items() and _account_of(secret)[1] == uid:
            return
        secret["metadata"].setdefault("annotations", {})[_UID] = uid
        self._context.objects.update("secrets", {**secret, "data": {**data, **wanted}}, manager=MANAGER)

    def _give_token(self, account: Obj, secrets: list[Obj], authority: bytes) -> None:
        """Make sure that the ServiceAccount names a token Secret that exists."""
        meta = account["metadata"]
        named = [item["name"] for item in account.get("secrets") or ()]
        existing = {item["metadata"]["name"] for item in secrets}
        if existing.intersection(named):
            return
        # One made just before a crash is not named yet: it is taken instead of making another.
        mine = next((item for item in sorted(existing) if item.startswith(f"{meta['name']}-token-")), None)
        if mine is None:
            secret: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "generateName": f"{meta['name']}-token-",
                    "annotations": {_NAME: meta["name"], _UID: meta["uid"]},
                },
                "type": TYPE,
                "data": self._content(account, authority),
            }
            created = self._context.objects.create("secrets", secret, meta["namespace"], manager=MANAGER)
            mine = created["metadata"]["name"]
        kept = [item for item in account.get("secrets") or () if "-token-" not in item["name"]]
        self._context.objects.update(
            "serviceaccounts", {**account, "secrets": [*kept, {"name": mine}]}, manager=MANAGER
        )
