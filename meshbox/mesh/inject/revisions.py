# SPDX-License-Identifier: Apache-2.0
"""Pods that ask for a revision of the control plane that has no injector here."""

from __future__ import annotations

from collections.abc import Iterator

from meshbox.contracts import AdmissionRequest, Obj, Objects
from meshbox.mesh import webhooks
from meshbox.mesh.revisions import REVISION

__all__ = ["without_injector"]


def without_injector(objects: Objects, request: AdmissionRequest) -> str:
    """Why a pod that names a revision gets no sidecar; empty where it names none, or one that is served."""
    labels = request.object["metadata"].get("labels") or {}
    namespace = objects.find("namespaces", request.namespace or "") or {"metadata": {}}
    around = namespace["metadata"].get("labels") or {}
    if labels.get("sidecar.istio.io/inject") == "false" or "istio-injection" in around:
        return ""
    revision = around.get(REVISION) or labels.get(REVISION)
    known = sorted(set(_revisions(objects)))
    if not revision or not known or revision in known:
        return ""
    named = f"namespace {request.namespace}" if around.get(REVISION) else "this pod"
    return (
        f'no sidecar: {named} asks for revision "{revision}" of Istio, and no injector serves that; '
        f"there is {', '.join(known)}"
    )


def _revisions(objects: Objects) -> Iterator[str]:
    for configuration in objects.list(webhooks.MUTATING):
        for webhook in configuration.get("webhooks") or []:
            if str(webhook.get("name", "")).endswith("sidecar-injector.istio.io"):
                yield from _named(webhook.get("namespaceSelector") or {})
                yield from _named(webhook.get("objectSelector") or {})


def _named(selector: Obj) -> Iterator[str]:
    if revision := (selector.get("matchLabels") or {}).get(REVISION):
        yield revision
    for one in selector.get("matchExpressions") or []:
        if one.get("key") == REVISION and one.get("operator") == "In":
            yield from one.get("values") or []
