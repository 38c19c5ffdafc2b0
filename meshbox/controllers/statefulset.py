# SPDX-License-Identifier: Apache-2.0
"""StatefulSet: pods with names that last, in order."""

from __future__ import annotations

import re
from typing import Any

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.meta import MANAGER, Context, controller_of, write_status
from meshbox.controllers.owned import Owned, OwnerKind
from meshbox.controllers.pods import (
    PodControl,
    available_after,
    is_finished,
    is_ready,
    is_terminating,
    namespace_is_ending,
)
from meshbox.controllers.revisions import HASH, Revision, current_revision
from meshbox.reconcile import Key, Reconciler
from meshbox.values import clone

__all__ = ["StatefulSetController"]

RESOURCE = "statefulsets.apps"
CLAIMS = "persistentvolumeclaims"


def _ordinal(stateful_set: Obj, pod: Obj) -> int:
    match = re.fullmatch(re.escape(stateful_set["metadata"]["name"]) + r"-(\d+)", pod["metadata"]["name"])
    return int(match[1]) if match else -1


class StatefulSetController:
    """Creates each StatefulSet's pods from the lowest number up, and deletes them from the highest down."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kind = OwnerKind(RESOURCE, "apps/v1", "StatefulSet")
        self._pods = Owned(context, "pods", self._kind)
        self._control = PodControl(context, self._kind, "statefulset-controller")
        self.reconciler = (
            Reconciler("statefulset", context.objects, self._reconcile)
            .watches_events(RESOURCE, self._kind.keys)
            .watches_events("pods", self._pods.keys)
        )

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        stateful_set = self._context.objects.find(RESOURCE, name, namespace)
        if stateful_set is None:
            return None
        claimed = self._pods.claim(stateful_set, adopts=lambda pod: _ordinal(stateful_set, pod) >= 0)
        if "deletionTimestamp" in stateful_set["metadata"]:
            return None
        revision = current_revision(self._context, stateful_set, self._kind)
        pods = {_ordinal(stateful_set, pod): pod for pod in claimed if _ordinal(stateful_set, pod) >= 0}
        failure: ApiError | None = None
        try:
            self._step(stateful_set, pods, revision)
        except ApiError as error:
            failure = error
        soon = self._write_status(stateful_set, pods, revision)
        if failure is not None and not namespace_is_ending(failure):
            raise failure
        return soon

    def _step(self, stateful_set: Obj, pods: dict[int, Obj], revision: Revision) -> None:
        """Create, replace or delete; with OrderedReady one pod at a time."""
        spec = stateful_set["spec"]
        first = (spec.get("ordinals") or {}).get("start", 0)
        wanted = range(first, first + spec.get("replicas", 1))
        parallel = spec.get("podManagementPolicy") == "Parallel"
        for number in wanted:
            pod = pods.get(number)
            if pod is not None and is_finished(pod) and not is_terminating(pod):
                name = f"{stateful_set['metadata']['namespace']}/{stateful_set['metadata']['name']}"
                message = f"StatefulSet {name} is recreating terminated Pod {pod['metadata']['name']}"
                self._control.say(stateful_set, "Warning", "RecreatingTerminatedPod", message)
                self._delete(stateful_set, pods, number)
                return
            if pod is None:
                pods[number] = self._create(stateful_set, number, revision)
                if not parallel:
                    return
            elif not parallel and (is_terminating(pod) or not self._available(stateful_set, pod)):
                return
        for number in sorted((number for number in pods if number not in wanted), reverse=True):
            if not is_terminating(pods[number]):
                self._delete(stateful_set, pods, number)
            if not parallel:
                return
        self._roll(stateful_set, pods, wanted, revision)

    def _roll(self, stateful_set: Obj, pods: dict[int, Obj], wanted: range, revision: Revision) -> None:
        """Replace pods of an older template, the highest number first, each once the one above is there again."""
        strategy = stateful_set["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        for number in sorted((number for number in wanted if number >= partition), reverse=True):
            pod = pods[number]
            if (pod["metadata"].get("labels") or {}).get(HASH) != revision.name:
                if not is_terminating(pod):
                    self._delete(stateful_set, pods, number)
                return
            if is_terminating(pod) or not self._available(stateful_set, pod):
                return

    def _available(self, stateful_set: Obj, pod: Obj) -> bool:
        return available_after(pod, stateful_set["spec"].get("minReadySeconds", 0), self._context.clock()) == 0

    def _create(self, stateful_set: Obj, number: int, revision: Revision) -> Obj:
        pod = self._control.pod(stateful_set)
        meta, name = pod["metadata"], f"{stateful_set['metadata']['name']}-{number}"
        meta["name"] = name
        labels = meta.setdefault("labels", {})
        labels |= {HASH: revision.name, "statefulset.kubernetes.io/pod-name": name}
        if not self._context.settings.legacy:
            labels["apps.kubernetes.io/pod-index"] = str(number)
        pod["spec"] |= {"hostname": name, "subdomain": stateful_set["spec"].get("serviceName", "")}
        for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
            claim = f"{template['metadata']['name']}-{name}"
            self._claim_volume(stateful_set, template, claim)
            volumes = [
                item for item in pod["spec"].get("volumes") or () if item["name"] != template["metadata"]["name"]
            ]
            source = {"persistentVolumeClaim": {"claimName": claim}}
            pod["spec"]["volumes"] = [*volumes, {"name": template["metadata"]["name"], **source}]
        said = f"Pod {name} in StatefulSet {stateful_set['metadata']['name']}"
        try:
            created = self._context.objects.create("pods", pod, meta["namespace"], manager=MANAGER)
        except ApiError as error:
            if not namespace_is_ending(error):
                self._control.say(
                    stateful_set,
                    "Warning",
                    "FailedCreate",
                    f"{self._verb('create')} {said} failed error: {error.message}",
                )
            raise
        self._control.say(stateful_set, "Normal", "SuccessfulCreate", f"{self._verb('create')} {said} successful")
        return created

    def _verb(self, word: str) -> str:
        return word if self._context.settings.legacy else word.capitalize()

    def _claim_volume(self, stateful_set: Obj, template: Obj, name: str) -> None:
        namespace = stateful_set["metadata"]["namespace"]
        if self._context.objects.find(CLAIMS, name, namespace) is not None:
            return
        meta = clone(template["metadata"])
        meta.pop("creationTimestamp", None)
        labels = {**(meta.get("labels") or {}), **(stateful_set["spec"]["selector"].get("matchLabels") or {})}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {**meta, "name": name, "namespace": namespace, "labels": labels},
            "spec": clone(template["spec"]),
        }
        self._context.objects.create(CLAIMS, claim, namespace, manager=MANAGER)

    def _delete(self, stateful_set: Obj, pods: dict[int, Obj], number: int) -> None:
        pod = pods[number]
        meta = pod["metadata"]
        try:
            self._context.objects.delete("pods", meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code != 404:
                raise
        said = f"Pod {meta['name']} in StatefulSet {stateful_set['metadata']['name']}"
        message = f"{self._verb('delete')} {said} successful"
        self._control.say(stateful_set, "Normal", "SuccessfulDelete", message)
        # The copy is marked as well, so that what is counted next sees it.
        meta.setdefault("deletionTimestamp", self._context.now())

    def _write_status(self, stateful_set: Obj, pods: dict[int, Obj], revision: Revision) -> float | None:
        spec = stateful_set["spec"]
        uid = stateful_set["metadata"]["uid"]
        mine = [pod for pod in pods.values() if (controller_of(pod) or {}).get("uid") == uid and not is_finished(pod)]
        delays = [available_after(pod, spec.get("minReadySeconds", 0), self._context.clock()) for pod in mine]
        status: dict[str, Any] = {
            **(stateful_set.get("status") or {}),
            "observedGeneration": stateful_set["metadata"].get("generation", 1),
            "replicas": len(mine),
            "availableReplicas": sum(delay == 0 for delay in delays),
            "updateRevision": revision.name,
            "collisionCount": 0,
        }
        alive = [pod for pod in mine if not is_terminating(pod)]
        updated = sum((pod["metadata"].get("labels") or {}).get(HASH) == revision.name for pod in alive)
        before = status.get("currentRevision") or revision.name
        ready = sum(is_ready(pod) for pod in alive)
        if updated == ready == len(mine) == spec.get("replicas", 1):
            before = revision.name
        status["currentRevision"] = before
        current = sum((pod["metadata"].get("labels") or {}).get(HASH) == before for pod in alive)
        for field, value in (("readyReplicas", ready), ("updatedReplicas", updated), ("currentReplicas", current)):
            status.pop(field, None)
            if value:
                status[field] = value
        write_status(self._context, RESOURCE, stateful_set, status)
        return min((delay for delay in delays if delay), default=None)
