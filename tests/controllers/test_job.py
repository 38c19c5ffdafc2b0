# SPDX-License-Identifier: Apache-2.0
"""Jobs: success, failure, back-off, deadlines, what is counted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.meta import condition, time_text

from .conftest import Cluster, pod_spec

JOBS = "jobs.batch"
FINALIZER = "batch.kubernetes.io/job-tracking"


def job(name: str = "work", restart: str = "Never", **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod_spec("curl:1", restartPolicy=restart)}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6, "template": template, **spec},
    }


def status(cluster: Cluster, name: str = "work") -> Obj:
    return cluster.objects.get(JOBS, name, "default").get("status") or {}


def ended(cluster: Cluster, type_: str, name: str = "work") -> Obj | None:
    found = condition(status(cluster, name), type_)
    return found if found and found["status"] == "True" else None


def running(cluster: Cluster) -> list[Obj]:
    return [pod for pod in cluster.pods() if pod["status"]["phase"] in ("Pending", "Running")]


async def finish(cluster: Cluster, phase: str = "Succeeded") -> str:
    """Let one running pod end; returns its name."""
    await cluster.until(lambda: any(pod["status"]["phase"] == "Running" for pod in cluster.pods()), "a running pod")
    name: str = next(pod for pod in cluster.pods() if pod["status"]["phase"] == "Running")["metadata"]["name"]
    container = {"name": "main", "restartCount": 0, "state": {"terminated": {"finishedAt": time_text(time.time())}}}
    cluster.set_pod(name, "default", phase, False, containerStatuses=[container])
    return name


@pytest.fixture(params=["1.2.2", "1.30.3"])
async def either(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Kubernetes 1.14 and the current one."""
    made = await Cluster(tmp_path / "home", request.param).start()
    yield made
    await made.stop()


async def test_success(either: Cluster) -> None:
    either.objects.create(JOBS, job())
    await finish(either)
    complete = await either.until(lambda: ended(either, "Complete"))
    await either.settled()
    assert status(either)["succeeded"] == 1
    assert "active" not in status(either)
    assert status(either)["completionTime"] >= status(either)["startTime"]
    (pod,) = either.pods()
    assert pod["metadata"]["name"].startswith("work-")
    assert "finalizers" not in pod["metadata"]
    assert either.events("SuccessfulCreate") == [f"Created pod: {pod['metadata']['name']}"]
    assert either.events("Completed") == ["Job completed"]
    if either.settings.legacy:
        assert "reason" not in complete
    else:
        assert (complete["reason"], complete["message"]) == (
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        )
        assert status(either)["uncountedTerminatedPods"] == {}


async def test_labels_of_the_current_kubernetes(cluster: Cluster) -> None:
    made = cluster.objects.create(JOBS, job())
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    await cluster.until(cluster.pods)
    assert cluster.pods()[0]["metadata"]["labels"] == {
        "app": "work",
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "work",
        "controller-uid": uid,
        "job-name": "work",
    }


async def test_labels_of_kubernetes_1_14(legacy: Cluster) -> None:
    made = legacy.objects.create(JOBS, job())
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"] == {"matchLabels": {"controller-uid": uid}}
    await legacy.until(legacy.pods)
    assert legacy.pods()[0]["metadata"]["labels"] == {"app": "work", "controller-uid": uid, "job-name": "work"}


async def test_a_selector_of_other_pods_is_refused(cluster: Cluster) -> None:
    """Whoever means it says manualSelector; kubectl's own copy of a running Job's is the likely one who does not."""
    with pytest.raises(ApiError) as refused:
        cluster.objects.create(JOBS, job(selector={"matchLabels": {"app": "work"}}))
    assert refused.value.code == 422
    assert refused.value.message.startswith(
        'Job.batch "work" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"work",'
        '"batch.kubernetes.io/controller-uid":"'
    )
    assert refused.value.message.endswith('"}}: `selector` not auto-generated')
    cluster.objects.create(JOBS, job(selector={"matchLabels": {}}))


async def test_a_selector_of_the_users_own(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, job(manualSelector=True, selector={"matchLabels": {"app": "work"}}))
    await finish(cluster)
    await cluster.until(lambda: ended(cluster, "Complete"))
    assert cluster.pods()[0]["metadata"]["labels"] == {"app": "work"}


async def test_completions_run_a_few_at_a_time(either: Cluster) -> None:
    either.objects.create(JOBS, job(completions=5, parallelism=2))
    for _ in range(5):
        await finish(either)
        await either.settled()
        assert len(running(either)) <= 2
    await either.until(lambda: ended(either, "Complete"))
    assert status(either)["succeeded"] == 5
    assert len(either.pods()) == 5


async def test_a_work_queue_ends_when_all_its_workers_have(cluster: Cluster) -> None:
    made = job(parallelism=2)
    del made["spec"]["completions"]
    cluster.objects.create(JOBS, made)
    await cluster.until(lambda: len(running(cluster)) == 2)
    await finish(cluster)
    await cluster.settled()
    assert ended(cluster, "Complete") is None
    await finish(cluster)
    await cluster.until(lambda: ended(cluster, "Complete"))
    assert len(cluster.pods()) == 2


async def test_parallelism_can_be_lowered_without_a_failure(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, job(completions=9, parallelism=3))
    await cluster.until(lambda: len(running(cluster)) == 3)
    cluster.objects.patch(JOBS, "work", {"spec": {"parallelism": 1}}, "default")
    await cluster.until(lambda: len(cluster.pods()) == 1)
    await cluster.settled()
    assert "failed" not in status(cluster)


