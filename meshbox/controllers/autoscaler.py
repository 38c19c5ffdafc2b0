# SPDX-License-Identifier: Apache-2.0
"""HorizontalPodAutoscaler: every fifteen seconds, as many replicas as its metrics ask for, within its bounds."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from labkit.ground.labels import matches
from meshbox.contracts import ApiError, Event, Obj, PodUsage, ResourceMetrics
from meshbox.controllers.kinds import Kinds
from meshbox.controllers.meta import MANAGER, Context, condition, put_condition, write_status
from meshbox.controllers.replica_count import CountError, Proposal, propose
from meshbox.controllers.scaling_pace import Pace
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["AutoscalerController"]

RESOURCE = "horizontalpodautoscalers.autoscaling"
COMPONENT = "horizontal-pod-autoscaler"
_KINDS = {
    "Resource": ("resource", "Resource"),
    "ContainerResource": ("containerResource", "ContainerResource"),
    "Pods": ("pods", "Pods"),
    "Object": ("object", "Object"),
    "External": ("external", "External"),
}


class _Looked(Struct):
    """What is remembered of an autoscaler between two looks."""

    next: float
    pace: Pace = field(default_factory=Pace)


class _MetricError(Exception):
    """A metric that cannot be had.

    Args:
        reason: Of the event and the condition.
        problem: What is wrong, in the autoscaler's words.
        whole: The same, as it is told of all metrics together.
    """

    def __init__(self, reason: str, problem: str, whole: str) -> None:
        super().__init__(problem)
        self.reason, self.problem, self.whole = reason, problem, whole


class AutoscalerController:
    """Keeps targets at the size that their autoscalers find.

    Args:
        context: What every controller is given.
        metrics: Whom to ask what pods use; None where nobody can be asked.
    """

    period = 15.0
    """Seconds between two looks, and before the first."""

    def __init__(self, context: Context, metrics: ResourceMetrics | None = None) -> None:
        self._context = context
        self._metrics = metrics
        self._kinds = Kinds(context.objects)
        self._looked: dict[Key, _Looked] = {}
        self.reconciler = Reconciler("autoscaler", context.objects, self._reconcile).watches_events(
            RESOURCE, self._keys
        )

    def _keys(self, event: Event) -> list[Key]:
        key = object_key(event.object)
        if event.type == "DELETED":
            self._looked.pop(key, None)
        return [key]

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        autoscaler = self._context.objects.find(RESOURCE, name, namespace)
        if autoscaler is None or "deletionTimestamp" in autoscaler["metadata"]:
            return None
        now = self._context.clock()
        looked = self._looked.setdefault(key, _Looked(now + self.period))
        if now < looked.next:
            return looked.next - now
        looked.next = now + self.period
        status: dict[str, Any] = {
            **(autoscaler.get("status") or {}),
            "conditions": list((autoscaler.get("status") or {}).get("conditions") or ()),
        }
        await self._look(autoscaler, status, looked.pace)
        write_status(self._context, RESOURCE, autoscaler, status)
        return self.period

    def _condition(self, status: Obj, type_: str, value: bool, reason: str, message: str) -> None:
        known = condition(status, type_)
        stamp = self._context.now()
        if known is not None and known["status"] == str(value):
            stamp = known.get("lastTransitionTime") or stamp
        told = {"type": type_, "status": str(value), "reason": reason, "message": message, "lastTransitionTime": stamp}
        put_condition(status, told)

    def _target(self, autoscaler: Obj, status: dict[str, Any]) -> tuple[str, Obj] | None:
        """The resource and the object that is to be scaled; None where there is none, which the status then says."""
        reference, namespace = autoscaler["spec"]["scaleTargetRef"], autoscaler["metadata"]["namespace"]
        resource = self._kinds.resource(reference.get("apiVersion", "apps/v1"), reference["kind"])
        if resource is None and reference.get("apiVersion", "").startswith("extensions/"):
            # Kubernetes 1.14 serves Deployments under their first group as well.
            resource = self._kinds.resource("apps/v1", reference["kind"])
        target = self._context.objects.find(resource, reference["name"], namespace) if resource else None
        if resource is not None and target is not None:
            return resource, target
        plural = (resource or f"{reference['kind'].lower()}s.").partition(".")
        problem = f'{plural[0]}.{plural[2]} "{reference["name"]}" not found'
        message = f"the HPA controller was unable to get the target's current scale: {problem}"
        status.update(currentReplicas=0, desiredReplicas=0)
        status.setdefault("currentMetrics", None)
        self._condition(status, "AbleToScale", False, "FailedGetScale", message)
        self._context.objects.event(autoscaler, "Warning", "FailedGetScale", problem, COMPONENT)
        return None

    async def _look(self, autoscaler: Obj, status: dict[str, Any], pace: Pace) -> None:
        found = self._target(autoscaler, status)
        if found is None:
            return
        resource, target = found
        spec, current = autoscaler["spec"], target["spec"].get("replicas", 1)
        low, high = spec.get("minReplicas") or 1, spec["maxReplicas"]
        message = "the HPA controller was able to get the target's current scale"
        self._condition(status, "AbleToScale", True, "SucceededGetScale", message)
        status["currentReplicas"] = current
        wanted, reason = current, ""
        if not current:
            message = "scaling is disabled since the replica count of the target is zero"
            self._condition(status, "ScalingActive", False, "ScalingDisabled", message)
            status["currentMetrics"] = None
        elif current > high:
            wanted, reason = high, "Current number of replicas above Spec.MaxReplicas"
        elif current < low:
            wanted, reason = low, "Current number of replicas below Spec.MinReplicas"
        else:
            proposal = await self._proposal(autoscaler, target, current, status)
            if proposal is None:
                status.setdefault("desiredReplicas", 0)
                return
            reason = "All metrics below target" if proposal.replicas < current else f"{proposal.name} above target"
            wanted = self._paced(spec, status, pace, current, proposal.replicas)
        status.setdefault("currentMetrics", None)
        if wanted != current:
            self._resize(autoscaler, resource, target, wanted, reason)
            pace.changed(self._context.clock(), wanted - current)
            message = f"the HPA controller was able to update the target scale to {wanted}"
            self._condition(status, "AbleToScale", True, "SucceededRescale", message)
            status["lastScaleTime"] = self._context.now()
        status["desiredReplicas"] = wanted

    def _paced(self, spec: Obj, status: dict[str, Any], pace: Pace, current: int, wanted: int) -> int:
        behavior, now = spec.get("behavior") or {}, self._context.clock()
        settled, reason, message = pace.settle(behavior, current, wanted, now)
        self._condition(status, "AbleToScale", True, reason, message)
        bounds = (spec.get("minReplicas") or 1, spec["maxReplicas"])
        limited, reason, message = pace.limit(behavior, current, settled, bounds, now)
        self._condition(status, "ScalingLimited", reason != "DesiredWithinRange", reason, message)
        return limited

    def _resize(self, autoscaler: Obj, resource: str, target: Obj, wanted: int, reason: str) -> None:
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

    async def _proposal(self, autoscaler: Obj, target: Obj, current: int, status: dict[str, Any]) -> Proposal | None:
        """The most that any metric asks for; None where that cannot be told, which the status then says."""
        metrics = autoscaler["spec"].get("metrics") or [{"type": "Resource", "resource": {"name": "cpu"}}]
        proposals, errors, statuses = [], [], list[Obj]()
        used = await self._used()
        for metric in metrics:
            try:
                proposals.append(self._one(metric, target, used, current))
                statuses.append(proposals[-1].status)
            except _MetricError as error:
                statuses.append({"type": ""})
                errors.append(error)
                self._context.objects.event(autoscaler, "Warning", error.reason, error.problem, COMPONENT)
        best = max(proposals, key=lambda one: one.replicas, default=None)
        if errors and (best is None or best.replicas < current):
            first = errors[0]
            message = f"the HPA was unable to compute the replica count: {first.problem}"
            self._condition(status, "ScalingActive", False, first.reason, message)
            status["currentMetrics"] = None if self._context.settings.legacy else statuses
            computed = f"invalid metrics ({len(errors)} invalid out of {len(metrics)}), first error is: {first.whole}"
            self._context.objects.event(autoscaler, "Warning", "FailedComputeMetricsReplicas", computed, COMPONENT)
            return None
        assert best is not None
        message = f"the HPA was able to successfully calculate a replica count from {best.name}"
        self._condition(status, "ScalingActive", True, "ValidMetricFound", message)
        status["currentMetrics"] = statuses
        return best

    async def _used(self) -> dict[tuple[str, str], PodUsage] | str:
        """What pods use; or why nobody can tell."""
        if self._metrics is None:
            return "the server could not find the requested resource"
        try:
            return await self._metrics.pods()
        except ApiError as error:
            return error.message

    def _one(self, metric: Obj, target: Obj, used: dict[tuple[str, str], PodUsage] | str, current: int) -> Proposal:
        kind, word = _KINDS[metric["type"]]
        source, reason = metric.get(kind) or {}, f"FailedGet{word}Metric"
        if kind not in ("resource", "containerResource"):
            # No adapter serves these APIs here.
            name = (source.get("metric") or {}).get("name", "")
            api = "external" if kind == "external" else "custom"
            problem = (
                f"unable to get metric {name}: unable to fetch metrics from {api} metrics API: "
                f"the server could not find the requested resource"
            )
            raise _MetricError(reason, problem, f"failed to get {kind} metric value: {problem}")
        name = source["name"]
        try:
            if isinstance(used, str):
                problem = f"unable to fetch metrics from resource metrics API: {used} (get pods.metrics.k8s.io)"
                raise CountError(f"unable to get metrics for resource {name}: {problem}")
            return propose(metric, self._pods(target), used, current, self._context.clock())
        except CountError as error:
            share = (source.get("target") or {}).get("averageValue") is None
            problem = f"failed to get {name} {'utilization' if share else 'usage'}: {error}"
            whole = f"failed to get {name} {'container' if kind == 'containerResource' else 'resource'} metric value: "
            if self._context.settings.legacy:
                problem, whole = str(error), ""
            raise _MetricError(reason, problem, whole + problem) from error

    def _pods(self, target: Obj) -> list[Obj]:
        selector = target["spec"].get("selector") or {}
        if target["kind"] == "ReplicationController":
            selector = {"matchLabels": selector}
        pods = self._context.objects.view("pods", target["metadata"]["namespace"])
        return [pod for pod in pods if matches(selector, pod["metadata"].get("labels"))]
