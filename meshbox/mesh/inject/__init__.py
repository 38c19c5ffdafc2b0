# SPDX-License-Identifier: Apache-2.0
"""Whether a pod gets a sidecar, by the rules of Istio's injector; what it gets is the release's template."""

from __future__ import annotations

import json

from labkit.ground.labels import matches
from meshbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from meshbox.mesh import webhooks
from meshbox.mesh.inject import current as inject_current
from meshbox.mesh.inject import legacy as inject_legacy
from meshbox.mesh.inject.template import Template
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.settings import SandboxSettings

__all__ = ["Template", "inject", "wanted"]

_NEVER = {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}
_YES, _NO = {"y", "yes", "true", "on"}, {"n", "no", "false", "off"}
_SWITCH = "sidecar.istio.io/inject"


def wanted(pod: Obj, namespace: str, template: Template) -> bool:
    """Whether the injector gives `pod` a sidecar."""
    spec = pod.get("spec") or {}
    labels, annotations = pod["metadata"].get("labels") or {}, pod["metadata"].get("annotations") or {}
    if spec.get("hostNetwork") or namespace in _NEVER or "sidecar.istio.io/status" in annotations:
        return False
    said = str(labels.get(_SWITCH) or annotations.get(_SWITCH) or "").lower()
    if said in _YES:
        return True
    if said in _NO:
        return False
    if any(_chooses(selector, labels) for selector in template.never):
        return False
    if any(_chooses(selector, labels) for selector in template.always):
        return True
    return template.policy == "enabled"


def _chooses(selector: Obj, labels: dict[str, str]) -> bool:
    # Here, unlike in Kubernetes, an empty selector chooses nothing.
    return bool(selector) and matches(selector, labels)


def inject(
    objects: Objects, settings: SandboxSettings, request: AdmissionRequest, monitor: MeshMonitor | None = None
) -> None:
    """Give the pod in `request` its sidecar, if a stored webhook of Istio's injector says so; `monitor` counts it.

    Raises:
        ApiError: 500, as when the API server cannot reach the injector; 400 where the pod's annotations, or the
            installation's values, are nothing that a template could be filled with.
    """
    for webhook in webhooks.matching(objects, webhooks.MUTATING, request):
        if not str(webhook.get("name", "")).endswith("sidecar-injector.istio.io"):
            continue
        if not webhooks.available(objects, webhook):
            if webhook.get("failurePolicy") == "Ignore":
                continue
            raise webhooks.unavailable(objects, webhook, legacy=settings.legacy)
        template = Template.of(objects, settings.release)
        chosen = wanted(request.object, request.namespace or "default", template)
        if monitor is not None:
            monitor.injected(wanted=chosen)
        if chosen:
            apply = inject_legacy.apply if settings.legacy else inject_current.apply
            try:
                apply(request.object, request.namespace or "default", template)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise _failed(request, webhook) from error
            # What was written is in part the installation's own values: the pod gets a copy.
            request.object["spec"] = json.loads(json.dumps(request.object["spec"]))


def _failed(request: AdmissionRequest, webhook: Obj) -> ApiError:
    annotations = request.object["metadata"].get("annotations") or {}
    own = sorted(key for key in annotations if key.partition("/")[0].endswith("istio.io") and key != _SWITCH)
    where = f"its annotations {', '.join(own)}" if own else "the values in ConfigMap istio-sidecar-injector"
    why = f"the sidecar's template cannot be filled in, look at {where}"
    return ApiError(400, "BadRequest", f'admission webhook "{webhook["name"]}" denied the request: {why}')
