# SPDX-License-Identifier: Apache-2.0
"""The taint of a node that is cordoned: it stands where `kubectl describe node` and tolerations look for it."""

from __future__ import annotations

from meshbox.controllers.meta import MANAGER, Context
from meshbox.controllers.scheduler import UNSCHEDULABLE
from meshbox.reconcile import Key, Reconciler

__all__ = ["NodeTaintController"]


class NodeTaintController:
    """Taints a node that takes no pods."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.reconciler = Reconciler("node-taints", context.objects, self._reconcile).watches("nodes")

    async def _reconcile(self, key: Key) -> None:
        node = self._context.objects.find("nodes", key[1])
        if node is None or self._context.settings.legacy:
            return
        taints = node["spec"].get("taints") or []
        others = [one for one in taints if (one["key"], one["effect"]) != (UNSCHEDULABLE, "NoSchedule")]
        if bool(node["spec"].get("unschedulable")) == (len(others) < len(taints)):
            return
        if len(others) == len(taints):
            others.append({"key": UNSCHEDULABLE, "effect": "NoSchedule", "timeAdded": self._context.now()})
        spec = {**node["spec"], "taints": others}
        self._context.objects.update("nodes", {**node, "spec": spec}, manager=MANAGER)
