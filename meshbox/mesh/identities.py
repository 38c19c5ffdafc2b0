# SPDX-License-Identifier: Apache-2.0
"""What the release's certificate authority writes into the cluster.

Citadel (1.2) keeps a Secret `istio.<service account>` beside each ServiceAccount; pods mount it. istiod keeps the
authority's certificate as ConfigMap `istio-ca-root-cert` in each namespace. Both work only while their pod is ready.
"""

from __future__ import annotations

import asyncio
import base64
import datetime

from meshbox.contracts import Obj, Objects
from meshbox.mesh.certificates import LIFETIME, Authority, Identity
from meshbox.reconcile import Key, Reconciler

__all__ = ["CITADEL_TYPE", "TRUST", "IdentityWriter"]

_CITADEL = "istio=citadel"
_ISTIOD = "app=istiod"
TRUST = "istio-ca-root-cert"
CITADEL_TYPE = "istio.io/key-and-cert"
_ALL: Key = (None, "all")


class IdentityWriter:
    """Keeps the authority's Secrets (1.2) or ConfigMaps (today) as they must be.

    Args:
        objects: The cluster's objects.
        authority: Signs.
        legacy: Whether Citadel is played, or istiod.
    """

    def __init__(self, objects: Objects, authority: Authority, *, legacy: bool) -> None:
        self._objects = objects
        self._authority = authority
        self._legacy = legacy
        self._ready = False
        authority.changed = self._again
        own = "secrets" if legacy else "configmaps"
        self._each = Reconciler("identities", objects, self._one)
        self._each.watches("serviceaccounts" if legacy else "namespaces")
        self._each.watches(own, self._owner)
        self._authority_pod = Reconciler("authority", objects, self._look, about="")
        self._authority_pod.watches("pods", lambda pod: [_ALL] if self._is_authority(pod) else [])

    def start(self) -> None:
        """Begin; the authority must be loaded."""
        self._authority_pod.start()
        self._each.start()

    async def stop(self) -> None:
        """End."""
        await asyncio.gather(self._authority_pod.stop(), self._each.stop())

    def _is_authority(self, pod: Obj) -> bool:
        key, _, value = (_CITADEL if self._legacy else _ISTIOD).partition("=")
        return (pod["metadata"].get("labels") or {}).get(key) == value

    def _owner(self, item: Obj) -> list[Key]:
        """Whose identity a Secret or ConfigMap is, so that one which was deleted or changed is written again."""
        name, namespace = item["metadata"]["name"], item["metadata"].get("namespace")
        if self._legacy:
            return [(namespace, name.removeprefix("istio."))] if item.get("type") == CITADEL_TYPE else []
        return [(None, str(namespace))] if name == TRUST else []

    async def _look(self, _key: Key) -> None:
        selector = _CITADEL if self._legacy else _ISTIOD
        pods = self._objects.list("pods", labels=selector)
        conditions = [one for pod in pods for one in pod.get("status", {}).get("conditions") or []]
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        if ready and not self._ready:
            self._ready = True
            self._again()
        self._ready = ready

    def _again(self) -> None:
        for item in self._objects.list("serviceaccounts" if self._legacy else "namespaces"):
            meta = item["metadata"]
            self._each.enqueue((meta.get("namespace"), meta["name"]))

    async def _one(self, key: Key) -> float | None:
        if not self._ready:
            return None
        if self._legacy:
            return self._secret(*key)
        self._root(key[1])
        return None

    def _secret(self, namespace: str | None, account: str) -> float | None:
        name = f"istio.{account}"
        if self._objects.find("serviceaccounts", account, namespace) is None:
            found = self._objects.find("secrets", name, namespace)
            if found and found.get("type") == CITADEL_TYPE:
                self._objects.delete("secrets", name, namespace)
            return None
        if self._ends(namespace):
            return None
        identity = self._authority.identity(f"spiffe://cluster.local/ns/{namespace}/sa/{account}")
        parts = {"cert-chain.pem": identity.chain, "key.pem": identity.key, "root-cert.pem": self._authority.root}
        data = {part: base64.b64encode(text.encode()).decode() for part, text in parts.items()}
        found = self._objects.find("secrets", name, namespace)
        if found is None:
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "annotations": {"istio.io/service-account.name": account}},
                "type": CITADEL_TYPE,
                "data": data,
            }
            self._objects.create("secrets", secret, namespace, manager="istio-citadel")
        elif found.get("data") != data:
            self._objects.update("secrets", {**found, "data": data}, manager="istio-citadel")
        return _seconds_until(identity)

    def _root(self, namespace: str) -> None:
        if self._ends(namespace) or self._objects.find("namespaces", namespace) is None:
            return
        data = {"root-cert.pem": self._authority.root}
        found = self._objects.find("configmaps", TRUST, namespace)
        if found is None:
            made = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": TRUST, "labels": {"istio.io/config": "true"}},
                "data": data,
            }
            self._objects.create("configmaps", made, namespace, manager="pilot-discovery")
        elif found.get("data") != data:
            self._objects.update("configmaps", {**found, "data": data}, manager="pilot-discovery")

    def _ends(self, namespace: str | None) -> bool:
        found = self._objects.find("namespaces", namespace or "")
        return found is None or "deletionTimestamp" in found["metadata"]


def _seconds_until(identity: Identity) -> float:
    left = identity.renew - datetime.datetime.now(datetime.UTC)
    return min(max(left.total_seconds(), 1.0), LIFETIME.total_seconds())
