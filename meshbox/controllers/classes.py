# SPDX-License-Identifier: Apache-2.0
"""Classes that objects name: priorities of pods, RuntimeClasses that have to be there, the class of an Ingress.

Source: the admission plugins Priority, RuntimeClass and DefaultIngressClass (Kubernetes 1.35), in their words.
"""

from __future__ import annotations

from meshbox.contracts import AdmissionRequest, Obj, Objects
from meshbox.controllers.meta import forbidden
from meshbox.settings import SandboxSettings

__all__ = ["PRIORITIES", "ClassAdmission"]

_INGRESSES, _DEFAULT = "ingressclasses.networking.k8s.io", "ingressclass.kubernetes.io/is-default-class"
PRIORITIES, _RUNTIMES = "priorityclasses.scheduling.k8s.io", "runtimeclasses.node.k8s.io"
_NONE: Obj = {"value": 0, "preemptionPolicy": "PreemptLowerPriority"}
_KEPT = ("priority", "preemptionPolicy")
_WORDS = {"priority": "integer value of priority", "preemptionPolicy": "string value of PreemptionPolicy"}


class ClassAdmission:
    """Gives new pods the priority of their class, and refuses those whose class is not there.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings) -> None:
        self._objects = objects
        self._legacy = settings.legacy

    def mutate(self, request: AdmissionRequest) -> None:
        """Set a new pod's priority; one that is changed keeps its own.

        Raises:
            ApiError: 403 where there is no such class, or the pod says otherwise itself.
        """
        if request.subresource or request.operation == "DELETE":
            return
        new = request.operation == "CREATE"
        if request.resource == "ingresses.networking.k8s.io" and new and not self._legacy:
            self._classify(request.object)
        if request.resource != "pods":
            return
        spec = request.object["spec"]
        if request.old_object is not None:
            before = request.old_object["spec"]
            request.object["spec"] = {**{key: before[key] for key in _KEPT if key in before}, **spec}
            return
        runtime = spec.get("runtimeClassName")
        if runtime and not self._legacy and self._objects.see(_RUNTIMES, runtime) is None:
            raise forbidden(request, f'pod rejected: RuntimeClass "{runtime}" not found')
        name = spec.get("priorityClassName")
        found = self._objects.see(PRIORITIES, name) if name else self._default()
        if name and found is None:
            raise forbidden(request, f"no PriorityClass with name {name} was found")
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
        given = found or _NONE
        asked = {"priority": given["value"]} | (
            {} if self._legacy else {"preemptionPolicy": given.get("preemptionPolicy")}
        )
        for field, value in asked.items():
            if value is None:
                continue
            if spec.get(field) not in (None, value):
                computed = f"priority admission controller computed {value} from the given PriorityClass name"
                said = f"the {_WORDS[field]} ({spec[field]}) must not be provided in pod spec; {computed}"
                raise forbidden(request, said)
            spec[field] = value

    def _classify(self, ingress: Obj) -> None:
        """Give an Ingress that names no class the one that is everybody's: of several the newest."""
        old = (ingress["metadata"].get("annotations") or {}).get("kubernetes.io/ingress.class")
        every = [one["metadata"] for one in self._objects.view(_INGRESSES)]
        every = [meta for meta in every if (meta.get("annotations") or {}).get(_DEFAULT) == "true"]
        spec = ingress.get("spec")
        if every and old is None and isinstance(spec, dict) and spec.get("ingressClassName") is None:
            newest = max(meta["creationTimestamp"] for meta in every)
            names = [meta["name"] for meta in every if meta["creationTimestamp"] == newest]
            spec["ingressClassName"] = min(names)

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse a second class that is everybody's.

        Raises:
            ApiError: 403.
        """
        if request.resource != PRIORITIES or request.operation == "DELETE" or not request.object.get("globalDefault"):
            return
        known = self._default()
        if known is not None and (request.operation == "CREATE" or known["metadata"]["name"] != request.name):
            name = known["metadata"]["name"]
            raise forbidden(request, f"PriorityClass {name} is already marked as default. Only one default can exist")

    def _default(self) -> Obj | None:
        every = [one for one in self._objects.view(PRIORITIES) if one.get("globalDefault")]
        return min(every, key=lambda one: int(one["value"]), default=None)
