# SPDX-License-Identifier: Apache-2.0
"""PodDisruptionBudget: how many of its pods may go now."""

from __future__ import annotations

from typing import Any

from labkit.ground.int_or_string import scaled
from labkit.ground.labels import written
from meshbox.contracts import Obj
from meshbox.controllers.kinds import Kinds
from meshbox.controllers.meta import (
    Context,
    controller_of,
    put_condition,
    write_status,
)
from meshbox.controllers.pods import is_active, is_ready
from meshbox.controllers.selecting import SelectorIndex
from meshbox.reconcile import Key, Reconciler

__all__ = ["DisruptionController"]

RESOURCE = "poddisruptionbudgets.policy"
COMPONENT = "controllermanager"


class DisruptionController:
    """Keeps the status of each budget."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kinds = Kinds(context.objects)
        index = SelectorIndex(lambda budget: budget["spec"].get("selector"))
        self.reconciler = (
            Reconciler("disruption", context.objects, self._reconcile)
            .watches_events(RESOURCE, index.keys)
            .watches_events("pods", index.member_keys)
        )

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        budget = self._context.objects.find(RESOURCE, name, namespace)
        if budget is None or "deletionTimestamp" in budget["metadata"]:
            return
        selector = budget["spec"].get("selector")
        pods = []
        if selector is not None:
            pods = self._context.objects.view("pods", namespace, labels=written(selector))
        pods = [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]
        if not pods:
            self._context.objects.event(budget, "Normal", "NoPods", "No matching pods found", COMPONENT)
        expected, desired = self._wanted(budget["spec"], pods)
        healthy = sum(is_active(pod) and is_ready(pod) for pod in pods)
        allowed = max(0, healthy - desired) if expected else 0
        # Who was evicted a moment ago counts as gone, though nobody has told it yet.
        there = {pod["metadata"]["name"] for pod in pods if is_active(pod)}
        going = {
            name: at for name, at in ((budget.get("status") or {}).get("disruptedPods") or {}).items() if name in there
        }
        allowed = max(0, allowed - len(going))
        status: dict[str, Any] = {
            **(budget.get("status") or {}),
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": allowed,
            "expectedPods": expected,
            "observedGeneration": budget["metadata"].get("generation", 1),
        }
        status.pop("disruptedPods", None)
        if going:
            status["disruptedPods"] = going
        if not self._context.settings.legacy:
            status["conditions"] = [dict(item) for item in status.get("conditions") or ()]
            put_condition(
                status,
                {
                    "type": "DisruptionAllowed",
                    "status": str(allowed > 0),
                    "reason": "SufficientPods" if allowed else "InsufficientPods",
                    "message": "",
                    "observedGeneration": status["observedGeneration"],
                    "lastTransitionTime": self._context.now(),
                },
            )
        write_status(self._context, RESOURCE, budget, status)

    def _wanted(self, spec: Obj, pods: list[Obj]) -> tuple[int, int]:
        """How many pods there should be, and how many of them healthy."""
        if spec.get("maxUnavailable") is not None:
            expected = self._scale(pods)
            unavailable = scaled(spec["maxUnavailable"], expected, up=True)
            return expected, max(0, expected - unavailable)
        least = spec.get("minAvailable", 1)
        if isinstance(least, str):
            expected = self._scale(pods)
            return expected, scaled(least, expected, up=True)
        return len(pods), int(least)

    def _scale(self, pods: list[Obj]) -> int:
        """The wanted sizes of all that control these pods, added up."""
        sizes: dict[str, int] = {}
        for pod in pods:
            reference = controller_of(pod)
            if reference is None or reference["uid"] in sizes:
                continue
            top = self._top(reference, pod["metadata"]["namespace"])
            if top is not None:
                sizes.setdefault(top["metadata"]["uid"], int(top["spec"].get("replicas", 0)))
        return sum(sizes.values())

    def _top(self, reference: Obj, namespace: str) -> Obj | None:
        """The object at the top of a chain of controllers."""
        found: Obj | None = None
        next_: Obj | None = reference
        while next_ is not None:
            resource = self._kinds.resource(next_["apiVersion"], next_["kind"])
            owner = self._context.objects.find(resource, next_["name"], namespace) if resource else None
            if owner is None:
                return found
            found, next_ = owner, controller_of(owner)
        return found
