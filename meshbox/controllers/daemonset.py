# SPDX-License-Identifier: Apache-2.0
"""DaemonSet: one pod on each node."""

from __future__ import annotations

from typing import Any

from labkit.ground.int_or_string import scaled
from meshbox.contracts import ApiError, Event, Obj
from meshbox.controllers.meta import Context, write_status
from meshbox.controllers.owned import Owned, OwnerKind
from meshbox.controllers.pods import (
    PodControl,
    available_after,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    namespace_is_ending,
)
from meshbox.controllers.revisions import HASH, current_revision
from meshbox.controllers.scheduler import placement_changed, refusal
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["DaemonSetController"]

RESOURCE = "daemonsets.apps"
GENERATION = "deprecated.daemonset.template.generation"
"""The annotation in which the API server counts a DaemonSet's templates."""

_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{condition}", "operator": "Exists", "effect": effect}
    for condition, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
]


def _node_of(pod: Obj) -> str:
    """The node that a pod was made for, whether or not it is bound yet."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms") or [{}]
    names = [field["values"][0] for field in terms[0].get("matchFields") or () if field["key"] == "metadata.name"]
    return pod["spec"].get("nodeName") or (names[0] if names else "")


class DaemonSetController:
    """Keeps one pod of each DaemonSet on every node that takes it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kind = OwnerKind(RESOURCE, "apps/v1", "DaemonSet")
        self._pods = Owned(context, "pods", self._kind)
        self._control = PodControl(context, self._kind, "daemonset-controller")
        self._known: set[Key] = set()
        self._nodes: dict[str, Obj] = {}
        self.reconciler = (
            Reconciler("daemonset", context.objects, self._reconcile)
            .watches_events(RESOURCE, self._keys)
            .watches_events("pods", self._pods.keys)
            .watches_events("nodes", self._node_keys)
        )

    def _keys(self, event: Event) -> list[Key]:
        key = object_key(event.object)
        if event.type == "DELETED":
            self._known.discard(key)
        else:
            self._known.add(key)
        return self._kind.keys(event)

    def _node_keys(self, event: Event) -> list[Key]:
        name = event.object["metadata"]["name"]
        before = self._nodes.pop(name, None)
        if event.type != "DELETED":
            self._nodes[name] = event.object
            if before is not None and not placement_changed(before, event.object):
                return []
        return list(self._known)

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        daemon_set = self._context.objects.find(RESOURCE, name, namespace)
        if daemon_set is None:
            return None
        claimed = self._pods.claim(daemon_set)
        if "deletionTimestamp" in daemon_set["metadata"]:
            return None
        revision = current_revision(self._context, daemon_set, self._kind)
        template = self._control.pod(daemon_set)
        labels = template["metadata"].setdefault("labels", {})
        labels |= {HASH: revision.digest, "pod-template-generation": daemon_set["metadata"]["annotations"][GENERATION]}
        template["spec"]["tolerations"] = [*(template["spec"].get("tolerations") or ()), *_TOLERATIONS]
        wanted = [node for node in self._nodes if refusal(template, self._nodes[node], legacy=False) is None]
        failure: ApiError | None = None
        pods: dict[str, Obj] = {}
        try:
            for pod in claimed:
                self._sort_in(daemon_set, pod, wanted, pods)
            self._roll(daemon_set, pods, revision.digest)
            busy = {_node_of(pod) for pod in claimed if is_terminating(pod)}
            for node in wanted:
                if node not in pods and node not in busy:
                    pods[node] = self._control.create(daemon_set, _placed(template, node))
        except ApiError as error:
            failure = error
        soon = self._write_status(daemon_set, wanted, claimed, pods, revision.digest)
        if failure is not None and not namespace_is_ending(failure):
            raise failure
        return soon

    def _sort_in(self, daemon_set: Obj, pod: Obj, wanted: list[str], pods: dict[str, Obj]) -> None:
        """Keep a pod as its node's, or delete it where it has ended or is not wanted."""
        node = _node_of(pod)
        if is_terminating(pod):
            return
        if is_finished(pod):
            if pod["status"]["phase"] == "Failed":
                name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                message = f"Found failed daemon pod {name} on node {node}, will try to kill it"
                self._control.say(daemon_set, "Warning", "FailedDaemonPod", message)
            self._control.delete(daemon_set, pod)
        elif node not in wanted or node in pods:
            self._control.delete(daemon_set, pod)
        else:
            pods[node] = pod

    def _roll(self, daemon_set: Obj, pods: dict[str, Obj], digest: str) -> None:
        """Delete pods of an older template, as many at once as the strategy allows."""
        strategy = daemon_set["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        allowed = scaled((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), len(pods), up=True)
        missing = sum(not is_ready(pod) for pod in pods.values())
        for node, pod in sorted(pods.items()):
            if (pod["metadata"].get("labels") or {}).get(HASH) == digest:
                continue
            if is_ready(pod):
                if missing >= max(1, allowed):
                    continue
                missing += 1
            self._control.delete(daemon_set, pod)
            pod["metadata"].setdefault("deletionTimestamp", self._context.now())
            del pods[node]

    def _write_status(
        self, daemon_set: Obj, wanted: list[str], claimed: list[Obj], pods: dict[str, Obj], digest: str
    ) -> float | None:
        ready_seconds = daemon_set["spec"].get("minReadySeconds", 0)
        delays = [available_after(pod, ready_seconds, self._context.clock()) for pod in pods.values()]
        misplaced = [pod for pod in claimed if is_active(pod) and _node_of(pod) not in wanted]
        available = sum(delay == 0 for delay in delays)
        status: dict[str, Any] = {
            **(daemon_set.get("status") or {}),
            "currentNumberScheduled": len(pods),
            "numberMisscheduled": len(misplaced),
            "desiredNumberScheduled": len(wanted),
            "numberReady": sum(is_ready(pod) for pod in pods.values()),
            "observedGeneration": daemon_set["metadata"].get("generation", 1),
        }
        updated = sum((pod["metadata"].get("labels") or {}).get(HASH) == digest for pod in pods.values())
        for field, value in (
            ("updatedNumberScheduled", updated),
            ("numberAvailable", available),
            ("numberUnavailable", len(wanted) - available),
        ):
            status.pop(field, None)
            if value:
                status[field] = value
        write_status(self._context, RESOURCE, daemon_set, status)
        return min((delay for delay in delays if delay), default=None)


def _placed(template: Obj, node: str) -> Obj:
    """A pod that only `node` takes."""
    spec = dict(template["spec"])
    affinity = dict(spec.get("affinity") or {})
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [field]}]},
    }
    spec["affinity"] = affinity
    return {**template, "spec": spec}
