# SPDX-License-Identifier: Apache-2.0
"""Deployment: rolls its pods from one ReplicaSet to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from labkit.ground.labels import written
from meshbox.contracts import ApiError, Event
from meshbox.controllers import deployment_status as statuses
from meshbox.controllers import rollout
from meshbox.controllers.meta import Context, condition, controller_of, write_status
from meshbox.controllers.owned import Owned, OwnerKind
from meshbox.controllers.pods import is_finished, namespace_is_ending
from meshbox.controllers.rollout_sets import COMPONENT, DEPLOYMENTS, REPLICA_SETS, RolloutSets, split
from meshbox.reconcile import Key, Reconciler, object_key
from meshbox.values import clone

if TYPE_CHECKING:
    from meshbox.typed.workloads import Deployment, DeploymentStatus, ReplicaSet

__all__ = ["DeploymentController"]


class DeploymentController:
    """Brings each Deployment's ReplicaSets to what its template and strategy ask for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        kind = OwnerKind(DEPLOYMENTS, "apps/v1", "Deployment")
        self._owned = Owned(context, REPLICA_SETS, kind)
        self._sets = RolloutSets(context)
        self.reconciler = (
            Reconciler("deployment", context.objects, self._reconcile)
            .watches_events(DEPLOYMENTS, kind.keys)
            .watches_events(REPLICA_SETS, self._owned.keys)
            .watches_events("pods", self._pod_keys)
        )

    def _pod_keys(self, event: Event) -> list[Key]:
        # Recreate waits for the last old pod to be gone, which no ReplicaSet's status tells.
        if event.type != "DELETED" and not is_finished(event.object):
            return []
        owner = controller_of(event.object)
        if owner is None or owner["kind"] != "ReplicaSet":
            return []
        key = self._owned.owner_key((object_key(event.object)[0], owner["name"]))
        return [key] if key else []

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        found = self._context.objects.find(DEPLOYMENTS, name, namespace)
        if found is None:
            return None
        deployment = cast("Deployment", found)
        if not written(deployment["spec"].get("selector")):
            message = "This deployment is selecting all pods. A non-empty selector is required."
            self._context.objects.event(deployment, "Warning", "SelectingAll", message, COMPONENT)
            return None
        found.setdefault("status", {})
        stored = {**found, "status": clone(found["status"])}
        sets = cast("list[ReplicaSet]", self._owned.claim(found))
        failure: ApiError | None = None
        if "deletionTimestamp" in deployment["metadata"]:
            newest, _ = split(deployment, sets)
            status = statuses.counted(self._context, deployment, sets, newest)
        else:
            status, failure = self._advance(deployment, sets)
        # Writing the revision has given the Deployment another resourceVersion meanwhile.
        stored["metadata"] = deployment["metadata"]
        write_status(self._context, DEPLOYMENTS, stored, status)
        if failure is not None:
            raise failure
        return statuses.seconds_to_deadline(self._context, deployment, status)

    def _advance(self, deployment: Deployment, sets: list[ReplicaSet]) -> tuple[DeploymentStatus, ApiError | None]:
        """Take the next step; returns the status to write, and what refused the step."""
        self._note_pause(deployment)
        newest, old = split(deployment, sets)
        paused = bool(deployment["spec"].get("paused"))
        if paused or self._was_scaled(deployment, sets):
            if newest is not None:
                self._sets.refresh(deployment, newest, old)
            self._scale(deployment, newest, old)
            if paused:
                self._sets.forget_old(deployment, old)
            return statuses.counted(self._context, deployment, _joined(newest, old), newest), None
        try:
            newest = self._roll(deployment, newest, old)
        except ApiError as error:
            status = statuses.counted(self._context, deployment, old, None)
            return status, None if namespace_is_ending(error) else error
        if statuses.complete(deployment, deployment["status"]):
            self._sets.forget_old(deployment, old)
        return statuses.progressed(self._context, deployment, _joined(newest, old), newest), None

    def _roll(self, deployment: Deployment, newest: ReplicaSet | None, old: list[ReplicaSet]) -> ReplicaSet | None:
        """One step of the strategy; returns the newest ReplicaSet where there is one by now."""
        if not rollout.is_rolling(deployment):
            for item in rollout.active(old):
                self._sets.resize(deployment, item, 0)
            if self._has_pods(deployment, old):
                return newest
        newest = self._newest(deployment, newest, old)
        if newest is None:
            return None
        grown = self._sets.resize(deployment, newest, rollout.new_size(deployment, old, rollout.replicas(newest)))
        if not grown and rollout.is_rolling(deployment):
            for item, size in rollout.scaled_down_sizes(deployment, newest, old):
                self._sets.resize(deployment, item, size)
        return newest

    def _newest(self, deployment: Deployment, newest: ReplicaSet | None, old: list[ReplicaSet]) -> ReplicaSet | None:
        """The ReplicaSet of the current template, created where there is none."""
        reason, message = "FoundNewReplicaSet", "Found new replica set"
        fresh = newest is None
        if newest is None:
            try:
                newest = self._sets.create(deployment, old)
            except ApiError as error:
                if self._has_deadline(deployment) and not namespace_is_ending(error):
                    message = f"Failed to create new replica set: {error.message}"
                    self._condition(deployment, "False", "ReplicaSetCreateError", message)
                raise
            if newest is None:
                return None
            reason, message = "NewReplicaSetCreated", "Created new replica set"
        else:
            self._sets.refresh(deployment, newest, old)
        self._sets.note_revision(deployment, newest)
        if self._has_deadline(deployment) and (fresh or condition(deployment["status"], "Progressing") is None):
            self._condition(deployment, "True", reason, f'{message} "{newest["metadata"]["name"]}"')
        return newest

    @staticmethod
    def _has_deadline(deployment: Deployment) -> bool:
        return deployment["spec"].get("progressDeadlineSeconds") is not None

    def _condition(self, deployment: Deployment, value: str, reason: str, message: str) -> None:
        statuses.put(self._context, deployment["status"], "Progressing", value, reason, message)

    def _note_pause(self, deployment: Deployment) -> None:
        known = condition(deployment["status"], "Progressing")
        reason = known.get("reason") if known else None
        if not self._has_deadline(deployment) or reason == statuses.TIMED_OUT:
            return
        if deployment["spec"].get("paused"):
            self._condition(deployment, "Unknown", statuses.PAUSED, "Deployment is paused")
        elif reason == statuses.PAUSED:
            self._condition(deployment, "Unknown", "DeploymentResumed", "Deployment is resumed")

    @staticmethod
    def _was_scaled(deployment: Deployment, sets: list[ReplicaSet]) -> bool:
        """Whether `spec.replicas` changed since the ReplicaSets were last sized."""
        wanted = str(rollout.replicas(deployment))
        return any(
            (item["metadata"].get("annotations") or {}).get(rollout.DESIRED, wanted) != wanted
            for item in rollout.active(sets)
        )

    def _scale(self, deployment: Deployment, newest: ReplicaSet | None, old: list[ReplicaSet]) -> None:
        everything = _joined(newest, old)
        busy = rollout.active(everything)
        wanted = rollout.replicas(deployment)
        if len(busy) <= 1:
            latest = busy[0] if busy else newest or (rollout.oldest_first(old)[-1] if old else None)
            if latest is not None:
                self._sets.resize(deployment, latest, wanted)
        elif newest is not None and _saturated(newest, wanted):
            for item in rollout.active(old):
                self._sets.resize(deployment, item, 0)
        elif rollout.is_rolling(deployment):
            for item, size in rollout.proportional_sizes(deployment, everything):
                self._sets.resize(deployment, item, size)

    def _has_pods(self, deployment: Deployment, sets: list[ReplicaSet]) -> bool:
        uids = {item["metadata"]["uid"] for item in sets}
        selector = written(deployment["spec"]["selector"])
        for pod in self._context.objects.list("pods", deployment["metadata"]["namespace"], labels=selector):
            owner = controller_of(pod)
            if owner is not None and owner["uid"] in uids and not is_finished(pod):
                return True
        return False


def _joined(newest: ReplicaSet | None, old: list[ReplicaSet]) -> list[ReplicaSet]:
    return [*old, newest] if newest is not None else list(old)


def _saturated(newest: ReplicaSet, wanted: int) -> bool:
    annotations = newest["metadata"].get("annotations") or {}
    status = newest.get("status") or {}
    return (
        rollout.replicas(newest) == wanted
        and annotations.get(rollout.DESIRED) == str(wanted)
        and bool(status.get("availableReplicas", 0) == wanted)
    )
