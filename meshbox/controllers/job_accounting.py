# SPDX-License-Identifier: Apache-2.0
"""How a Job counts its pods, and when it is done.

A current Kubernetes marks each pod of a Job with a finalizer until the pod's end is counted, so that a pod deleted
after its end is neither lost nor counted twice, whenever the controller dies. Kubernetes 1.14 counts the pods that
there are.
"""

from __future__ import annotations

from typing import Any

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.job_indexes import every, failed_in, failures_of, index_of, indexed, read, written
from meshbox.controllers.job_policies import matched_failure
from meshbox.controllers.meta import MANAGER, Context, condition, parse_time, write_status
from meshbox.controllers.pods import is_active, is_finished, is_ready, is_terminating

__all__ = ["FINALIZER", "JOBS", "account", "finished", "release", "replaces_late", "retry_delay", "set_condition"]

JOBS = "jobs.batch"
FINALIZER = "batch.kubernetes.io/job-tracking"

_FIRST_DELAY = 10.0
_COUNTS = (("succeeded", "succeeded"), ("failed", "failed"))


def finished(job: Obj) -> Obj | None:
    """The condition that ended the Job, if it has ended."""
    for type_ in ("Complete", "Failed"):
        found = condition(job.get("status") or {}, type_)
        if found is not None and found["status"] == "True":
            return found
    return None


def set_condition(context: Context, status: Obj, type_: str, value: str, reason: str = "", message: str = "") -> bool:
    """Set a condition of a Job; returns whether its status changed."""
    known = condition(status, type_)
    if known is not None and known["status"] == value:
        return False
    new: dict[str, Any] = {
        "type": type_,
        "status": value,
        "lastProbeTime": context.now(),
        "lastTransitionTime": context.now(),
    }
    if reason:
        new |= {"reason": reason, "message": message}
    status["conditions"] = [item for item in status.get("conditions") or () if item["type"] != type_] + [new]
    return True


def release(context: Context, pod: Obj) -> None:
    """Take the finalizer off a pod."""
    meta = pod["metadata"]
    finalizers = meta.get("finalizers") or []
    if FINALIZER not in finalizers:
        return
    rest = [item for item in finalizers if item != FINALIZER]
    try:
        context.objects.patch(
            "pods", meta["name"], {"metadata": {"finalizers": rest or None}}, meta["namespace"], manager=MANAGER
        )
    except ApiError as error:
        if error.code != 404:
            raise
    meta["finalizers"] = rest


def account(context: Context, job: Obj, pods: list[Obj]) -> Obj:
    """The Job's status with its pods counted.

    Args:
        context: Shared by all controllers.
        job: The Job; brought up to date where its status is written on the way.
        pods: Its pods; their finalizers are removed as they are counted.
    """
    status: dict[str, Any] = {**(job.get("status") or {})}
    active = [pod for pod in pods if is_active(pod)]
    if context.settings.legacy:
        status["succeeded"] = sum(pod["status"].get("phase") == "Succeeded" for pod in pods)
        status["failed"] = sum(pod["status"].get("phase") == "Failed" for pod in pods)
    else:
        _count_tracked(context, job, status, pods)
        status["ready"] = sum(is_ready(pod) for pod in active)
        status["terminating"] = sum(is_terminating(pod) and not is_finished(pod) for pod in pods)
    status["active"] = len(active)
    for field in ("active", "succeeded", "failed"):
        if not status[field]:
            del status[field]
    return status


def replaces_late(job: Obj) -> bool:
    """Whether a pod that is being deleted is waited for, and only then replaced."""
    return bool(job["spec"].get("podReplacementPolicy") == "Failed")


def _outcome(job: Obj, pod: Obj) -> str | None:
    phase = pod["status"].get("phase")
    if phase == "Succeeded":
        return "succeeded"
    # A pod that is being deleted may never reach an end of its own.
    return "failed" if phase == "Failed" or (is_terminating(pod) and not replaces_late(job)) else None


def _count_indexes(job: Obj, status: dict[str, Any], tracked: list[Obj]) -> None:
    """Put down which indexes have succeeded, and which are given up."""
    done, lost = read(status.get("completedIndexes"), job), failed_in(job, status)
    limit = job["spec"].get("backoffLimitPerIndex")
    for pod in tracked:
        outcome, index = _outcome(job, pod), index_of(pod)
        if outcome is None or index not in every(job):
            continue
        if outcome == "succeeded":
            done.add(index)
        elif limit is not None and index not in done:
            action, _ = matched_failure(job, pod)
            if action == "FailIndex" or (action != "Ignore" and failures_of(pod) >= limit):
                lost.add(index)
    status["completedIndexes"] = written(done)
    if not done:
        del status["completedIndexes"]
    if limit is not None:
        status["failedIndexes"] = written(lost - done)
    status["succeeded"] = len(done)


def _count_tracked(context: Context, job: Obj, status: dict[str, Any], pods: list[Obj]) -> None:
    uncounted = {field: list((status.get("uncountedTerminatedPods") or {}).get(field) or ()) for field, _ in _COUNTS}
    tracked = [pod for pod in pods if FINALIZER in (pod["metadata"].get("finalizers") or ())]
    if indexed(job):
        _count_indexes(job, status, tracked)
    passed_over = []
    for pod in tracked:
        outcome, uid = _outcome(job, pod), pod["metadata"]["uid"]
        if (outcome == "succeeded" and indexed(job)) or (
            outcome == "failed" and matched_failure(job, pod)[0] == "Ignore"
        ):
            # Indexes are counted, not the pods that worked on them; and what a policy ignores never was.
            passed_over.append(pod)
        elif outcome and not any(uid in uids for uids in uncounted.values()):
            uncounted[outcome].append(uid)
    # First who is to be counted is written, then the finalizers go, then the counts are written: a controller that
    # dies in between finds out where it was.
    status["uncountedTerminatedPods"] = {field: uids for field, uids in uncounted.items() if uids}
    if status["uncountedTerminatedPods"] or passed_over:
        if write_status(context, JOBS, job, status):
            job.update(context.objects.get(JOBS, job["metadata"]["name"], job["metadata"]["namespace"]))
        for pod in tracked:
            if pod in passed_over or any(pod["metadata"]["uid"] in uids for uids in uncounted.values()):
                release(context, pod)
    for field, uids in uncounted.items():
        status[field] = status.get(field, 0) + len(uids)
    status["uncountedTerminatedPods"] = {}


def _end(pod: Obj) -> float:
    ends = [
        parse_time(((item.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        for item in pod["status"].get("containerStatuses") or ()
    ]
    return max([*ends, parse_time(pod["metadata"].get("creationTimestamp"))])


def retry_delay(context: Context, pods: list[Obj]) -> float:
    """Seconds until the next pod may be created: 10, 20, 40 … after each failure since the last success."""
    last_success = max((_end(pod) for pod in pods if pod["status"].get("phase") == "Succeeded"), default=0.0)
    failures = [_end(pod) for pod in pods if pod["status"].get("phase") == "Failed"]
    failures = [end for end in failures if end >= last_success]
    if not failures:
        return 0.0
    longest = 360.0 if context.settings.legacy else 600.0
    delay: float = min(_FIRST_DELAY * 2 ** min(len(failures) - 1, 10), longest)
    return max(0.0, max(failures) + delay - context.clock())
