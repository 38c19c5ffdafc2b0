# SPDX-License-Identifier: Apache-2.0
"""Pods of nodes that are not there: no kubelet ends them, so they are taken away after a while."""

from __future__ import annotations

from collections.abc import Iterable

from meshbox.contracts import Obj
from meshbox.controllers.meta import Context
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["LostPods"]

_PATIENCE = 40.0
"""Seconds that a node may be away, as Kubernetes' pod garbage collector has it."""


class LostPods:
    """Deletes pods whose node has not been there for 40 s: a namespace with one of them would never end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._missed: dict[Key, float] = {}
        self.reconciler = (
            Reconciler("podgc", context.objects, self._reconcile)
            .watches("pods", self._of_pod)
            .watches("nodes", self._of_node)
        )

    def _of_pod(self, pod: Obj) -> Iterable[Key]:
        # Pods change all the time, and nearly all of them are on a node that is there.
        key, node = object_key(pod), pod["spec"].get("nodeName")
        if key in self._missed or (node and self._context.objects.see("nodes", node) is None):
            yield key

    def _of_node(self, node: Obj) -> Iterable[Key]:
        name = node["metadata"]["name"]
        for pod in self._context.objects.view("pods"):
            if pod["spec"].get("nodeName") == name:
                yield pod["metadata"]["namespace"], pod["metadata"]["name"]

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        pod = self._context.objects.see("pods", name, namespace)
        node = pod["spec"].get("nodeName") if pod is not None else None
        if not node or self._context.objects.see("nodes", node) is not None:
            self._missed.pop(key, None)
            return None
        now = self._context.clock()
        left = self._missed.setdefault(key, now) + _PATIENCE - now
        if left > 0:
            return left
        del self._missed[key]
        self._context.objects.delete("pods", name, namespace, grace_period=0)
        return None
