# SPDX-License-Identifier: Apache-2.0
"""CronJobs and their schedules."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from meshbox.api import metadata
from meshbox.contracts import Obj
from meshbox.controllers.cron import Schedule
from meshbox.controllers.meta import time_text

from . import conftest
from .conftest import Cluster, pod_spec

JOBS = "jobs.batch"
CRON_JOBS = "cronjobs.batch"
NOW = 1_767_225_630.0
"""Half a minute after the year 2026 began: only what a test says makes it another minute."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controllers' clock, and that of objects, stand still."""
    stands = SimpleNamespace(
        time=lambda: NOW, monotonic=time.monotonic, gmtime=lambda: time.gmtime(NOW), strftime=time.strftime
    )
    monkeypatch.setattr(conftest, "time", stands)
    monkeypatch.setattr(metadata, "now", lambda: time_text(NOW))


def cron_job(schedule: str = "* * * * *", **spec: Any) -> Obj:
    template = {"spec": {"template": {"spec": pod_spec("curl:1", restartPolicy="Never")}, "completions": 1}}
    return {
        "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": schedule, "jobTemplate": template, **spec},
    }


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * *", "2026-01-31 23:59:30", "2026-02-01 00:00"),
        ("*/15 * * * *", "2026-01-01 00:15:00", "2026-01-01 00:30"),
        ("5/20 3 * * *", "2026-01-01 03:25:00", "2026-01-01 03:45"),
        ("0 9-17/4 * * *", "2026-01-01 13:00:00", "2026-01-01 17:00"),
        ("0 0 29 2 *", "2026-03-01 00:00:00", "2028-02-29 00:00"),
        ("0 0 * * sun", "2026-01-01 00:00:00", "2026-01-04 00:00"),
        ("0 0 * * 7", "2026-01-01 00:00:00", "2026-01-04 00:00"),
        ("0 0 13 * fri", "2026-01-01 00:00:00", "2026-01-02 00:00"),
        ("30 4 1,15 jan,jul *", "2026-01-15 04:30:00", "2026-07-01 04:30"),
        ("@hourly", "2026-01-01 00:00:00", "2026-01-01 01:00"),
        ("@weekly", "2026-01-01 00:00:00", "2026-01-04 00:00"),
    ],
)
def test_times_of_a_schedule(schedule: str, after: str, expected: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = Schedule.parse(schedule).after(moment)
    assert found is not None
    assert found.strftime("%Y-%m-%d %H:%M") == expected


@pytest.mark.parametrize(
    ("schedule", "since", "expected"),
    [
        ("*/5 * * * *", "2026-05-01 00:00:00", "2026-05-20 11:55"),
        ("0 3 * * *", "2026-05-01 00:00:00", "2026-05-20 03:00"),
        ("0 3 2 * *", "2026-05-01 00:00:00", "2026-05-02 03:00"),
        ("0 3 1 1 *", "2022-05-01 00:00:00", "2026-01-01 03:00"),
        ("*/5 * * * *", "2026-05-20 11:55:00", None),
    ],
)
def test_the_latest_time_of_a_schedule(schedule: str, since: str, expected: str | None) -> None:
    until = datetime(2026, 5, 20, 11, 57, tzinfo=UTC)
    found = Schedule.parse(schedule).latest(datetime.fromisoformat(since).replace(tzinfo=UTC), until)
    assert (found.strftime("%Y-%m-%d %H:%M") if found else None) == expected


def test_a_schedule_that_never_comes() -> None:
    assert Schedule.parse("0 0 31 2 *").after(datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        # "*" among the days, a step of one included, leaves it to the other field; any other range is a choice.
        ("0 0 *,5 * fri", "UTC", "2026-01-01T00:00", ["01-02 00:00", "01-09 00:00"]),
        ("0 0 */1 * fri", "UTC", "2026-01-01T00:00", ["01-02 00:00", "01-09 00:00"]),
        ("0 0 */2 * fri", "UTC", "2026-01-01T00:00", ["01-02 00:00", "01-03 00:00", "01-05 00:00"]),
        ("0 0 1-31 * fri", "UTC", "2026-01-01T00:00", ["01-02 00:00", "01-03 00:00"]),
        # A range of one value, and a question mark where croniter has none.
        ("0 0 12-12 * *", "UTC", "2026-01-01T00:00", ["01-12 00:00", "02-12 00:00"]),
        ("? 4 * jun-jun thu-thu/2", "UTC", "2026-01-01T00:00", ["06-04 04:00", "06-04 04:01"]),
        # What the clock skips in spring does not come; what it repeats in autumn comes twice.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-30 02:30", "03-31 02:30"]),
        ("*/30 1-3 * * *", "Europe/Berlin", "2026-03-29T01:00", ["03-29 01:30", "03-29 03:00", "03-29 03:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 02:30", "10-25 02:30", "10-26 02:30"]),
    ],
)
def test_a_schedule_means_what_it_does_in_kubernetes(schedule: str, zone: str, after: str, expected: list[str]) -> None:
    """The times are those that robfig/cron, which Kubernetes uses, finds."""
    moment: datetime | None = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))
    parsed, found = Schedule.parse(schedule), []
    for _ in expected:
        before, moment = moment, parsed.after(moment)
        assert moment is not None
        assert before is not None
        # Looked at from there, it is also the latest.
        assert parsed.latest(before, moment) == moment
        found.append(moment.strftime("%m-%d %H:%M"))
    assert found == expected


