"""Whether a pod gets a sidecar, by the rules of Istio's injector; what it gets is the release's template."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from labkit import reading
from labkit.sandbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from labkit.sandbox.mesh import inject_current, inject_legacy, webhooks
from labkit.sandbox.mesh.monitoring import MeshMonitor
from labkit.sandbox.mesh.settings import mesh_settings
from labkit.sandbox.mesh.webhooks import selector_matches
from labkit.sandbox.settings import SandboxSettings

__all__ = ["Template", "inject", "wanted"]

_NEVER = {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}
_YES, _NO = {"y", "yes", "true", "on"}, {"n", "no", "false", "off"}
_SWITCH = "sidecar.istio.io/inject"
_ROOT = "istio-system"


@dataclass(frozen=True)
class Template:
    """What the injector was installed with.

    Args:
        release: The sandbox's release, for what the mesh does not say.
        values: The installation's values (`global.hub`, `global.proxy` …).
        mesh: The mesh's settings.
        policy: "enabled" or "disabled": what becomes of pods that say nothing.
        never: Selectors of pods that never get a sidecar.
        always: Selectors of pods that always get one.
    """

    release: str
    values: Obj
    mesh: Obj
    policy: str = "enabled"
    never: tuple[Obj, ...] = ()
    always: tuple[Obj, ...] = ()

    @classmethod
    def of(cls, objects: Objects, release: str) -> Template:
        """Read the mesh's own ConfigMaps; where they cannot be read, the release's defaults hold."""
        injector = (objects.find("configmaps", "istio-sidecar-injector", _ROOT) or {}).get("data") or {}
        mesh = (objects.find("configmaps", "istio", _ROOT) or {}).get("data") or {}
        config = _settings(injector.get("config", ""))
        return cls(
            release=release,
            values=_values(injector.get("values", "")),
            mesh=mesh_settings(mesh.get("mesh", "")),
            policy=str(config.get("policy") or "enabled"),
            never=tuple(config.get("neverInjectSelector") or ()),
            always=tuple(config.get("alwaysInjectSelector") or ()),
        )

    def value(self, path: str, default: Any = "") -> Any:
        """A value below `global` by its dotted path, `default` where the installation does not give one."""
        found: Any = self.values.get("global") or {}
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return default if found is None else found

    def proxy_config(self, key: str, default: Any) -> Any:
        """A value of the mesh's `defaultConfig`."""
        found = (self.mesh.get("defaultConfig") or {}).get(key)
        return default if found is None else found

    def image(self, name: str) -> str:
        """An image by its short name, with the installation's hub and tag."""
        if "/" in name:
            return name
        return f"{self.value('hub') or 'docker.io/istio'}/{name}:{self.value('tag') or self.release}"


@functools.lru_cache(maxsize=4)
def _values(text: str) -> Obj:
    # An installation whose values cannot be read is injected with the release's own.
    try:
        found = reading.json_value(text) if text else {}
    except reading.ReadingError:
        return {}
    return found if isinstance(found, dict) else {}


@functools.lru_cache(maxsize=4)
def _settings(text: str) -> Obj:
    # The template itself is Go's; only the switches before it are read.
    head = "\n".join(line for line in text.split("\ntemplate")[0].splitlines())
    return mesh_settings(head)


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
    return bool(selector) and selector_matches(selector, labels)


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
