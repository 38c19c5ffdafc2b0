# SPDX-License-Identifier: Apache-2.0
"""Whom callers of istiod's webhooks trust: istiod writes its authority's certificate into the webhooks that lead to it.

The sandbox's own API server needs it for nothing; `istioctl kube-inject` calls the injector by it.
"""

from __future__ import annotations

import base64

from meshbox.contracts import Obj, Objects
from meshbox.mesh.certificates import Authority
from meshbox.mesh.webhooks import MUTATING, VALIDATING
from meshbox.reconcile import Key, Reconciler

__all__ = ["WebhookTrust"]

_ROOT, _ISTIOD = "istio-system", "istiod"


class WebhookTrust:
    """Keeps `caBundle` of the webhooks that istiod answers.

    Args:
        objects: The cluster's objects.
        authority: Its certificate is what to trust.
    """

    def __init__(self, objects: Objects, authority: Authority) -> None:
        self._objects, self._authority = objects, authority
        self._each = Reconciler("webhook trust", objects, self._one, about="")
        for resource in (MUTATING, VALIDATING):
            self._each.watches(resource, lambda item, resource=resource: [(resource, item["metadata"]["name"])])  # type: ignore[misc]
        self._each.watches("pods", self._of_pod)

    def start(self) -> None:
        """Begin; the authority must be loaded."""
        self._each.start()

    async def stop(self) -> None:
        """End."""
        await self._each.stop()

    def _of_pod(self, pod: Obj) -> list[Key]:
        if (pod["metadata"].get("labels") or {}).get("app") != _ISTIOD or not _ready(pod):
            return []
        return [
            (resource, one["metadata"]["name"])
            for resource in (MUTATING, VALIDATING)
            for one in self._objects.view(resource)
        ]

    async def _one(self, key: Key) -> None:
        resource, name = key
        found = self._objects.find(resource or "", name)
        if found is None or not any(map(_ready, self._objects.view("pods", _ROOT, labels=f"app={_ISTIOD}"))):
            return
        trust = base64.b64encode(self._authority.root.encode()).decode()
        changed = False
        for webhook in found.get("webhooks") or []:
            config = webhook.get("clientConfig") or {}
            service = config.get("service") or {}
            # A revision's Service has a name of its own, and so has a tag's.
            ours = f"{service.get('name')}-".startswith(f"{_ISTIOD}-") and service.get("namespace") == _ROOT
            if ours and config.get("caBundle") != trust:
                config["caBundle"] = trust
                changed = True
        if changed:
            self._objects.update(resource or "", found, manager="pilot-discovery")


def _ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
