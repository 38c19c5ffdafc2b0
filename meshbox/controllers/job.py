# SPDX-License-Identifier: Apache-2.0
"""Job: pods that run to their end."""

from __future__ import annotations

import json
from typing import Any

from labkit.ground.labels import matches
from meshbox.contracts import AdmissionRequest, ApiError, Obj
from meshbox.controllers.job_accounting import (
    FINALIZER,
    JOBS,
    account,
    finished,
    release,
    replaces_late,
    retry_delay,
    set_condition,
)
from meshbox.controllers.job_indexes import allot, every, failed_in, failures_of, free, index_of, indexed
from meshbox.controllers.job_policies import matched_failure, matched_success
from meshbox.controllers.meta import Context, condition, controller_of, parse_time, write_status
from meshbox.controllers.owned import Owned, OwnerKind
from meshbox.controllers.pods import (
    PodControl,
    deletion_rank,
    is_active,
    is_finished,
    is_terminating,
    namespace_is_ending,
)
from meshbox.reconcile import Key, Reconciler
from meshbox.settings import SandboxSettings

__all__ = ["JobController", "JobSelector"]

_MODERN = "batch.kubernetes.io/"


class JobSelector:
    """Admission: gives each new Job the selector and the pod labels by which it knows its own pods.

    Args:
        settings: The labels differ between Kubernetes 1.14 and now.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self._prefixes = [""] if settings.legacy else [_MODERN, ""]

    def mutate(self, request: AdmissionRequest) -> None:
        """Set what is missing; a Job without labels has those of its pods."""
        spec = request.object.get("spec")
        if request.resource != JOBS or request.subresource or not isinstance(spec, dict):
            return
        template = spec.get("template")
        if spec.get("manualSelector") or not isinstance(template, dict):
            return
        if request.operation == "UPDATE" and not request.object["metadata"].get("labels"):
            request.object["metadata"]["labels"] = dict((template.get("metadata") or {}).get("labels") or {})
        if request.operation != "CREATE":
            return
        meta = request.object["metadata"]
        template_meta = template["metadata"] = dict(template.get("metadata") or {})
        labels = template_meta["labels"] = dict(template_meta.get("labels") or {})
        labels |= self._own(meta)
        if not meta.get("labels"):
            meta["labels"] = dict(labels)
        selector = spec["selector"] = dict(spec.get("selector") or {})
        own = {f"{self._prefixes[0]}controller-uid": meta["uid"]}
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **own}

    def _own(self, meta: Obj) -> dict[str, str]:
        names = {"controller-uid": meta["uid"], "job-name": meta.get("name", "")}
        return {f"{prefix}{name}": value for prefix in self._prefixes for name, value in names.items()}

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse a Job that asks for other pods than its own.

        Raises:
            ApiError: 422, in Kubernetes' words.
        """
        if request.operation != "CREATE" or request.resource != JOBS or request.object["spec"].get("manualSelector"):
            return
        selector = request.object["spec"]["selector"]
        if not matches(selector, self._own(request.object["metadata"])):
            shown = json.dumps(selector, sort_keys=True, separators=(",", ":"))
            one = {
                "reason": "FieldValueInvalid",
                "message": f"Invalid value: {shown}: `selector` not auto-generated",
                "field": "spec.selector",
            }
            details = {"name": request.name, "group": "batch", "kind": "Job", "causes": [one]}
            words = f'Job.batch "{request.name}" is invalid: {one["field"]}: {one["message"]}'
            raise ApiError(422, "Invalid", words, details)


