# SPDX-License-Identifier: Apache-2.0
"""Jobs whose completions have numbers, and what their users say of failure and success."""

from __future__ import annotations

import time
from typing import Any

import pytest

from meshbox.contracts import Obj
from meshbox.controllers.job_indexes import read, written
from meshbox.controllers.meta import condition, time_text

from .conftest import Cluster
from .test_job import FINALIZER, JOBS, job, running, status

INDEX = "batch.kubernetes.io/job-completion-index"


def numbered(completions: int = 3, parallelism: int = 3, **spec: Any) -> Obj:
    return job(completionMode="Indexed", completions=completions, parallelism=parallelism, **spec)


async def end(cluster: Cluster, index: int, code: int = 0) -> str:
    """Let the pod of an index end with an exit code; returns its name."""

    def found() -> list[Obj]:
        pods = [pod for pod in cluster.pods() if pod["metadata"]["annotations"][INDEX] == str(index)]
        return [pod for pod in pods if pod["status"]["phase"] == "Running"]

    await cluster.until(found, f"a running pod of index {index}")
    name: str = found()[0]["metadata"]["name"]
    ended = {"finishedAt": time_text(time.time()), "exitCode": code}
    container = {"name": "main", "restartCount": 0, "state": {"terminated": ended}}
    cluster.set_pod(name, "default", "Failed" if code else "Succeeded", False, containerStatuses=[container])
    return name


async def last_word(cluster: Cluster, type_: str) -> tuple[str, str]:
    """Reason and message of a condition that is true; nothing runs any more."""
    found = await cluster.until(lambda: condition(status(cluster), type_))
    await cluster.settled()
    assert found["status"] == "True"
    assert not running(cluster)
    assert all(FINALIZER not in pod["metadata"].get("finalizers", ()) for pod in cluster.pods())
    return found["reason"], found["message"]


@pytest.mark.parametrize(("indexes", "text"), [("", ""), ("3", "3"), ("01", "0,1"), ("0123579", "0-3,5,7,9")])
def test_indexes_are_told_as_intervals(indexes: str, text: str) -> None:
    numbers = {int(one) for one in indexes}
    assert written(numbers) == text
    assert read(text, numbered(10)) == numbers


def test_indexes_that_a_job_has_no_more_are_forgotten() -> None:
    assert read("0,2-9", numbered(4)) == {0, 2, 3}


async def test_each_pod_knows_its_index(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, numbered(parallelism=2))
    await cluster.until(lambda: len(running(cluster)) == 2)
    pods = sorted(cluster.pods(), key=lambda pod: str(pod["metadata"]["name"]))
    assert [pod["spec"]["hostname"] for pod in pods] == ["work-0", "work-1"]
    for index, pod in enumerate(pods):
        assert pod["metadata"]["name"].startswith(f"work-{index}-")
        assert pod["metadata"]["labels"][INDEX] == pod["metadata"]["annotations"][INDEX] == str(index)
        assert pod["spec"]["containers"][0]["env"] == [
            {
                "name": "JOB_COMPLETION_INDEX",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}},
            }
        ]


async def test_it_is_complete_when_every_index_has_succeeded(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, numbered(4, 2))
    for index in (1, 0, 3, 2):
        await end(cluster, index)
        await cluster.settled()
        assert len(running(cluster)) <= 2
    assert await last_word(cluster, "Complete") == ("CompletionsReached", "Reached expected number of succeeded pods")
    assert (status(cluster)["completedIndexes"], status(cluster)["succeeded"]) == ("0-3", 4)
    assert len(cluster.pods()) == 4


async def test_an_index_that_failed_is_tried_again(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, numbered(2, 1))
    await end(cluster, 0, 1)
    await cluster.until(lambda: status(cluster).get("failed") == 1)
    cluster.ahead = 11
    cluster.touch(JOBS, "work")
    await end(cluster, 0)
    await end(cluster, 1)
    await last_word(cluster, "Complete")
    assert status(cluster)["completedIndexes"] == "0,1"
    assert status(cluster)["failed"] == 1


async def test_an_index_may_fail_by_itself(cluster: Cluster) -> None:
    made = cluster.objects.create(JOBS, _without_limit(numbered(3, 3, backoffLimitPerIndex=1)))
    assert made["spec"]["backoffLimit"] == 2**31 - 1
    await end(cluster, 1, 1)
    await cluster.until(lambda: status(cluster).get("failed") == 1)
    assert status(cluster)["failedIndexes"] == ""
    cluster.ahead = 11
    cluster.touch(JOBS, "work")
    name = await end(cluster, 1, 1)
    annotations = cluster.objects.get("pods", name, "default")["metadata"]["annotations"]
    assert annotations["batch.kubernetes.io/job-index-failure-count"] == "1"
    await end(cluster, 0)
    await end(cluster, 2)
    assert await last_word(cluster, "Failed") == ("FailedIndexes", "Job has failed indexes")
    assert (status(cluster)["completedIndexes"], status(cluster)["failedIndexes"]) == ("0,2", "1")


