# SPDX-License-Identifier: Apache-2.0
"""Evictions: a pod goes as its budgets of disruption allow."""

from __future__ import annotations

from labkit.ground.labels import written
from meshbox.api import metadata
from meshbox.contracts import ApiError, Obj, Objects

__all__ = ["admit"]

BUDGETS = "poddisruptionbudgets.policy"


def admit(objects: Objects, pod: Obj, *, dry_run: bool) -> None:
    """Let `pod` be evicted, and count that in its budget.

    Args:
        objects: The cluster's objects.
        pod: The pod.
        dry_run: Whether nothing is to be counted.

    Raises:
        ApiError: 429 where the budget allows no more, 500 where there is more than one.
    """
    status, meta = pod.get("status") or {}, pod["metadata"]
    if status.get("phase") in ("Succeeded", "Failed", "Pending") or meta.get("deletionTimestamp"):
        return
    budgets = [one for one in objects.list(BUDGETS, meta["namespace"]) if _about(objects, one, meta)]
    if len(budgets) > 1:
        said = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiError(500, "InternalError", said)
    for budget in budgets:
        _spend(objects, budget, pod, dry_run=dry_run)


def _about(objects: Objects, budget: Obj, meta: Obj) -> bool:
    selector = budget["spec"].get("selector")
    if selector is None:
        return False
    found = objects.view("pods", meta["namespace"], labels=written(selector), fields=f"metadata.name={meta['name']}")
    return bool(found)


def _spend(objects: Objects, budget: Obj, pod: Obj, *, dry_run: bool) -> None:
    status, name = budget.get("status") or {}, budget["metadata"]["name"]
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    always = budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
    if not ready and (always or (desired > 0 and healthy >= desired)):
        return
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 1):
        raise _refused(f"The disruption budget {name} is still being processed by the server.")
    allowed = status.get("disruptionsAllowed", 0)
    if allowed <= 0:
        raise _refused(f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
    if not dry_run:
        gone = {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: metadata.now()}
        spent = {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": gone}
        objects.update(BUDGETS, {**budget, "status": spent}, subresource="status")


def _refused(why: str) -> ApiError:
    causes = [{"reason": "DisruptionBudget", "message": why}]
    said = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", said, {"causes": causes})
