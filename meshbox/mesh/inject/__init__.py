# SPDX-License-Identifier: Apache-2.0
"""Whether a pod gets a sidecar, by the rules of Istio's injector; what it gets is the release's template."""

from __future__ import annotations

import asyncio
import contextlib
import json

from labkit.ground.labels import matches
from meshbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from meshbox.mesh import webhooks
from meshbox.mesh.attachment import GATEWAY_NAME
from meshbox.mesh.inject import current as inject_current
from meshbox.mesh.inject import legacy as inject_legacy
from meshbox.mesh.inject.annotations import check, unplayed
from meshbox.mesh.inject.proxy_config import effective
from meshbox.mesh.inject.revisions import without_injector
from meshbox.mesh.inject.template import Template
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.pilot_variables import variables_unplayed
from meshbox.settings import SandboxSettings

__all__ = ["Template", "fill", "inject", "wanted", "warn"]

_NEVER = {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}
_YES = {"y", "yes", "true", "on"}
_SWITCH = "sidecar.istio.io/inject"
_TEMPLATES = {
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
"""Where the template of the pods is that a resource makes."""


def wanted(pod: Obj, namespace: str, template: Template, *, legacy: bool = False) -> bool:
    """Whether the injector gives `pod` a sidecar."""
    spec = pod.get("spec") or {}
    labels, annotations = pod["metadata"].get("labels") or {}, pod["metadata"].get("annotations") or {}
    if spec.get("hostNetwork") or namespace in _NEVER or "sidecar.istio.io/status" in annotations:
        return False
    # Istio 1.2 knew no such label.
    by_label = None if legacy else labels.get(_SWITCH)
    said = str((annotations.get(_SWITCH) if by_label is None else by_label) or "").lower()
    if template.policy not in ("enabled", "disabled"):
        return False
    if said:
        return said in _YES
    if any(_chooses(selector, labels) for selector in template.never):
        return False
    if any(_chooses(selector, labels) for selector in template.always):
        return True
    return template.policy == "enabled"


def _chooses(selector: Obj, labels: dict[str, str]) -> bool:
    # Here, unlike in Kubernetes, an empty selector chooses nothing.
    return bool(selector) and matches(selector, labels)


def warn(request: AdmissionRequest, *, legacy: bool) -> None:
    """Say of a workload that is written which annotations of its pods, and variables of istiod, are not played."""
    found: Obj = request.object
    for part in _TEMPLATES.get(request.resource, ()):
        found = found.get(part) or {}
    if found is request.object:
        return
    if annotations := (found.get("metadata") or {}).get("annotations"):
        request.warnings += unplayed(annotations, legacy=legacy)
    request.warnings += () if legacy else variables_unplayed(found)


def inject(
    objects: Objects, settings: SandboxSettings, request: AdmissionRequest, monitor: MeshMonitor | None = None
) -> None:
    """Give the pod in `request` its sidecar, if a stored webhook of Istio's injector says so; `monitor` counts it.

    Raises:
        ApiError: 500, as when the API server cannot reach the injector; 400 where the pod's annotations, or the
            installation's values, are nothing that a template could be filled with.
    """
    met = False
    for webhook in webhooks.matching(objects, webhooks.MUTATING, request):
        if not str(webhook.get("name", "")).endswith("sidecar-injector.istio.io"):
            continue
        met = True
        if not webhooks.available(objects, webhook):
            if webhook.get("failurePolicy") == "Ignore":
                continue
            raise webhooks.unavailable(objects, webhook, legacy=settings.legacy)
        template = Template.of(objects, settings.release, webhooks.revision(objects, webhook))
        chosen = wanted(request.object, request.namespace or "default", template, legacy=settings.legacy)
        if monitor is not None:
            monitor.injected(wanted=chosen)
        if chosen:
            annotations = request.object["metadata"].get("annotations") or {}
            sentences = list(unplayed(annotations, legacy=settings.legacy))
            address = "" if settings.legacy else str(template.value("caAddress") or "")
            if address and not address.startswith("istiod"):
                sentences.append(f"{address} (values.global.caAddress) is not asked: the mesh has one authority")
            _tell(objects, request, "NotPlayed", sentences)
            try:
                fill(objects, request, template, legacy=settings.legacy)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise _failed(request, webhook, error) from error
            # What was written is in part the installation's own values: the pod gets a copy.
            request.object["spec"] = json.loads(json.dumps(request.object["spec"]))
    if not met and not settings.legacy and (problem := without_injector(objects, request)):
        _tell(objects, request, "NotInjected", [problem])
    if not settings.legacy:
        meta = request.object["metadata"]
        # Its Deployment is istiod's own, so nobody has read the warning.
        told = (meta.get("annotations") or {}) if GATEWAY_NAME in (meta.get("labels") or {}) else {}
        _tell(objects, request, "NotPlayed", [*variables_unplayed(request.object), *unplayed(told, legacy=False)])


def fill(objects: Objects, request: AdmissionRequest, template: Template, *, legacy: bool) -> None:
    """Give the pod in `request` what the installation's template makes of it.

    Raises:
        ValueError: Its annotations, or the installation's values, are nothing that a template could be filled with.
    """
    namespace = request.namespace or "default"
    check(request.object["metadata"].get("annotations") or {}, legacy=legacy)
    if legacy:
        inject_legacy.apply(request.object, namespace, template)
        return
    root = str(template.mesh.get("rootNamespace") or "istio-system")
    config = effective(objects, template.mesh, namespace, request.object, root)
    inject_current.apply(request.object, namespace, template, config)


def _tell(objects: Objects, request: AdmissionRequest, reason: str, sentences: list[str]) -> None:
    """Warn whoever creates the pod, and leave events on it, as it is mostly a controller that does."""
    request.warnings += sentences
    if not sentences or request.dry_run:
        return

    def events() -> None:
        pod = objects.find("pods", request.object["metadata"].get("name") or request.name, request.namespace)
        for sentence in sentences if pod is not None else ():
            objects.event(pod or {}, "Warning", reason, sentence, "sidecar-injector")

    # There is no pod yet that an event could be about. Where no loop runs, nobody reads events.
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().call_soon(events)


def _failed(request: AdmissionRequest, webhook: Obj, error: Exception) -> ApiError:
    annotations = request.object["metadata"].get("annotations") or {}
    own = sorted(key for key in annotations if key.partition("/")[0].endswith("istio.io") and key != _SWITCH)
    where = f"its annotations {', '.join(own)}" if own else "the values in ConfigMap istio-sidecar-injector"
    why = f"the sidecar's template cannot be filled in, look at {where}"
    if type(error) is ValueError:
        why = f"failed to run injection template: {error}"
    return ApiError(400, "BadRequest", f'admission webhook "{webhook["name"]}" denied the request: {why}')
