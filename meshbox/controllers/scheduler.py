# SPDX-License-Identifier: Apache-2.0
"""The scheduler: binds each pod to the node, if the node takes it."""

from __future__ import annotations

from typing import Any

from labkit.ground.labels import Requirement, selects
from meshbox.contracts import Event, Obj
from meshbox.controllers.meta import Context, put_condition
from meshbox.controllers.pods import is_finished, is_terminating
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["Scheduler", "placement_changed", "refusal"]

COMPONENT = "default-scheduler"
MANAGER = "kube-scheduler"
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def _tolerates(pod: Obj, taint: Obj) -> bool:
    for toleration in pod["spec"].get("tolerations") or ():
        if toleration.get("effect") and toleration["effect"] != taint["effect"]:
            continue
        if toleration.get("operator", "Equal") == "Exists":
            if toleration.get("key", "") in ("", taint["key"]):
                return True
        elif toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


def _affine(pod: Obj, node: Obj) -> bool:
    labels = node["metadata"].get("labels") or {}
    if not selects(pod["spec"].get("nodeSelector"), labels):
        return False
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not affinity:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        all(Requirement.of(item).fits(labels) for item in term.get("matchExpressions") or ())
        and all(Requirement.of(item).fits(fields) for item in term.get("matchFields") or ())
        for term in affinity["nodeSelectorTerms"]
        if term.get("matchExpressions") or term.get("matchFields")
    )


def refusal(pod: Obj, node: Obj, *, legacy: bool) -> str | None:
    """Why `node` does not take `pod`, in the scheduler's words; None where it does."""
    spec = node.get("spec") or {}
    if spec.get("unschedulable") and not _tolerates(pod, {"key": _UNSCHEDULABLE, "effect": "NoSchedule"}):
        return "node(s) were unschedulable"
    for taint in spec.get("taints") or ():
        if taint["effect"] in ("NoSchedule", "NoExecute") and not _tolerates(pod, taint):
            if legacy:
                return "node(s) had taints that the pod didn't tolerate"
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if not _affine(pod, node):
        return "node(s) didn't match node selector" if legacy else "node(s) didn't match Pod's node affinity/selector"
    return None


def placement_changed(before: Obj, after: Obj) -> bool:
    """Whether a node changed in what pods ask of it; a heartbeat does not."""
    labels = before["metadata"].get("labels") != after["metadata"].get("labels")
    return labels or (before.get("spec") or {}) != (after.get("spec") or {})


class Scheduler:
    """Binds pods of the default scheduler; a pod that no node takes is tried again when a node changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._nodes: dict[str, Obj] = {}
        self._waiting: set[Key] = set()
        self.reconciler = (
            Reconciler("scheduler", context.objects, self._reconcile, about="pods")
            .watches_events("nodes", self._node_keys)
            .watches("pods", self._pod_keys)
        )

    def _node_keys(self, event: Event) -> list[Key]:
        name = event.object["metadata"]["name"]
        before = self._nodes.pop(name, None)
        if event.type != "DELETED":
            self._nodes[name] = event.object
            if before is not None and not placement_changed(before, event.object):
                return []
        return list(self._waiting)

    @staticmethod
    def _pod_keys(pod: Obj) -> list[Key]:
        return [] if pod["spec"].get("nodeName") or is_finished(pod) or is_terminating(pod) else [object_key(pod)]

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        pod = self._context.objects.find("pods", name, namespace)
        if pod is None or not self._pod_keys(pod):
            self._waiting.discard(key)
            return
        spec = pod["spec"]
        if spec.get("schedulerName", COMPONENT) != COMPONENT or spec.get("schedulingGates"):
            return
        reasons: dict[str, int] = {}
        for node in self._nodes.values():
            reason = refusal(pod, node, legacy=self._context.settings.legacy)
            if reason is None:
                self._waiting.discard(key)
                self._bind(pod, node["metadata"]["name"])
                return
            reasons[reason] = reasons.get(reason, 0) + 1
        self._waiting.add(key)
        self._say_unschedulable(pod, reasons)

    def _bind(self, pod: Obj, node: str) -> None:
        meta = pod["metadata"]
        objects = self._context.objects
        bound = objects.patch("pods", meta["name"], {"spec": {"nodeName": node}}, meta["namespace"], manager=MANAGER)
        status = bound.setdefault("status", {})
        put_condition(status, self._scheduled("True"))
        objects.update("pods", bound, subresource="status", manager=MANAGER)
        objects.event(
            bound,
            "Normal",
            "Scheduled",
            f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}",
            COMPONENT,
        )

    def _scheduled(self, value: str) -> dict[str, Any]:
        return {
            "type": "PodScheduled",
            "status": value,
            "lastProbeTime": None,
            "lastTransitionTime": self._context.now(),
        }

    def _say_unschedulable(self, pod: Obj, reasons: dict[str, int]) -> None:
        message = "no nodes available to schedule pods"
        if reasons:
            listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            none = f"0/{len(self._nodes)} nodes are available: "
            message = f"{none}{listed}."
            if not self._context.settings.legacy:
                message += f" preemption: {none}{len(self._nodes)} Preemption is not helpful for scheduling."
        objects = self._context.objects
        status = pod.setdefault("status", {})
        before = [dict(item) for item in status.get("conditions") or ()]
        put_condition(status, {**self._scheduled("False"), "reason": "Unschedulable", "message": message})
        if status["conditions"] != before:
            objects.update("pods", pod, subresource="status", manager=MANAGER)
            objects.event(pod, "Warning", "FailedScheduling", message, COMPONENT)
