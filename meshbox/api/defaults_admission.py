# SPDX-License-Identifier: Apache-2.0
"""The API server's defaults for webhooks' configurations and admission policies."""

from __future__ import annotations

from typing import Any

from meshbox.api.filling import fill, part, parts
from meshbox.contracts import Obj
from meshbox.settings import SandboxSettings

__all__ = ["admission_policy", "policy_binding", "webhooks"]


def webhooks(obj: Obj, settings: SandboxSettings) -> None:
    """Defaults of a webhook configuration, in place."""
    mutating = obj.get("kind") == "MutatingWebhookConfiguration"
    for hook in parts(obj, "webhooks"):
        fill(hook, namespaceSelector={})
        for rule in parts(hook, "rules"):
            fill(rule, scope="*")
        if settings.legacy:
            fill(hook, failurePolicy="Ignore", timeoutSeconds=30, sideEffects="Unknown")
            fill(hook, admissionReviewVersions=["v1beta1"])
            continue
        fill(hook, objectSelector={}, failurePolicy="Fail", matchPolicy="Equivalent", timeoutSeconds=10)
        if mutating:
            fill(hook, reinvocationPolicy="Never")
        service = part(hook, "clientConfig").get("service")
        if isinstance(service, dict):
            fill(service, port=443)


def _matched(resources: Any) -> None:
    """What an admission policy or its binding matches."""
    if isinstance(resources, dict):
        fill(resources, namespaceSelector={}, objectSelector={}, matchPolicy="Equivalent")
        for rule in (*parts(resources, "resourceRules"), *parts(resources, "excludeResourceRules")):
            fill(rule, scope="*")


def admission_policy(obj: Obj, _settings: SandboxSettings) -> None:
    """Defaults of an admission policy, in place."""
    spec = part(obj, "spec")
    fill(spec, failurePolicy="Fail")
    _matched(spec.get("matchConstraints"))


def policy_binding(obj: Obj, _settings: SandboxSettings) -> None:
    """Defaults of the binding of one, in place."""
    _matched(part(obj, "spec").get("matchResources"))
