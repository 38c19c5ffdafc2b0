# SPDX-License-Identifier: Apache-2.0
"""Galley's registration of its webhook, which Istio 1.2 does not install but makes while it runs."""

from __future__ import annotations

from typing import Any

from labkit.ground import reading
from meshbox.contracts import ApiError, Obj, Objects
from meshbox.mesh import webhooks
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["Galley"]

_ROOT = "istio-system"
_NAME = "istio-galley"
_SOURCE = ("istio-galley-configuration", "validatingwebhookconfiguration.yaml")
_OWNER = f"istio-galley-{_ROOT}"


class Galley:
    """Keeps the ValidatingWebhookConfiguration that Galley takes from its ConfigMap; it goes with Galley's ClusterRole.

    Args:
        objects: The cluster's objects.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._reconciler = Reconciler("galley", objects, self._register, about="").watches("endpoints", self._concerns)

    def start(self) -> None:
        """Begin."""
        self._reconciler.start()

    async def stop(self) -> None:
        """End."""
        await self._reconciler.stop()

    @staticmethod
    def _concerns(endpoints: Obj) -> list[Key]:
        return [(None, _NAME)] if object_key(endpoints) == (_ROOT, _NAME) else []

    async def _register(self, _key: Key) -> None:
        role = self._objects.find("clusterroles.rbac.authorization.k8s.io", _OWNER)
        if role is None or self._objects.find(webhooks.VALIDATING, _NAME) is not None:
            return
        source = self._objects.find("configmaps", _SOURCE[0], _ROOT) or {}
        text = (source.get("data") or {}).get(_SOURCE[1])
        if not text:
            return
        try:
            registration = reading.yaml_value(text)
        except reading.ReadingError as error:
            self._objects.event(source, "Warning", "InvalidConfiguration", f"{_SOURCE[1]}: {error}", _NAME)
            return
        if not _well_formed(registration):
            words = f"{_SOURCE[1]} is no ValidatingWebhookConfiguration"
            self._objects.event(source, "Warning", "InvalidConfiguration", words, _NAME)
            return
        # Objects are written in the resource's preferred version; Galley's file is in the one of its time.
        registration["apiVersion"] = "admissionregistration.k8s.io/v1"
        for webhook in registration.get("webhooks") or []:
            if not webhooks.available(self._objects, webhook):
                # As the real one, it waits until it can be called: what was applied meanwhile would be refused.
                return
            webhook.setdefault("admissionReviewVersions", ["v1beta1"])
            webhook.setdefault("timeoutSeconds", 30)
        owner = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": _OWNER}
        registration["metadata"]["ownerReferences"] = [{**owner, "uid": role["metadata"]["uid"]}]
        try:
            self._objects.create(webhooks.VALIDATING, registration, manager="galley")
        except ApiError as error:
            if error.code != 409:
                raise


def _well_formed(registration: Any) -> bool:
    if not isinstance(registration, dict) or not isinstance(registration.get("metadata"), dict):
        return False
    hooks = registration.get("webhooks") or []
    return isinstance(hooks, list) and all(isinstance(hook, dict) for hook in hooks)