async def test_a_failed_pod_is_replaced_after_ten_seconds(either: Cluster) -> None:
    either.objects.create(JOBS, job())
    failed = await finish(either, "Failed")
    await either.until(lambda: status(either).get("failed") == 1)
    await either.settled()
    assert [pod["metadata"]["name"] for pod in either.pods()] == [failed]
    either.ahead = 11
    either.touch(JOBS, "work")
    await either.until(lambda: len(either.pods()) == 2, "a second try")


async def test_too_many_failures_end_it(either: Cluster) -> None:
    either.objects.create(JOBS, job(backoffLimit=1))
    await finish(either, "Failed")
    await either.until(lambda: status(either).get("failed") == 1)
    either.ahead = 11
    either.touch(JOBS, "work")
    await finish(either, "Failed")
    failed = await either.until(lambda: ended(either, "Failed"))
    await either.settled()
    words = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert (failed["reason"], failed["message"]) == words
    assert status(either)["failed"] == 2
    assert either.events("BackoffLimitExceeded") == [words[1]]
    assert len(either.pods()) == 2


async def test_restarts_in_place_count_with_on_failure(either: Cluster) -> None:
    either.objects.create(JOBS, job(restart="OnFailure", backoffLimit=2))
    await either.until(lambda: any(pod["status"]["phase"] == "Running" for pod in either.pods()))
    name = either.pods()[0]["metadata"]["name"]
    either.set_pod(name, "default", "Running", False, containerStatuses=[{"name": "main", "restartCount": 2}])
    failed = await either.until(lambda: ended(either, "Failed"))
    assert failed["reason"] == "BackoffLimitExceeded"
    await either.until(lambda: not either.pods())
    assert status(either)["failed"] == 1


async def test_a_deadline_ends_it(either: Cluster) -> None:
    either.objects.create(JOBS, job(activeDeadlineSeconds=1))
    failed = await either.until(lambda: ended(either, "Failed"))
    assert (failed["reason"], failed["message"]) == (
        "DeadlineExceeded",
        "Job was active longer than specified deadline",
    )
    await either.until(lambda: not running(either))


async def test_it_is_removed_after_its_time(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, job(ttlSecondsAfterFinished=600))
    await finish(cluster)
    await cluster.until(lambda: ended(cluster, "Complete"))
    cluster.ahead = 601
    cluster.touch(JOBS, "work")
    await cluster.until(lambda: cluster.objects.find(JOBS, "work", "default") is None, "its removal")
    await cluster.until(lambda: not cluster.pods())


async def test_a_pod_deleted_after_its_end_stays_counted(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, job(completions=2))
    first = await finish(cluster)
    await cluster.until(lambda: status(cluster).get("succeeded") == 1)
    cluster.objects.delete("pods", first, "default")
    await finish(cluster)
    await cluster.until(lambda: ended(cluster, "Complete"))
    assert status(cluster)["succeeded"] == 2


async def test_a_pod_deleted_before_its_end_is_a_failure_and_is_replaced(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, job())
    await cluster.until(lambda: running(cluster))
    name = cluster.pods()[0]["metadata"]["name"]
    cluster.objects.delete("pods", name, "default")
    await cluster.until(lambda: [pod for pod in running(cluster) if pod["metadata"]["name"] != name])
    await cluster.until(lambda: cluster.objects.find("pods", name, "default") is None)
    assert status(cluster)["failed"] == 1


async def test_counting_survives_a_crash_at_any_point(tmp_path: Path) -> None:
    """The counts are right whichever of the writes was the last."""
    for stored in ("finalizer-there", "finalizer-gone"):
        cluster = await Cluster(tmp_path / stored).start()
        cluster.objects.create(JOBS, job(completions=2))
        await cluster.until(lambda cluster=cluster: running(cluster))
        await cluster.settled()
        await cluster.controllers.stop()
        name = await finish(cluster)
        pod = cluster.objects.get("pods", name, "default")
        found = cluster.objects.get(JOBS, "work", "default")
        found["status"]["uncountedTerminatedPods"] = {"succeeded": [pod["metadata"]["uid"]]}
        cluster.objects.update(JOBS, found, subresource="status")
        if stored == "finalizer-gone":
            cluster.objects.patch("pods", name, {"metadata": {"finalizers": None}}, "default")
        await cluster.restart()
        await cluster.until(lambda cluster=cluster: status(cluster).get("succeeded") == 1)
        await cluster.settled()
        assert status(cluster)["succeeded"] == 1
        assert status(cluster)["uncountedTerminatedPods"] == {}
        await cluster.stop()


async def test_pods_of_a_deleted_job_go(either: Cluster) -> None:
    either.objects.create(JOBS, job())
    await either.until(lambda: running(either))
    either.objects.delete(JOBS, "work", "default")
    await either.until(lambda: not either.pods())


async def test_suspended_and_resumed(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, job(suspend=True))
    await cluster.until(lambda: ended(cluster, "Suspended"))
    await cluster.settled()
    assert cluster.pods() == []
    assert "startTime" not in status(cluster)
    cluster.objects.patch(JOBS, "work", {"spec": {"suspend": False}}, "default")
    await cluster.until(lambda: running(cluster))
    assert ended(cluster, "Suspended") is None
    cluster.objects.patch(JOBS, "work", {"spec": {"suspend": True}}, "default")
    await cluster.until(lambda: not cluster.pods())
    await cluster.settled()
    assert "failed" not in status(cluster)
