# SPDX-License-Identifier: Apache-2.0
"""CronJob: a Job at each time of a schedule."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.cron import Schedule
from meshbox.controllers.job_accounting import JOBS, finished
from meshbox.controllers.meta import (
    MANAGER,
    Context,
    controller_of,
    owner_reference,
    parse_time,
    time_text,
    write_status,
)
from meshbox.controllers.owned import Owned, OwnerKind
from meshbox.controllers.pods import namespace_is_ending
from meshbox.reconcile import Key, Reconciler
from meshbox.values import clone

__all__ = ["CronJobController"]

CRON_JOBS = "cronjobs.batch"
COMPONENT = "cronjob-controller"
MOST_MISSED = 100
"""Missed times above which an event says that something is wrong."""


class CronJobController:
    """Creates the Jobs of each CronJob when their time has come."""

    def __init__(self, context: Context) -> None:
        self._context = context
        kind = OwnerKind(CRON_JOBS, "batch/v1", "CronJob")
        self._jobs = Owned(context, JOBS, kind)
        self.reconciler = (
            Reconciler("cronjob", context.objects, self._reconcile)
            .watches(CRON_JOBS)
            .watches_events(JOBS, self._jobs.keys)
        )

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        cron_job = self._context.objects.find(CRON_JOBS, name, namespace)
        if cron_job is None or "deletionTimestamp" in cron_job["metadata"]:
            return None
        uid = cron_job["metadata"]["uid"]
        jobs = [
            job
            for job in self._context.objects.list(JOBS, namespace)
            if (controller_of(job) or {}).get("uid") == uid and "deletionTimestamp" not in job["metadata"]
        ]
        status: dict[str, Any] = {**(cron_job.get("status") or {})}
        self._note_finished(cron_job, jobs, status)
        self._clean_up(cron_job, jobs)
        again = None if cron_job["spec"].get("suspend") else self._run_due(cron_job, jobs, status)
        active = [_reference(job) for job in jobs if finished(job) is None]
        status.pop("active", None)
        if active:
            status["active"] = active
        write_status(self._context, CRON_JOBS, cron_job, status)
        return again

    def _say(self, cron_job: Obj, reason: str, message: str, warning: bool = False) -> None:
        self._context.objects.event(cron_job, "Warning" if warning else "Normal", reason, message, COMPONENT)

    def _note_finished(self, cron_job: Obj, jobs: list[Obj], status: dict[str, Any]) -> None:
        known = {reference["uid"] for reference in status.get("active") or ()}
        for job in jobs:
            ended = finished(job)
            if ended is None:
                continue
            if job["metadata"]["uid"] in known:
                word = "status" if self._context.settings.legacy else "condition"
                self._say(
                    cron_job,
                    "SawCompletedJob",
                    f"Saw completed job: {job['metadata']['name']}, {word}: {ended['type']}",
                )
            done = (job.get("status") or {}).get("completionTime")
            if (
                done
                and not self._context.settings.legacy
                and parse_time(done) > parse_time(status.get("lastSuccessfulTime"))
            ):
                status["lastSuccessfulTime"] = done

    def _clean_up(self, cron_job: Obj, jobs: list[Obj]) -> None:
        spec = cron_job["spec"]
        for type_, limit in (
            ("Complete", spec.get("successfulJobsHistoryLimit", 3)),
            ("Failed", spec.get("failedJobsHistoryLimit", 1)),
        ):
            ended = [job for job in jobs if (finished(job) or {}).get("type") == type_]
            ended.sort(key=lambda job: (parse_time(job["status"].get("startTime")), job["metadata"]["name"]))
            for job in ended[: max(0, len(ended) - limit)]:
                self._delete(cron_job, job)
                jobs.remove(job)

    def _delete(self, cron_job: Obj, job: Obj) -> None:
        meta = job["metadata"]
        try:
            self._context.objects.delete(JOBS, meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code != 404:
                raise
            return
        self._say(cron_job, "SuccessfulDelete", f"Deleted job {meta['name']}")

    def _run_due(self, cron_job: Obj, jobs: list[Obj], status: dict[str, Any]) -> float | None:
        """Create the Job whose time has come; returns seconds until the next time."""
        spec = cron_job["spec"]
        try:
            schedule = Schedule.parse(spec["schedule"])
            zone: tzinfo = ZoneInfo(spec["timeZone"]) if spec.get("timeZone") else UTC
        except (ValueError, KeyError, ZoneInfoNotFoundError) as error:
            self._say(cron_job, "UnparseableSchedule", f"unparseable schedule: {spec['schedule']} : {error}", True)
            return None
        clock = self._context.clock()
        now = datetime.fromtimestamp(clock, zone)
        since = parse_time(status.get("lastScheduleTime")) or parse_time(cron_job["metadata"]["creationTimestamp"])
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None:
            since = max(since, clock - float(deadline))
        due = self._last_due(cron_job, schedule, datetime.fromtimestamp(since, zone), now)
        if due is not None and not self._held_back(cron_job, jobs):
            created = self._create(cron_job, due)
            if created is not None:
                jobs.append(created)
            status["lastScheduleTime"] = time_text(due.timestamp())
        coming = schedule.after(now)
        return coming.timestamp() - clock if coming is not None else None

    def _last_due(self, cron_job: Obj, schedule: Schedule, since: datetime, now: datetime) -> datetime | None:
        """The newest time of the schedule that has come since `since`; older ones are missed for good."""
        missed, moment = 0, schedule.after(since)
        while moment is not None and moment.timestamp() <= now.timestamp() and missed <= MOST_MISSED:
            missed, moment = missed + 1, schedule.after(moment)
        if missed > MOST_MISSED:
            words = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self._say(cron_job, "TooManyMissedTimes", words, True)
        return schedule.latest(since, now)

    def _held_back(self, cron_job: Obj, jobs: list[Obj]) -> bool:
        active = [job for job in jobs if finished(job) is None]
        policy = cron_job["spec"].get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and active:
            self._say(
                cron_job,
                "JobAlreadyActive",
                "Not starting job because prior execution is running and concurrency policy is Forbid",
            )
            return True
        if policy == "Replace":
            for job in active:
                self._delete(cron_job, job)
                jobs.remove(job)
        return False

    def _create(self, cron_job: Obj, due: datetime) -> Obj | None:
        meta, template = cron_job["metadata"], cron_job["spec"]["jobTemplate"]
        seconds = int(due.timestamp())
        legacy = self._context.settings.legacy
        annotations = dict((template.get("metadata") or {}).get("annotations") or {})
        if not legacy:
            annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"] = due.isoformat().replace("+00:00", "Z")
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                # The name tells the time, so that no time gets two Jobs.
                "name": f"{meta['name']}-{seconds if legacy else seconds // 60}",
                "namespace": meta["namespace"],
                "labels": dict((template.get("metadata") or {}).get("labels") or {}),
                "annotations": annotations,
                "ownerReferences": [owner_reference(cron_job, "batch/v1", "CronJob")],
            },
            "spec": clone(template["spec"]),
        }
        try:
            created = self._context.objects.create(JOBS, job, meta["namespace"], manager=MANAGER)
        except ApiError as error:
            if error.reason == "AlreadyExists" or namespace_is_ending(error):
                return None
            self._say(cron_job, "FailedCreate", f"Error creating job: {error.message}", True)
            raise
        self._say(cron_job, "SuccessfulCreate", f"Created job {created['metadata']['name']}")
        return created


def _reference(job: Obj) -> Obj:
    meta = job["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": meta["name"],
        "namespace": meta["namespace"],
        "resourceVersion": meta["resourceVersion"],
        "uid": meta["uid"],
    }
