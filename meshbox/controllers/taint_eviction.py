# SPDX-License-Identifier: Apache-2.0
"""Taints with the effect NoExecute: pods that do not tolerate them leave the node, at once or after a while."""

from __future__ import annotations

from meshbox.contracts import Event, Obj
from meshbox.controllers.meta import Context
from meshbox.controllers.pods import disrupt, is_terminating
from meshbox.controllers.scheduler import tolerations_of
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["TaintEvictionController"]


class TaintEvictionController:
    """Deletes pods whose node they may not stay on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._taints: dict[str, list[Obj]] = {}
        self._since: dict[Key, float] = {}
        self.reconciler = (
            Reconciler("taint-eviction", context.objects, self._reconcile, about="pods")
            .watches_events("nodes", self._node_keys)
            .watches_events("pods", self._pod_keys)
        )

    def _node_keys(self, event: Event) -> list[Key]:
        name = event.object["metadata"]["name"]
        taints = [one for one in (event.object.get("spec") or {}).get("taints") or () if one["effect"] == "NoExecute"]
        before = self._taints.pop(name, [])
        if event.type != "DELETED" and taints:
            self._taints[name] = taints
        if taints == before:
            return []
        return [object_key(pod) for pod in self._context.objects.view("pods", fields=f"spec.nodeName={name}")]

    def _pod_keys(self, event: Event) -> list[Key]:
        key = object_key(event.object)
        if event.type == "DELETED":
            self._since.pop(key, None)
            return []
        return [key] if event.object["spec"].get("nodeName") in self._taints else []

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        pod = self._context.objects.see("pods", name, namespace)
        taints = self._taints.get((pod or {"spec": {}})["spec"].get("nodeName") or "")
        if pod is None or not taints or is_terminating(pod):
            self._since.pop(key, None)
            return None
        now = self._context.clock()
        left = self._since.setdefault(key, now) + _patience(pod, taints) - now
        if left > 0:
            return left if left != float("inf") else None
        component = "taint-controller" if self._context.settings.legacy else "taint-eviction-controller"
        self._context.objects.event(
            pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}", component
        )
        disrupt(self._context, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
        return None


def _patience(pod: Obj, taints: list[Obj]) -> float:
    """For how many seconds a pod may stay: the least that one of its tolerations says, for ever where none does."""
    used = [tolerations_of(pod, taint) for taint in taints]
    if not all(used):
        return 0.0
    said = [one["tolerationSeconds"] for found in used for one in found if one.get("tolerationSeconds") is not None]
    return float(max(0, min(said))) if said else float("inf")
