# SPDX-License-Identifier: Apache-2.0
"""Pod Security: a namespace's labels say to which standard its pods are held, and of what their makers are told.

Source: k8s.io/pod-security-admission 0.35, its labels, order and words. There is no audit log for the mode `audit`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from meshbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from meshbox.controllers.meta import forbidden
from meshbox.controllers.pod_security.standards import LATEST, violations

__all__ = ["PodSecurity"]

_LABEL = "pod-security.kubernetes.io/"
_LEVELS = ("privileged", "baseline", "restricted")
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")
_WRITTEN = ("", "ephemeralcontainers")
_TEMPLATES = {
    **dict.fromkeys(("deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps"), ("spec",)),
    **dict.fromkeys(("replicationcontrollers", "jobs.batch"), ("spec",)),
    "cronjobs.batch": ("spec", "jobTemplate", "spec"),
    "podtemplates": (),
}
"""Kinds that make pods, and where their template is."""


class _Standard(Struct, frozen=True):
    level: str = "privileged"
    version: str = "latest"

    def found(self, pod: Obj) -> list[tuple[str, str]]:
        number = _VERSION.fullmatch(self.version)
        return violations(pod, self.level, int(number[1]) if number else LATEST)

    def broken(self, pod: Obj) -> str:
        """In which way a pod breaks it, with all details; "" where it does not."""
        said = ", ".join(f"{reason} ({detail})" for reason, detail in self.found(pod))
        return f'violate PodSecurity "{self}": {said}' if said else ""

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"


def _standard(labels: Mapping[str, str], mode: str) -> _Standard:
    """What one mode asks for; what is no level counts as the strictest where pods are refused, else as none."""
    level = labels.get(f"{_LABEL}{mode}", "privileged")
    if level not in _LEVELS:
        level = "restricted" if mode == "enforce" else "privileged"
    version = labels.get(f"{_LABEL}{mode}-version", "latest")
    return _Standard(level, version if _VERSION.fullmatch(version) else "latest")


def _warned_of(labels: Mapping[str, str]) -> _Standard:
    """Who only says what is refused is also told of it where makers of pods ask."""
    enforced, told = _standard(labels, "enforce"), _standard(labels, "warn")
    if f"{_LABEL}warn" in labels or labels.get(f"{_LABEL}enforce") not in _LEVELS[1:]:
        return told
    return _Standard(enforced.level, told.version if f"{_LABEL}warn-version" in labels else enforced.version)


def _wrong(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """The labels that say nothing, and what they may say."""
    found = []
    for mode in ("enforce", "audit", "warn"):
        level, version = f"{_LABEL}{mode}", f"{_LABEL}{mode}-version"
        if level in labels and labels[level] not in _LEVELS:
            found.append((level, f"must be one of {', '.join(_LEVELS)}"))
        if version in labels and labels[version] != "latest" and not _VERSION.fullmatch(labels[version]):
            found.append((version, 'must be "latest" or "v1.x"'))
    return found


class PodSecurity:
    """Holds pods to the standards of their namespaces.

    Args:
        objects: The cluster's objects.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def mutate(self, request: AdmissionRequest) -> None:
        """Change nothing."""

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse pods beyond what their namespace enforces, and tell of those beyond what it warns of.

        Raises:
            ApiError: 403 for such a pod, 422 for a namespace with a label that says nothing.
        """
        if request.operation == "DELETE":
            return
        if request.resource == "namespaces" and not request.subresource:
            self._namespace(request)
        elif request.resource == "pods" and request.subresource in _WRITTEN and _changed(request):
            labels = self._labels(request)
            if broken := _standard(labels, "enforce").broken(request.object):
                raise forbidden(request, broken.replace("violate", "violates", 1))
            _warn(request, labels, request.object)
        elif request.resource in _TEMPLATES and not request.subresource:
            template: Any = request.object
            for step in (*_TEMPLATES[request.resource], "template"):
                template = template.get(step) or {}
            _warn(request, self._labels(request), template)

    def _labels(self, request: AdmissionRequest) -> Mapping[str, str]:
        found = self._objects.see("namespaces", request.namespace or "") or {"metadata": {}}
        labels: Mapping[str, str] = found["metadata"].get("labels") or {}
        return labels

    def _namespace(self, request: AdmissionRequest) -> None:
        labels = request.object["metadata"].get("labels") or {}
        before = ((request.old_object or {}).get("metadata") or {}).get("labels") or {}
        wrong = [(label, labels[label], why) for label, why in _wrong(labels)]
        if wrong and wrong != [(label, before[label], why) for label, why in _wrong(before)]:
            raise _invalid(request.name, wrong)
        now, was = _standard(labels, "enforce"), _standard(before, "enforce")
        relaxed = now.version == was.version and _LEVELS.index(now.level) <= _LEVELS.index(was.level)
        if request.operation != "UPDATE" or now.level == "privileged" or relaxed:
            return
        breaking: dict[str, list[str]] = {}
        for pod in self._objects.view("pods", request.name):
            if found := now.found(pod):
                breaking.setdefault(", ".join(reason for reason, _ in found), []).append(pod["metadata"]["name"])
        if breaking:
            words = f'existing pods in namespace "{request.name}" violate the new PodSecurity enforce level "{now}"'
            request.warnings.append(words)
        request.warnings += sorted(f"{_named(names)}: {why}" for why, names in breaking.items())


def _named(names: list[str]) -> str:
    more = len(names) - 1
    return min(names) + (f" (and {more} other pod{'' if more == 1 else 's'})" if more else "")


def _warn(request: AdmissionRequest, labels: Mapping[str, str], pod: Obj) -> None:
    if broken := _warned_of(labels).broken(pod):
        request.warnings.append(f"would {broken}")


def _changed(request: AdmissionRequest) -> bool:
    """Whether a pod is new, or changed in what a standard is about: its images, its containers."""
    if request.old_object is None:
        return True
    kinds = ("initContainers", "containers", "ephemeralContainers")
    images = [
        [(one.get("name"), one.get("image")) for kind in kinds for one in obj["spec"].get(kind) or ()]
        for obj in (request.object, request.old_object)
    ]
    return images[0] != images[1]


def _invalid(name: str, wrong: list[tuple[str, str, str]]) -> ApiError:
    causes = [
        {
            "reason": "FieldValueInvalid",
            "message": f'Invalid value: "{value}": {why}',
            "field": f"metadata.labels[{label}]",
        }
        for label, value, why in wrong
    ]
    said = [f"{one['field']}: {one['message']}" for one in causes]
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details = {"name": name, "kind": "Namespace", "causes": causes}
    return ApiError(422, "Invalid", f'Namespace "{name}" is invalid: {text}', details)