class JobController:
    """Runs each Job's pods until enough have succeeded or too many have failed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        kind = OwnerKind(JOBS, "batch/v1", "Job")
        self._pods = Owned(context, "pods", kind)
        self._control = PodControl(context, kind, "job-controller")
        self.reconciler = (
            Reconciler("job", context.objects, self._reconcile)
            .watches_events(JOBS, kind.keys)
            .watches_events("pods", self._pods.keys)
        )

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        job = self._context.objects.find(JOBS, name, namespace)
        if job is None or "deletionTimestamp" in job["metadata"]:
            self._let_go(key, job)
            return None
        if (ended := finished(job)) is not None:
            return self._after_end(job, ended)
        pods = self._pods.claim(job)
        status = account(self._context, job, pods)
        failure: ApiError | None = None
        again: float | None = None
        try:
            again = self._advance(job, pods, status)
        except ApiError as error:
            failure = error
        status.pop("active", None)
        if count := sum(is_active(pod) for pod in pods):
            status["active"] = count
        write_status(self._context, JOBS, job, status)
        if (ended := finished({"status": status})) is not None:
            reason = "Completed" if ended["type"] == "Complete" else ended.get("reason", "")
            message = "Job completed" if ended["type"] == "Complete" else ended.get("message", "")
            self._control.say(job, "Normal" if ended["type"] == "Complete" else "Warning", reason, message)
        if failure is not None and not namespace_is_ending(failure):
            raise failure
        return again

    def _let_go(self, key: Key, job: Obj | None) -> None:
        """Nobody will count the pods of a Job that is gone or going."""
        for pod in self._context.objects.list("pods", key[0]):
            owner = controller_of(pod)
            if owner is None or owner["kind"] != "Job" or owner["name"] != key[1]:
                continue
            if job is None or owner["uid"] == job["metadata"]["uid"]:
                release(self._context, pod)

    def _after_end(self, job: Obj, ended: Obj) -> float | None:
        meta = job["metadata"]
        for pod in self._pods.claim(job):
            release(self._context, pod)
        keep = job["spec"].get("ttlSecondsAfterFinished")
        if keep is None:
            return None
        left = parse_time(ended["lastTransitionTime"]) + float(keep) - self._context.clock()
        if left > 0:
            return left
        self._context.objects.delete(JOBS, meta["name"], meta["namespace"], propagation="Foreground", uid=meta["uid"])
        return None

    def _advance(self, job: Obj, pods: list[Obj], status: dict[str, Any]) -> float | None:
        """Create or delete pods and set conditions in `status`; returns when to look again."""
        spec = job["spec"]
        if spec.get("suspend"):
            self._suspend(job, pods, status)
            return None
        suspended = condition(status, "Suspended")
        if suspended is not None and suspended["status"] == "True":
            set_condition(self._context, status, "Suspended", "False", "JobResumed", "Job resumed")
            self._control.say(job, "Normal", "Resumed", "Job resumed")
        status.setdefault("startTime", self._context.now())
        if failed := self._why_failed(job, pods, status):
            self._end(job, pods, status, "Failed", "FailureTarget", *failed)
            return None
        if matched := matched_success(job, status):
            self._end(job, pods, status, "Complete", "SuccessCriteriaMet", "SuccessPolicy", matched)
            return None
        succeeded, completions = status.get("succeeded", 0), spec.get("completions")
        active = [pod for pod in pods if is_active(pod)]
        if (completions is None and succeeded and not active) or (completions is not None and succeeded >= completions):
            words = ("CompletionsReached", "Reached expected number of succeeded pods")
            self._end(job, pods, status, "Complete", "SuccessCriteriaMet", *words)
            return None
        return self._size(job, pods, active, status)

    def _size(self, job: Obj, pods: list[Obj], active: list[Obj], status: dict[str, Any]) -> float | None:
        spec = job["spec"]
        succeeded, completions, parallelism = (
            status.get("succeeded", 0),
            spec.get("completions"),
            spec.get("parallelism", 1),
        )
        if completions is None:
            wanted = len(active) if succeeded else parallelism
        else:
            wanted = min(parallelism, completions - succeeded)
        deadline = self._to_deadline(spec, status)
        leaving = [pod for pod in pods if is_terminating(pod) and not is_finished(pod)] if replaces_late(job) else []
        wanted = max(0, wanted - len(leaving))
        if indexed(job):
            return self._fill_indexes(job, pods, active, leaving, status, wanted)
        counted = [pod for pod in pods if matched_failure(job, pod)[0] != "Ignore"]
        delay = retry_delay(self._context, counted) if len(active) < wanted else 0.0
        if delay:
            return delay if deadline is None else min(delay, deadline)
        for pod in sorted(active, key=deletion_rank)[: max(0, len(active) - wanted)]:
            self._delete(job, pod)
        for _ in range(wanted - len(active)):
            self._create(job, pods, self._control.pod(job))
        return deadline

    def _create(self, job: Obj, pods: list[Obj], pod: Obj) -> None:
        if not self._context.settings.legacy:
            pod["metadata"]["finalizers"] = [*(pod["metadata"].get("finalizers") or ()), FINALIZER]
        pods.append(self._control.create(job, pod))

    def _fill_indexes(
        self, job: Obj, pods: list[Obj], active: list[Obj], leaving: list[Obj], status: dict[str, Any], wanted: int
    ) -> float | None:
        """Have `wanted` indexes worked on, the lowest first, each by one pod; returns when to look again.

        Nobody takes over the index of a pod that is `leaving`.
        """
        again = [found] if (found := self._to_deadline(job["spec"], status)) is not None else []
        open_ones = set(free(job, status, ()))
        kept: dict[int, Obj] = {}
        for pod in sorted(active, key=lambda pod: (index_of(pod), pod["metadata"]["name"])):
            if index_of(pod) in open_ones and index_of(pod) not in kept and len(kept) < wanted:
                kept[index_of(pod)] = pod
            else:
                self._delete(job, pod)
        each_for_itself = job["spec"].get("backoffLimitPerIndex") is not None
        for index in list(free(job, status, [*kept.values(), *leaving]))[: max(0, wanted - len(kept))]:
            former = [pod for pod in pods if index_of(pod) == index and pod not in active]
            counted = [pod for pod in (former if each_for_itself else pods) if matched_failure(job, pod)[0] != "Ignore"]
            if delay := retry_delay(self._context, counted):
                again.append(delay)
                continue
            tries = [failures_of(pod) + (pod in counted) for pod in former]
            pod = self._control.pod(job)
            allot(job, pod, index, max(tries, default=0))
            self._create(job, pods, pod)
        return min(again, default=None)

    def _delete(self, job: Obj, pod: Obj, *, counts: bool = False) -> None:
        """Delete a pod that still runs; it `counts` as failed or is not counted at all."""
        if not counts:
            release(self._context, pod)
        self._control.delete(job, pod)
        # The copy is marked as well, so that what is counted next sees it.
        pod["metadata"].setdefault("deletionTimestamp", self._context.now())

    def _to_deadline(self, spec: Obj, status: Obj) -> float | None:
        limit = spec.get("activeDeadlineSeconds")
        if limit is None:
            return None
        return max(0.0, parse_time(status["startTime"]) + float(limit) - self._context.clock())

    def _why_failed(self, job: Obj, pods: list[Obj], status: Obj) -> tuple[str, str] | None:
        spec = job["spec"]
        known = condition(status, "FailureTarget")
        if known is not None and known["status"] == "True":
            return known["reason"], known["message"]
        for pod in pods:
            action, words = matched_failure(job, pod) if pod["status"].get("phase") == "Failed" else ("", "")
            if action == "FailJob":
                return "PodFailurePolicy", words
        limit = spec.get("backoffLimit", 6)
        too_often = status.get("failed", 0) > limit
        if spec["template"]["spec"].get("restartPolicy") == "OnFailure":
            restarts = sum(
                item.get("restartCount", 0)
                for pod in pods
                if is_active(pod)
                for field in ("initContainerStatuses", "containerStatuses")
                for item in pod["status"].get(field) or ()
            )
            too_often = too_often or (restarts > 0 if limit == 0 else restarts >= limit)
        if too_often:
            return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if self._to_deadline(spec, status) == 0:
            return "DeadlineExceeded", "Job was active longer than specified deadline"
        lost, most = failed_in(job, status), spec.get("maxFailedIndexes")
        if most is not None and len(lost) > most:
            return "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
        if lost and len(lost) + status.get("succeeded", 0) >= len(every(job)):
            return "FailedIndexes", "Job has failed indexes"
        return None

    def _end(
        self, job: Obj, pods: list[Obj], status: dict[str, Any], type_: str, first: str, reason: str, message: str
    ) -> None:
        """Stop what still runs and say why; a current Kubernetes says the last word only when all of it has ended."""
        legacy = self._context.settings.legacy
        if not legacy:
            set_condition(self._context, status, first, "True", reason, message)
        stopped = [pod for pod in pods if is_active(pod)]
        for pod in stopped:
            self._delete(job, pod, counts=type_ == "Failed")
        if legacy and type_ == "Failed" and stopped:
            status["failed"] = status.get("failed", 0) + len(stopped)
        if not legacy and (stopped or status.get("terminating")):
            return
        if type_ == "Complete":
            status["completionTime"] = self._context.now()
            if legacy:
                reason = message = ""
        set_condition(self._context, status, type_, "True", reason, message)

    def _suspend(self, job: Obj, pods: list[Obj], status: dict[str, Any]) -> None:
        for pod in [pod for pod in pods if is_active(pod)]:
            self._delete(job, pod)
        status.pop("startTime", None)
        if set_condition(self._context, status, "Suspended", "True", "JobSuspended", "Job suspended"):
            self._control.say(job, "Normal", "Suspended", "Job suspended")
