# SPDX-License-Identifier: Apache-2.0
"""ReplicaSet, and the ReplicationController before it: as many pods of a template as wanted."""

from __future__ import annotations

from labkit.ground.labels import selects
from meshbox.contracts import ApiError, Obj
from meshbox.controllers.meta import Context, condition, put_condition, write_status
from meshbox.controllers.owned import Owned, OwnerKind
from meshbox.controllers.pods import (
    PodControl,
    available_after,
    deletion_rank,
    is_active,
    is_finished,
    is_ready,
    namespace_is_ending,
)
from meshbox.reconcile import Key, Reconciler
from meshbox.values import clone

__all__ = ["ReplicaSetController"]


class ReplicaSetController:
    """Keeps each object's number of pods.

    Args:
        context: Shared by all controllers.
        resource: Of the objects.
        api_version: Of the objects.
        kind: Of the objects.
        plain: Whether their selector is a map of labels.
    """

    def __init__(
        self,
        context: Context,
        resource: str = "replicasets.apps",
        api_version: str = "apps/v1",
        kind: str = "ReplicaSet",
        *,
        plain: bool = False,
    ) -> None:
        self._context = context
        self._resource = resource
        owner = OwnerKind(resource, api_version, kind, plain=plain)
        self._pods = Owned(context, "pods", owner)
        name = resource.partition(".")[0].removesuffix("s")
        component = "replication-controller" if plain else f"{name}-controller"
        self._control = PodControl(context, owner, component)
        self.reconciler = (
            Reconciler(name, context.objects, self._reconcile)
            .watches_events(resource, owner.keys)
            .watches_events("pods", self._pods.keys)
        )

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        replica_set = self._context.objects.find(self._resource, name, namespace)
        if replica_set is None:
            return None
        claimed = self._pods.claim(replica_set, adopts=is_active)
        pods = [pod for pod in claimed if is_active(pod)]
        ending = sum("deletionTimestamp" in pod["metadata"] and not is_finished(pod) for pod in claimed)
        failure: ApiError | None = None
        missing = replica_set["spec"].get("replicas", 1) - len(pods)
        if "deletionTimestamp" not in replica_set["metadata"]:
            try:
                if missing > 0:
                    for _ in range(missing):
                        pods.append(self._control.create(replica_set, self._control.pod(replica_set)))
                elif missing < 0:
                    for pod in sorted(pods, key=deletion_rank)[:-missing]:
                        self._control.delete(replica_set, pod)
                        pods.remove(pod)
            except ApiError as error:
                failure = error
        soon = self._write_status(replica_set, pods, ending, failure, "FailedCreate" if missing > 0 else "FailedDelete")
        if failure is not None and not namespace_is_ending(failure):
            raise failure
        return soon

    def _write_status(
        self, replica_set: Obj, pods: list[Obj], ending: int, failure: ApiError | None, failure_reason: str
    ) -> float | None:
        """Write the status; returns seconds until one more ready pod counts as available."""
        spec = replica_set["spec"]
        template_labels = spec["template"]["metadata"].get("labels") or {}
        delays = [available_after(pod, spec.get("minReadySeconds", 0), self._context.clock()) for pod in pods]
        status = clone(replica_set.get("status") or {})
        counts = {
            "fullyLabeledReplicas": sum(selects(template_labels, pod["metadata"].get("labels")) for pod in pods),
            "readyReplicas": sum(is_ready(pod) for pod in pods),
            "availableReplicas": sum(delay == 0 for delay in delays),
        }
        status["replicas"] = len(pods)
        if self._resource == "replicasets.apps" and not self._context.settings.legacy:
            status["terminatingReplicas"] = ending
        for name, count in counts.items():
            if count:
                status[name] = count
            else:
                status.pop(name, None)
        status["observedGeneration"] = replica_set["metadata"].get("generation", 1)
        if failure is not None and condition(status, "ReplicaFailure") is None:
            put_condition(
                status,
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "reason": failure_reason,
                    "message": failure.message,
                    "lastTransitionTime": self._context.now(),
                },
            )
        elif failure is None and condition(status, "ReplicaFailure") is not None:
            status["conditions"] = [item for item in status["conditions"] if item["type"] != "ReplicaFailure"]
            if not status["conditions"]:
                del status["conditions"]
        write_status(self._context, self._resource, replica_set, status)
        return min((delay for delay in delays if delay), default=None)
