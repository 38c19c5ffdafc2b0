# SPDX-License-Identifier: Apache-2.0
"""The ReplicaSets of a Deployment: made, sized, annotated and forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from meshbox.contracts import ApiError
from meshbox.controllers import rollout
from meshbox.controllers.meta import MANAGER, Context, hash_text, owner_reference
from meshbox.values import clone

if TYPE_CHECKING:
    from labkit.ground.typed.metadata import ObjectMeta
    from meshbox.typed.pods import PodTemplateSpec
    from meshbox.typed.workloads import Deployment, ReplicaSet

__all__ = ["COMPONENT", "DEPLOYMENTS", "REPLICA_SETS", "RolloutSets", "split"]

COMPONENT = "deployment-controller"
DEPLOYMENTS = "deployments.apps"
REPLICA_SETS = "replicasets.apps"

_HASH = "pod-template-hash"
_NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    rollout.REVISION,
    rollout.HISTORY,
    rollout.DESIRED,
    rollout.MAX,
}


def _bare(template: PodTemplateSpec) -> PodTemplateSpec:
    meta: ObjectMeta = {**(template.get("metadata") or {})}
    meta.pop("creationTimestamp", None)
    meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key != _HASH}
    return {**template, "metadata": meta}


def split(deployment: Deployment, sets: list[ReplicaSet]) -> tuple[ReplicaSet | None, list[ReplicaSet]]:
    """The ReplicaSet that has the Deployment's template as it is now (None where there is none), and all others."""
    wanted = _bare(deployment["spec"]["template"])
    newest = next((item for item in rollout.oldest_first(sets) if _bare(item["spec"]["template"]) == wanted), None)
    return newest, [item for item in sets if item is not newest]


def _annotations(obj: Deployment | ReplicaSet) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("annotations") or {}
    return found


def _copied_annotations(deployment: Deployment) -> dict[str, str]:
    return {key: value for key, value in _annotations(deployment).items() if key not in _NOT_COPIED}


def _size_annotations(deployment: Deployment) -> dict[str, str]:
    wanted = rollout.replicas(deployment)
    return {rollout.DESIRED: str(wanted), rollout.MAX: str(wanted + rollout.max_surge(deployment))}


def _next_revision(old: list[ReplicaSet]) -> int:
    return 1 + max(map(rollout.revision, old), default=0)


class RolloutSets:
    """Writes the ReplicaSets of Deployments. What is written is also brought into the copies that were given.

    Args:
        context: Shared by all controllers.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def _patch(self, resource: str, obj: Deployment | ReplicaSet, patch: dict[str, Any], part: str = "") -> None:
        meta = obj["metadata"]
        written = self._context.objects.patch(
            resource, meta["name"], patch, meta["namespace"], subresource=part, manager=MANAGER
        )
        obj["metadata"], obj["spec"] = written["metadata"], written["spec"]

    def _say_scaled(self, deployment: Deployment, name: str, before: int, size: int) -> None:
        change = f"to {size}" if self._context.settings.legacy else f"from {before} to {size}"
        message = f"Scaled {'up' if size > before else 'down'} replica set {name} {change}"
        self._context.objects.event(deployment, "Normal", "ScalingReplicaSet", message, COMPONENT)

    def create(self, deployment: Deployment, old: list[ReplicaSet]) -> ReplicaSet | None:
        """Create the ReplicaSet of the current template.

        Returns:
            It, or None where its name is taken; `status.collisionCount` of `deployment` then changes the next name.

        Raises:
            ApiError: It was refused.
        """
        meta, spec = deployment["metadata"], deployment["spec"]
        collisions = deployment["status"].get("collisionCount", 0)
        size = rollout.new_size(deployment, old, 0)
        digest = hash_text(spec["template"], collisions)
        template = clone(spec["template"])
        template.setdefault("metadata", {}).setdefault("labels", {})[_HASH] = digest
        selector = clone(spec["selector"])
        selector.setdefault("matchLabels", {})[_HASH] = digest
        replica_set: dict[str, Any] = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{digest}",
                "namespace": meta["namespace"],
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {
                    **_copied_annotations(deployment),
                    **_size_annotations(deployment),
                    rollout.REVISION: str(_next_revision(old)),
                },
                "ownerReferences": [owner_reference(deployment, "apps/v1", "Deployment")],
            },
            "spec": {"replicas": size, "selector": selector, "template": template},
        }
        if spec.get("minReadySeconds"):
            replica_set["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        try:
            created = self._context.objects.create(REPLICA_SETS, replica_set, meta["namespace"], manager=MANAGER)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            deployment["status"]["collisionCount"] = collisions + 1
            return None
        if size:
            self._say_scaled(deployment, created["metadata"]["name"], 0, size)
        return cast("ReplicaSet", created)

    def resize(self, deployment: Deployment, replica_set: ReplicaSet, size: int) -> bool:
        """Give a ReplicaSet its size and note the Deployment's beside it; returns whether its size changed."""
        before = rollout.replicas(replica_set)
        noted = _size_annotations(deployment)
        if before == size and noted.items() <= _annotations(replica_set).items():
            return False
        self._patch(REPLICA_SETS, replica_set, {"metadata": {"annotations": noted}, "spec": {"replicas": size}})
        if before == size:
            return False
        self._say_scaled(deployment, replica_set["metadata"]["name"], before, size)
        return True

    def refresh(self, deployment: Deployment, newest: ReplicaSet, old: list[ReplicaSet]) -> None:
        """Bring the newest ReplicaSet's annotations and `minReadySeconds` up to date; its revision is the highest."""
        annotations = _annotations(newest)
        changed = {
            key: value for key, value in _copied_annotations(deployment).items() if annotations.get(key) != value
        }
        number, before = _next_revision(old), rollout.revision(newest)
        if before < number:
            changed[rollout.REVISION] = str(number)
            if before:
                history = filter(None, annotations.get(rollout.HISTORY, "").split(","))
                changed[rollout.HISTORY] = ",".join([*history, str(before)])
        patch: dict[str, Any] = {"metadata": {"annotations": changed}} if changed else {}
        ready_seconds = deployment["spec"].get("minReadySeconds", 0)
        if newest["spec"].get("minReadySeconds", 0) != ready_seconds:
            patch["spec"] = {"minReadySeconds": ready_seconds}
        if patch:
            self._patch(REPLICA_SETS, newest, patch)

    def note_revision(self, deployment: Deployment, newest: ReplicaSet) -> None:
        """Write the revision of the newest ReplicaSet on the Deployment."""
        number = str(rollout.revision(newest))
        if _annotations(deployment).get(rollout.REVISION) != number:
            self._patch(DEPLOYMENTS, deployment, {"metadata": {"annotations": {rollout.REVISION: number}}}, "status")

    def forget_old(self, deployment: Deployment, old: list[ReplicaSet]) -> None:
        """Delete the oldest ReplicaSets beyond `revisionHistoryLimit`, if they have no pods any more."""
        limit = deployment["spec"].get("revisionHistoryLimit")
        if limit is None:
            return
        alive = [item for item in rollout.oldest_first(old) if "deletionTimestamp" not in item["metadata"]]
        for item in alive[: max(0, len(alive) - limit)]:
            meta, status = item["metadata"], item.get("status") or {}
            observed = status.get("observedGeneration", 0) >= meta.get("generation", 1)
            if observed and not rollout.replicas(item) and not status.get("replicas"):
                self._context.objects.delete(REPLICA_SETS, meta["name"], meta["namespace"], uid=meta["uid"])