@pytest.mark.parametrize(
    "schedule",
    [
        *("", "* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "a * * * *", "5-1 * * * *", "3-3/0 * * * *"),
        # What other crons know: seconds, last days, nth days, chance, days in full, ranges around the end, a start.
        *("* * * * * *", "0 0 L * *", "0 0 * * fri#2", "0 0 15W * *", "R * * * *", "H * * * *", "0 0 * * sunday"),
        *("0 0 * * fri-mon", "0 0 1 nov-feb *", "@reboot", "1-2-3 * * * *", "\u0661 * * * *"),
    ],
)
def test_what_is_no_schedule(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Schedule.parse(schedule)


async def test_a_job_is_created_when_its_time_has_come(cluster: Cluster) -> None:
    cluster.objects.create(CRON_JOBS, cron_job())
    await cluster.settled()
    assert cluster.objects.list(JOBS, "default") == []
    cluster.ahead = 61
    cluster.touch(CRON_JOBS, "tick")
    await cluster.until(lambda: cluster.objects.list(JOBS, "default"))
    await cluster.settled()
    (job,) = cluster.objects.list(JOBS, "default")
    minute = int(job["metadata"]["name"].removeprefix("tick-"))
    assert minute == int(NOW + 61) // 60
    found = cluster.objects.get(CRON_JOBS, "tick", "default")
    assert found["status"]["lastScheduleTime"].endswith(":00Z")
    assert [item["name"] for item in found["status"]["active"]] == [job["metadata"]["name"]]
    assert cluster.events("SuccessfulCreate")[0].startswith("Created ")
    # Looked at again within the same minute, nothing more is created.
    cluster.touch(CRON_JOBS, "tick")
    await cluster.settled()
    assert len(cluster.objects.list(JOBS, "default")) == 1


async def test_forbid_waits_and_replace_replaces(cluster: Cluster) -> None:
    for policy, expected in (("Forbid", 1), ("Replace", 1), ("Allow", 2)):
        made = cron_job(concurrencyPolicy=policy)
        made["metadata"]["name"] = policy.lower()
        cluster.objects.create(CRON_JOBS, made)
        names = []
        for minutes in (1, 2):
            cluster.ahead += 60 + minutes
            cluster.touch(CRON_JOBS, policy.lower())
            await cluster.settled()
            jobs = [item["metadata"]["name"] for item in cluster.objects.list(JOBS, "default")]
            names.append([name for name in jobs if name.startswith(policy.lower())])
        assert len(names[0]) == 1, policy
        assert len(names[1]) == expected, policy
        assert (names[1] == names[0]) == (policy == "Forbid")


async def test_suspended_creates_nothing(cluster: Cluster) -> None:
    cluster.objects.create(CRON_JOBS, cron_job(suspend=True))
    cluster.ahead = 600
    cluster.touch(CRON_JOBS, "tick")
    await cluster.settled()
    assert cluster.objects.list(JOBS, "default") == []


async def test_only_some_finished_jobs_are_kept(cluster: Cluster) -> None:
    cluster.objects.create(CRON_JOBS, cron_job(successfulJobsHistoryLimit=1))
    for _ in range(3):
        cluster.ahead += 61
        cluster.touch(CRON_JOBS, "tick")
        await cluster.until(lambda: any(pod["status"]["phase"] == "Running" for pod in cluster.pods()))
        pod = next(pod for pod in cluster.pods() if pod["status"]["phase"] == "Running")
        cluster.set_pod(pod["metadata"]["name"], "default", "Succeeded", False)
        await cluster.settled()
    assert len(cluster.objects.list(JOBS, "default")) == 1
    assert len(cluster.events("SawCompletedJob")) == 3
    assert len(cluster.events("SuccessfulDelete")) == 2


async def test_a_schedule_nobody_understands_is_told(cluster: Cluster) -> None:
    cluster.objects.create(CRON_JOBS, cron_job("every day"))
    await cluster.until(lambda: cluster.events("UnparseableSchedule"))
    assert cluster.events("UnparseableSchedule")[0].startswith("unparseable schedule: every day")


async def test_many_missed_times_make_one_job(cluster: Cluster) -> None:
    cluster.objects.create(CRON_JOBS, cron_job())
    cluster.ahead = 3600 * 5
    cluster.touch(CRON_JOBS, "tick")
    await cluster.until(lambda: cluster.objects.list(JOBS, "default"))
    await cluster.settled()
    assert len(cluster.objects.list(JOBS, "default")) == 1
    assert len(cluster.events("TooManyMissedTimes")) == 1