async def test_too_many_failed_indexes_end_it(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, _without_limit(numbered(3, 3, backoffLimitPerIndex=0, maxFailedIndexes=1)))
    await end(cluster, 2, 1)
    await cluster.until(lambda: status(cluster).get("failedIndexes") == "2")
    assert len(running(cluster)) == 2
    await end(cluster, 0, 1)
    words = ("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
    assert await last_word(cluster, "Failed") == words


def _without_limit(made: Obj) -> Obj:
    del made["spec"]["backoffLimit"]
    return made


def _policy(action: str, **rule: object) -> Obj:
    codes = {"operator": "In", "values": [42]}
    return {"rules": [{"action": "Count", "onExitCodes": {**codes, "values": [7]}},
                      {"action": action, **(rule or {"onExitCodes": codes})}]}  # fmt: skip


async def test_a_policy_ends_the_job_at_a_failure(cluster: Cluster) -> None:
    cluster.objects.create(JOBS, job(podFailurePolicy=_policy("FailJob"), completions=2, parallelism=2))
    await cluster.until(lambda: len(running(cluster)) == 2)
    name = running(cluster)[0]["metadata"]["name"]
    ended = {"finishedAt": time_text(time.time()), "exitCode": 42}
    cluster.set_pod(name, "default", "Failed", False, containerStatuses=[
        {"name": "main", "restartCount": 0, "state": {"terminated": ended}}])  # fmt: skip
    (other,) = (pod["metadata"]["name"] for pod in cluster.pods() if pod["metadata"]["name"] != name)
    await cluster.until(lambda: status(cluster).get("terminating") == 1)
    cluster.set_pod(other, "default", "Failed", False)
    words = f"Container main for pod default/{name} failed with exit code 42 matching FailJob rule at index 1"
    assert await last_word(cluster, "Failed") == ("PodFailurePolicy", words)


async def test_a_policy_gives_up_one_index(cluster: Cluster) -> None:
    policy = _policy("FailIndex")
    cluster.objects.create(JOBS, _without_limit(numbered(2, 2, backoffLimitPerIndex=5, podFailurePolicy=policy)))
    await end(cluster, 0, 42)
    await cluster.until(lambda: status(cluster).get("failedIndexes") == "0")
    await end(cluster, 1)
    assert (await last_word(cluster, "Failed"))[0] == "FailedIndexes"


async def test_a_failure_that_a_policy_ignores_does_not_count(cluster: Cluster) -> None:
    policy = _policy("Ignore", onPodConditions=[{"type": "DisruptionTarget", "status": "True"}])
    cluster.objects.create(JOBS, job(podFailurePolicy=policy, backoffLimit=0))
    await cluster.until(lambda: running(cluster))
    name = running(cluster)[0]["metadata"]["name"]
    cluster.set_pod(name, "default", "Failed", False, conditions=[{"type": "DisruptionTarget", "status": "True"}])
    await cluster.until(lambda: running(cluster), "another pod at once")
    await cluster.settled()
    assert "failed" not in status(cluster)
    assert condition(status(cluster), "FailureTarget") is None


@pytest.mark.parametrize(
    ("rule", "index"),
    [({"succeededIndexes": "0,2"}, None), ({"succeededCount": 2}, None), ({"succeededIndexes": "2"}, 2)],
)
async def test_some_indexes_may_be_enough(cluster: Cluster, rule: Obj, index: int | None) -> None:
    cluster.objects.create(JOBS, numbered(4, 4, successPolicy={"rules": [rule]}))
    for each in (0, 2) if index is None else (index,):
        assert condition(status(cluster), "Complete") is None
        await end(cluster, each)
        await cluster.settled()
    assert await last_word(cluster, "Complete") == ("SuccessPolicy", "Matched rules at index 0")


@pytest.mark.parametrize("mode", ["Indexed", "NonIndexed"])
async def test_a_pod_that_is_leaving_may_be_waited_for(cluster: Cluster, mode: str) -> None:
    cluster.objects.create(JOBS, job(completionMode=mode, podReplacementPolicy="Failed"))
    await cluster.until(lambda: running(cluster))
    name = cluster.pods()[0]["metadata"]["name"]
    cluster.objects.delete("pods", name, "default", grace_period=30)
    await cluster.until(lambda: status(cluster).get("terminating") == 1)
    await cluster.settled()
    assert [pod["metadata"]["name"] for pod in cluster.pods()] == [name]
    assert "failed" not in status(cluster)
    cluster.set_pod(name, "default", "Failed", False, containerStatuses=[])
    await cluster.until(lambda: status(cluster).get("failed") == 1)
    cluster.ahead = 11
    cluster.touch(JOBS, "work")
    await cluster.until(lambda: [pod for pod in running(cluster) if pod["metadata"]["name"] != name])
