# SPDX-License-Identifier: Apache-2.0
"""HorizontalPodAutoscaler: keeps its target within bounds, and says that there are no metrics to scale by."""

from __future__ import annotations

from typing import Any

from meshbox.contracts import ApiError, Event, Obj
from meshbox.controllers.kinds import Kinds
from meshbox.controllers.meta import MANAGER, Context, condition, put_condition, write_status
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["AutoscalerController"]

RESOURCE = "horizontalpodautoscalers.autoscaling"
COMPONENT = "horizontal-pod-autoscaler"
_TARGETS = ("deployments.apps", "replicasets.apps", "statefulsets.apps")
_NO_METRICS = (
    "unable to get metrics for resource {name}: unable to fetch metrics from resource metrics API: "
    "the server could not find the requested resource (get pods.metrics.k8s.io)"
)


class AutoscalerController:
    """The sandbox has no metrics server, so all that can be done is what needs no metrics."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kinds = Kinds(context.objects)
        self._targets: dict[Key, tuple[str, str]] = {}
        self.reconciler = Reconciler("autoscaler", context.objects, self._reconcile).watches_events(
            RESOURCE, self._keys
        )
        for resource in _TARGETS:
            self.reconciler.watches(resource, self._target_keys)

    def _keys(self, event: Event) -> list[Key]:
        key = object_key(event.object)
        if event.type == "DELETED":
            self._targets.pop(key, None)
        else:
            target = event.object["spec"]["scaleTargetRef"]
            self._targets[key] = (target["kind"], target["name"])
        return [key]

    def _target_keys(self, obj: Obj) -> list[Key]:
        namespace, name = object_key(obj)
        target = (obj["kind"], name)
        return [key for key, known in self._targets.items() if known == target and key[0] == namespace]

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        autoscaler = self._context.objects.find(RESOURCE, name, namespace)
        if autoscaler is None or "deletionTimestamp" in autoscaler["metadata"]:
            return
        status: dict[str, Any] = {
            **(autoscaler.get("status") or {}),
            "conditions": list((autoscaler.get("status") or {}).get("conditions") or ()),
        }
        # Without metrics: null in Kubernetes 1.14 and now.
        status["currentMetrics"] = None
        self._scale(autoscaler, status)
        write_status(self._context, RESOURCE, autoscaler, status)

    def _condition(self, status: Obj, type_: str, value: bool, reason: str, message: str) -> bool:
        """Set a condition; returns whether that is news."""
        known = condition(status, type_)
        put_condition(
            status,
            {
                "type": type_,
                "status": str(value),
                "reason": reason,
                "message": message,
                "lastTransitionTime": self._context.now(),
            },
        )
        return known is None or (known["status"], known.get("reason")) != (str(value), reason)

    def _scale(self, autoscaler: Obj, status: dict[str, Any]) -> None:
        objects, spec = self._context.objects, autoscaler["spec"]
        reference, namespace = spec["scaleTargetRef"], autoscaler["metadata"]["namespace"]
        resource = self._kinds.resource(reference.get("apiVersion", "apps/v1"), reference["kind"])
        if resource is None and reference.get("apiVersion", "").startswith("extensions/"):
            # Kubernetes 1.14 serves Deployments under their first group as well.
            resource = self._kinds.resource("apps/v1", reference["kind"])
        target = objects.find(resource, reference["name"], namespace) if resource else None
        if resource is None or target is None:
            plural = (resource or f"{reference['kind'].lower()}s.").partition(".")
            problem = f'{plural[0]}.{plural[2]} "{reference["name"]}" not found'
            message = f"the HPA controller was unable to get the target's current scale: {problem}"
            status.update(currentReplicas=0, desiredReplicas=0)
            if self._condition(status, "AbleToScale", False, "FailedGetScale", message):
                objects.event(autoscaler, "Warning", "FailedGetScale", problem, COMPONENT)
            return
        message = "the HPA controller was able to get the target's current scale"
        self._condition(status, "AbleToScale", True, "SucceededGetScale", message)
        current = target["spec"].get("replicas", 1)
        wanted = self._within_bounds(spec, current)
        if not current:
            message = "scaling is disabled since the replica count of the target is zero"
            self._condition(status, "ScalingActive", False, "ScalingDisabled", message)
        else:
            self._say_no_metrics(autoscaler, status)
        if wanted != current:
            self._resize(autoscaler, resource, target, current, wanted)
            status["lastScaleTime"] = self._context.now()
        status["currentReplicas"] = (target.get("status") or {}).get("replicas", 0)
        status["desiredReplicas"] = wanted if wanted != current else status.get("desiredReplicas", 0)

    @staticmethod
    def _within_bounds(spec: Obj, current: int) -> int:
        if not current:
            return 0
        return int(min(max(current, spec.get("minReplicas") or 1), spec["maxReplicas"]))

    def _resize(self, autoscaler: Obj, resource: str, target: Obj, current: int, wanted: int) -> None:
        few = wanted > current
        reason = (
            "Current number of replicas below Spec.MinReplicas"
            if few
            else "Current number of replicas above Spec.MaxReplicas"
        )
        meta = target["metadata"]
        try:
            self._context.objects.patch(
                resource, meta["name"], {"spec": {"replicas": wanted}}, meta["namespace"], manager=MANAGER
            )
        except ApiError as error:
            message = f"New size: {wanted}; reason: {reason}; error: {error.message}"
            self._context.objects.event(autoscaler, "Warning", "FailedRescale", message, COMPONENT)
            raise
        message = f"New size: {wanted}; reason: {reason}"
        self._context.objects.event(autoscaler, "Normal", "SuccessfulRescale", message, COMPONENT)

    def _say_no_metrics(self, autoscaler: Obj, status: Obj) -> None:
        metrics = autoscaler["spec"].get("metrics") or [{"type": "Resource", "resource": {"name": "cpu"}}]
        first = metrics[0]
        name = (first.get("resource") or first.get("containerResource") or {}).get("name", "cpu")
        problem = _NO_METRICS.format(name=name)
        if not self._context.settings.legacy:
            problem = f"failed to get {name} utilization: {problem}"
        message = f"the HPA was unable to compute the replica count: {problem}"
        if self._condition(status, "ScalingActive", False, "FailedGetResourceMetric", message):
            objects = self._context.objects
            objects.event(autoscaler, "Warning", "FailedGetResourceMetric", problem, COMPONENT)
            computed = f"invalid metrics (1 invalid out of {len(metrics)}), first error is: {problem}"
            objects.event(autoscaler, "Warning", "FailedComputeMetricsReplicas", computed, COMPONENT)
