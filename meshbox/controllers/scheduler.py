# SPDX-License-Identifier: Apache-2.0
"""The scheduler: binds each pod to the node, if the node takes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from labkit.ground.labels import Requirement, selects
from labkit.ground.quantity import Quantity
from meshbox.contracts import Event, Obj
from meshbox.controllers.meta import Context, put_condition
from meshbox.controllers.neighbours import HELPED, Neighbours
from meshbox.controllers.persistent import CLASSES, claims_of
from meshbox.controllers.pods import disrupt, is_finished, is_terminating
from meshbox.controllers.preemption import victims
from meshbox.controllers.quota import pod_usage
from meshbox.reconcile import Key, Reconciler, object_key
from meshbox.values import clone

__all__ = ["Scheduler", "placement_changed", "refusal", "tolerations_of"]

COMPONENT = "default-scheduler"
MANAGER = "kube-scheduler"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def tolerations_of(pod: Obj, taint: Obj) -> list[Obj]:
    """The pod's tolerations of that taint."""
    found = []
    for toleration in pod["spec"].get("tolerations") or ():
        if toleration.get("effect") and toleration["effect"] != taint["effect"]:
            continue
        if toleration.get("operator", "Equal") == "Exists":
            if toleration.get("key", "") in ("", taint["key"]):
                found.append(toleration)
        elif toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""):
            found.append(toleration)
    return found


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
    if spec.get("unschedulable") and not tolerations_of(pod, {"key": UNSCHEDULABLE, "effect": "NoSchedule"}):
        return "node(s) were unschedulable"
    for taint in spec.get("taints") or ():
        if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerations_of(pod, taint):
            return "node(s) had taints that the pod didn't tolerate" if legacy else "node(s) had untolerated taint(s)"
    if not _affine(pod, node):
        return "node(s) didn't match node selector" if legacy else "node(s) didn't match Pod's node affinity/selector"
    return None


def _shortage(pod: Obj, node: Obj, others: Sequence[Obj]) -> list[str]:
    """What `node` has too little of for `pod` beside the pods that it has already, in the scheduler's words."""
    if (ports := _host_ports(pod)) and any(ports & _host_ports(other) for other in others):
        return [_PORTS]
    return [f"{_SHORT}{name}" for name in _lacking(pod, node, others)]


_PORTS = "node(s) didn't have free ports for the requested pod ports"
_SHORT = "Insufficient "


def _helps(reason: str) -> bool:
    """Whether a node that refuses a pod so might take it if others left."""
    return reason in (_PORTS, *HELPED) or reason.startswith(_SHORT)


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

    def _pod_events(self, event: Event) -> list[Key]:
        # Whoever goes makes room for those who wait, and whoever comes may be whom they wait for.
        waiting = event.type != "DELETED" and _unbound(event.object)
        return [object_key(event.object)] if waiting else list(self._waiting)

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
        every = self._context.objects.view("pods")
        running = [one for one in every if one["spec"].get("nodeName") and not is_finished(one)]
        helpful = []
        for node in self._nodes:
            found = self._unfit(pod, node, running)
            if not found:
                self._waiting.discard(key)
                self._bind(pod, node)
                return
            for reason in found:
                reasons[reason] = reasons.get(reason, 0) + 1
            if all(_helps(reason) for reason in found) and not _lacking(pod, self._nodes[node], ()):
                helpful.append(node)
        self._waiting.add(key)
        if not self._preempt(pod, running, helpful, reasons):
            self._say_unschedulable(pod, reasons, len(helpful))

    def _unfit(self, pod: Obj, name: str, running: Sequence[Obj]) -> list[str]:
        """Why a node does not take `pod` beside those who run, in the words of the first filter that says so."""
        node, legacy = self._nodes[name], self._context.settings.legacy
        if reason := refusal(pod, node, legacy=legacy):
            return [reason]
        if short := _shortage(pod, node, [one for one in running if one["spec"]["nodeName"] == name]):
            return short
        eligible = [other for other, one in self._nodes.items() if _affine(pod, one)]
        reason = Neighbours(self._context.objects, self._nodes, running).refusal(pod, name, eligible)
        if reason is None:
            return []
        return ["node(s) didn't match pod affinity/anti-affinity", reason] if legacy else [reason]

    def _fits(self, pod: Obj, node: str, running: Sequence[Obj]) -> bool:
        return not self._unfit(pod, node, running)

    def _preempt(self, pod: Obj, running: Sequence[Obj], nodes: Sequence[str], reasons: dict[str, int]) -> bool:
        """Have pods of lower priority leave one of the nodes; whether there were any."""
        nominated = (pod.get("status") or {}).get("nominatedNodeName")
        if any(is_terminating(one) and one["spec"]["nodeName"] == nominated for one in running):
            # They are leaving.
            return True
        for node in nodes:
            leaving = victims(pod, node, running, partial(self._fits, pod, node))
            if not leaving:
                continue
            self._say(pod, self._listed(reasons), nominated=node)
            for one in leaving:
                words = f"Preempted by pod {pod['metadata']['uid']} on node {node}"
                self._context.objects.event(one, "Normal", "Preempted", words, COMPONENT)
                why = f"{COMPONENT}: preempting to accommodate a higher priority pod"
                disrupt(self._context, one, "PreemptionByScheduler", why)
            return True
        return False

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

    def _say_unschedulable(self, pod: Obj, reasons: dict[str, int], helpful: int = 0) -> None:
        message = "no nodes available to schedule pods"
        if reasons:
            message, none = self._listed(reasons), self._none
            if not self._context.settings.legacy:
                counts = {
                    "No preemption victims found for incoming pod": helpful,
                    "Preemption is not helpful for scheduling": len(self._nodes) - helpful,
                }
                vain = f"{none}{', '.join(f'{count} {said}' for said, count in counts.items() if count)}"
                if pod["spec"].get("preemptionPolicy") == "Never":
                    vain = "not eligible due to preemptionPolicy=Never"
                message += f" no new claims to deallocate, preemption: {vain}."
        self._say(pod, message)

    @property
    def _none(self) -> str:
        return f"0/{len(self._nodes)} nodes are available: "

    def _listed(self, reasons: dict[str, int]) -> str:
        listed = (f"{count} {reason}" if count else reason for reason, count in sorted(reasons.items()))
        return f"{self._none}{', '.join(listed)}."

    def _say(self, pod: Obj, message: str, *, nominated: str = "") -> None:
        objects = self._context.objects
        status = clone(pod.get("status") or {}) | ({"nominatedNodeName": nominated} if nominated else {})
        observed = {} if self._context.settings.legacy else {"observedGeneration": pod["metadata"].get("generation", 1)}
        told = {"lastProbeTime": None, "lastTransitionTime": self._context.now(), **observed, "message": message}
        put_condition(status, {"type": "PodScheduled", "status": "False", **told, "reason": "Unschedulable"})
        if status != pod.get("status"):
            objects.update("pods", {**pod, "status": status}, subresource="status", manager=MANAGER)
            objects.event(pod, "Warning", "FailedScheduling", message, COMPONENT)
