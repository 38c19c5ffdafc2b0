# SPDX-License-Identifier: Apache-2.0
"""Pods as their controllers see them: which count, which go first, and how one is made from a template."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.meta import MANAGER, Context, condition, owner_reference, parse_time, put_condition
from meshbox.controllers.owned import OwnerKind
from meshbox.values import clone

if TYPE_CHECKING:
    from meshbox.typed.pods import Pod

__all__ = [
    "PodControl",
    "available_after",
    "deletion_rank",
    "disrupt",
    "is_active",
    "is_finished",
    "is_ready",
    "is_terminating",
    "namespace_is_ending",
]


def is_finished(pod: Pod | Obj) -> bool:
    """Whether all of the pod's containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_terminating(pod: Pod | Obj) -> bool:
    """Whether the pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def is_active(pod: Pod | Obj) -> bool:
    """Whether the pod counts as one of its controller's replicas."""
    return not is_finished(pod) and not is_terminating(pod)


def is_ready(pod: Pod | Obj) -> bool:
    """Whether the pod's Ready condition is true."""
    ready = condition(pod.get("status") or {}, "Ready")
    return ready is not None and ready["status"] == "True"


def available_after(pod: Pod | Obj, min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the pod counts as available: 0 where it does, None while it is not ready."""
    if not is_ready(pod):
        return None
    if not min_ready_seconds:
        return 0.0
    ready = condition(pod["status"], "Ready") or {}
    return max(0.0, parse_time(ready.get("lastTransitionTime")) + min_ready_seconds - now)


def disrupt(context: Context, pod: Pod | Obj, reason: str, message: str) -> None:
    """Delete a pod that has to leave, once it says why itself; one that is gone already is no fault."""
    meta, objects = pod["metadata"], context.objects
    with suppress(ApiError):
        if not context.settings.legacy:
            status = clone(pod["status"])
            told = {"reason": reason, "message": message, "lastProbeTime": None, "lastTransitionTime": context.now()}
            put_condition(status, {"type": "DisruptionTarget", "status": "True", **told})
            objects.update("pods", {**pod, "status": status}, subresource="status", manager=MANAGER)
        objects.delete("pods", meta["name"], meta["namespace"], uid=meta["uid"])


def deletion_rank(pod: Pod | Obj) -> tuple[Any, ...]:
    """Sort key by which pods are deleted when there are too many: the least useful first.

    Source: the order of Kubernetes' ReplicaSet controller (unassigned, pending, not ready, cheap to delete, ready for
    less long, restarted more often, younger).
    """
    status, meta = pod.get("status") or {}, pod["metadata"]
    ready = condition(status, "Ready") or {}
    restarts = max((item.get("restartCount", 0) for item in status.get("containerStatuses") or ()), default=0)
    cost = (meta.get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", "0")
    try:
        cost_number = int(cost)
    except ValueError:
        cost_number = 0
    return (
        bool(pod["spec"].get("nodeName")),
        {"Pending": 0, "Unknown": 1}.get(status.get("phase", "Pending"), 2),
        is_ready(pod),
        cost_number,
        -parse_time(ready.get("lastTransitionTime")) if is_ready(pod) else 0,
        -restarts,
        -parse_time(meta.get("creationTimestamp")),
        meta["name"],
    )


def namespace_is_ending(error: ApiError) -> bool:
    """Whether an object was refused because its namespace is being deleted."""
    return any(cause.get("reason") == "NamespaceTerminating" for cause in error.details.get("causes") or ())


class PodControl:
    """Creates and deletes pods on behalf of their controller, with the events that say so.

    Args:
        context: Shared by all controllers.
        owner: The kind of the controlling objects.
        component: Who the events are from, e.g. "replicaset-controller".
    """

    def __init__(self, context: Context, owner: OwnerKind, component: str) -> None:
        self._context = context
        self._owner = owner
        self._component = component

    def say(self, owner: Obj, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record an event about `owner`."""
        self._context.objects.event(owner, type_, reason, message, self._component)

    def pod(self, owner: Obj, template: Obj | None = None) -> Obj:
        """A pod of `owner` from its template, not yet named."""
        template = owner["spec"]["template"] if template is None else template
        meta = template.get("metadata") or {}
        kept = {key: clone(meta[key]) for key in ("labels", "annotations", "finalizers") if meta.get(key)}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"{owner['metadata']['name']}-",
                "namespace": owner["metadata"]["namespace"],
                **kept,
                "ownerReferences": [owner_reference(owner, self._owner.api_version, self._owner.kind)],
            },
            "spec": clone(template["spec"]),
        }

    def create(self, owner: Obj, pod: Obj) -> Obj:
        """Create `pod`.

        Raises:
            ApiError: It was refused; an event says so.
        """
        try:
            created = self._context.objects.create("pods", pod, owner["metadata"]["namespace"], manager=MANAGER)
        except ApiError as error:
            if not namespace_is_ending(error):
                self.say(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self.say(owner, "Normal", "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
        return created

    def delete(self, owner: Obj, pod: Obj) -> None:
        """Delete `pod`; one that is gone already counts as deleted.

        Raises:
            ApiError: It was refused; an event says so.
        """
        meta = pod["metadata"]
        try:
            self._context.objects.delete("pods", meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code == 404:
                return
            self.say(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
        self.say(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta['name']}")
