# SPDX-License-Identifier: Apache-2.0
"""The scheduler: binds each pod to the node, if the node takes it."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.ground.labels import Requirement, selects
from labkit.ground.quantity import Quantity
from meshbox.contracts import Event, Obj
from meshbox.controllers.meta import Context, put_condition
from meshbox.controllers.persistent import CLASSES, claims_of
from meshbox.controllers.pods import is_finished, is_terminating
from meshbox.controllers.quota import pod_usage
from meshbox.reconcile import Key, Reconciler, object_key
from meshbox.values import clone

__all__ = ["Scheduler", "placement_changed", "refusal", "shortage"]

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
    """Why `node` does not take `pod`, however much room it has, in the scheduler's words; None where it may."""
    spec = node.get("spec") or {}
    if spec.get("unschedulable") and not _tolerates(pod, {"key": _UNSCHEDULABLE, "effect": "NoSchedule"}):
        return "node(s) were unschedulable"
    for taint in spec.get("taints") or ():
        if taint["effect"] in ("NoSchedule", "NoExecute") and not _tolerates(pod, taint):
            return "node(s) had taints that the pod didn't tolerate" if legacy else "node(s) had untolerated taint(s)"
    if not _affine(pod, node):
        return "node(s) didn't match node selector" if legacy else "node(s) didn't match Pod's node affinity/selector"
    return None


def shortage(pod: Obj, node: Obj, others: Sequence[Obj]) -> list[str]:
    """What `node` has too little of for `pod` beside the pods that it has already, in the scheduler's words."""
    if (ports := _host_ports(pod)) and any(ports & _host_ports(other) for other in others):
        return [_PORTS]
    return [f"{_SHORT}{name}" for name in _lacking(pod, node, others)]


_PORTS = "node(s) didn't have free ports for the requested pod ports"
_SHORT = "Insufficient "


def _host_ports(pod: Obj) -> set[tuple[str, int]]:
    return {
        (port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def _requests(pod: Obj) -> dict[str, Quantity]:
    used = pod_usage(pod["spec"])
    return {key.partition(".")[2]: value for key, value in used.items() if key.startswith("requests.")}


def _lacking(pod: Obj, node: Obj, others: Sequence[Obj]) -> list[str]:
    """Of what the node has too little left for `pod`."""
    there = (node.get("status") or {}).get("allocatable") or {}
    wanted = {key: value for key, value in _requests(pod).items() if value}
    if not wanted or not there:
        return []
    taken: dict[str, Quantity] = {}
    for other in others:
        for key, value in _requests(other).items():
            taken[key] = taken.get(key, Quantity()) + value
    return [
        key
        for key, value in sorted(wanted.items())
        if taken.get(key, Quantity()) + value > Quantity.of(there.get(key, 0))
    ]


def _unbound(pod: Obj) -> bool:
    return not (pod["spec"].get("nodeName") or is_finished(pod) or is_terminating(pod))


def placement_changed(before: Obj, after: Obj) -> bool:
    """Whether a node changed in what pods ask of it; a heartbeat does not."""
    labels = before["metadata"].get("labels") != after["metadata"].get("labels")
    room = (before.get("status") or {}).get("allocatable") != (after.get("status") or {}).get("allocatable")
    return labels or room or (before.get("spec") or {}) != (after.get("spec") or {})


class Scheduler:
    """Binds pods of the default scheduler; a pod that no node takes is tried again when a node changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._nodes: dict[str, Obj] = {}
        self._waiting: set[Key] = set()
        self.reconciler = (
            Reconciler("scheduler", context.objects, self._reconcile, about="pods")
            .watches_events("nodes", self._node_keys)
            .watches_events("pods", self._pod_events)
            .watches("persistentvolumeclaims", lambda _claim: list(self._waiting))
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
        return [object_key(pod)] if _unbound(pod) else []

    def _pod_events(self, event: Event) -> list[Key]:
        # Whoever goes makes room for those who wait.
        gone = event.type == "DELETED" or is_finished(event.object)
        return list(self._waiting) if gone else self._pod_keys(event.object)

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        pod = self._context.objects.see("pods", name, namespace)
        if pod is None or not _unbound(pod):
            self._waiting.discard(key)
            return
        spec = pod["spec"]
        if spec.get("schedulerName", COMPONENT) != COMPONENT or spec.get("schedulingGates"):
            return
        reasons: dict[str, int] = {}
        if waits := self._unbound_claims(pod):
            self._waiting.add(key)
            self._say_unschedulable(pod, {waits: 0})
            return
        running = [one for one in self._context.objects.view("pods") if not is_finished(one)]
        for node_name, node in self._nodes.items():
            others = [one for one in running if one["spec"].get("nodeName") == node_name]
            reason = refusal(pod, node, legacy=self._context.settings.legacy)
            found = [reason] if reason else shortage(pod, node, others)
            if not found:
                self._waiting.discard(key)
                self._bind(pod, node_name)
                return
            for reason in found:
                reasons[reason] = reasons.get(reason, 0) + 1
        self._waiting.add(key)
        self._say_unschedulable(pod, reasons)

    def _unbound_claims(self, pod: Obj) -> str:
        """What the pod's claims wait for, in the scheduler's words; "" where nothing keeps it from a node."""
        objects, namespace = self._context.objects, pod["metadata"]["namespace"]
        for name in claims_of(pod):
            claim = objects.find("persistentvolumeclaims", name, namespace)
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found'
            if (claim.get("status") or {}).get("phase") != "Bound":
                storage = objects.find(CLASSES, claim["spec"].get("storageClassName") or "")
                if storage is None or storage.get("volumeBindingMode") != "WaitForFirstConsumer":
                    return "pod has unbound immediate PersistentVolumeClaims"
        return ""

    def _bind(self, pod: Obj, node: str) -> None:
        meta = pod["metadata"]
        objects = self._context.objects
        on = {"metadata": meta, "spec": {"nodeName": node}}
        objects.event(
            objects.update("pods", on, subresource="binding"),
            "Normal",
            "Scheduled",
            f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}",
            COMPONENT,
        )

    def _say_unschedulable(self, pod: Obj, reasons: dict[str, int]) -> None:
        message = "no nodes available to schedule pods"
        if reasons:
            listed = ", ".join(f"{count} {reason}" if count else reason for reason, count in sorted(reasons.items()))
            none = f"0/{len(self._nodes)} nodes are available: "
            message = f"{none}{listed}."
            if not self._context.settings.legacy:
                full = all(reason == _PORTS or reason.startswith(_SHORT) for reason in reasons)
                words = (
                    "No preemption victims found for incoming pod"
                    if full
                    else "Preemption is not helpful for scheduling"
                )
                message += f" no new claims to deallocate, preemption: {none}{len(self._nodes)} {words}."
        objects = self._context.objects
        status = clone(pod.get("status") or {})
        observed = {} if self._context.settings.legacy else {"observedGeneration": pod["metadata"].get("generation", 1)}
        told = {"lastProbeTime": None, "lastTransitionTime": self._context.now(), **observed, "message": message}
        put_condition(status, {"type": "PodScheduled", "status": "False", **told, "reason": "Unschedulable"})
        if status != pod.get("status"):
            objects.update("pods", {**pod, "status": status}, subresource="status", manager=MANAGER)
            objects.event(pod, "Warning", "FailedScheduling", message, COMPONENT)
