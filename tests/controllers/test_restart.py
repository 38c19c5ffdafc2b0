# SPDX-License-Identifier: Apache-2.0
"""kill -9 after any write: the next start goes on from the stored objects, and nothing is made twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import Obj
from meshbox.controllers.meta import time_text

from .conftest import DEPLOYMENTS, REPLICA_SETS, Cluster, deployment, pod_spec


class Killed(asyncio.CancelledError):
    """Ends a controller where it stands, as no `except` in it may catch."""


@contextlib.asynccontextmanager
async def dying_after(cluster: Cluster, writes: int) -> AsyncIterator[None]:
    """Let `writes` more writes happen, then none; at the end start again from what was written."""
    store = cluster.objects.store
    put, remove, left = store.put, store.remove, [writes]

    def counted(write: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return write(*args)

        return wrapped

    store.put, store.remove = counted(put), counted(remove)  # type: ignore[method-assign]
    yield
    deadline = time.monotonic() + 120
    version, quiet = -1, 0
    while left[0] > 0 and quiet < 50:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
        quiet = quiet + 1 if store.version == version else 0
        version = store.version
    await cluster.restart()


def available(cluster: Cluster, name: str = "web") -> int:
    found = cluster.objects.find(DEPLOYMENTS, name, "default")
    return int((found or {}).get("status", {}).get("availableReplicas", 0))


def is_done(cluster: Cluster, wanted: int) -> bool:
    status = cluster.objects.get(DEPLOYMENTS, "web", "default")["status"]
    return all(status.get(field, 0) == wanted for field in ("replicas", "updatedReplicas", "availableReplicas"))


@pytest.mark.parametrize("writes", [*range(24), 30, 40, 50])
async def test_a_rollout_goes_on(tmp_path: Path, writes: int) -> None:
    cluster = await Cluster(tmp_path / "home").start()
    cluster.objects.create(DEPLOYMENTS, deployment("web", 3))
    await cluster.until(lambda: available(cluster) == 3)
    await cluster.settled()
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "httpbin:2"}]}}}}
    cluster.objects.patch(DEPLOYMENTS, "web", patch, "default")
    async with dying_after(cluster, writes):
        pass
    await cluster.until(lambda: is_done(cluster, 3), "the rollout's end")
    await cluster.settled()
    assert [pod["spec"]["containers"][0]["image"] for pod in cluster.pods()] == ["httpbin:2"] * 3
    sizes = {item["spec"]["replicas"] for item in cluster.objects.list(REPLICA_SETS)}
    assert len(cluster.objects.list(REPLICA_SETS)) == 2
    assert sizes == {0, 3}
    await cluster.stop()


@pytest.mark.parametrize("writes", range(16))
async def test_a_new_deployment_is_made_once(tmp_path: Path, writes: int) -> None:
    cluster = await Cluster(tmp_path / "home", "1.2.2").start()
    await cluster.settled()
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2))
    async with dying_after(cluster, writes):
        pass
    await cluster.until(lambda: available(cluster) == 2)
    await cluster.settled()
    assert len(cluster.pods()) == 2
    assert len(cluster.objects.list(REPLICA_SETS)) == 1
    await cluster.stop()


def finish_running(cluster: Cluster) -> None:
    for pod in cluster.pods():
        if pod["status"]["phase"] == "Running":
            ended = {"name": "main", "restartCount": 0, "state": {"terminated": {"finishedAt": time_text(time.time())}}}
            cluster.set_pod(pod["metadata"]["name"], "default", "Succeeded", False, containerStatuses=[ended])


def job_status(cluster: Cluster) -> Obj:
    return cluster.objects.get("jobs.batch", "work", "default").get("status") or {}


def job_ended(cluster: Cluster) -> bool:
    return any(item["type"] == "Complete" for item in job_status(cluster).get("conditions") or ())


@pytest.mark.parametrize("moment", ["starting", "ending"])
@pytest.mark.parametrize("writes", range(16))
async def test_a_job_runs_and_counts_each_of_its_pods_once(tmp_path: Path, moment: str, writes: int) -> None:
    cluster = await Cluster(tmp_path / "home").start()
    await cluster.settled()
    template = {"spec": pod_spec("curl:1", restartPolicy="Never")}
    spec: Obj = {"completions": 2, "parallelism": 2, "backoffLimit": 6, "template": template}
    cluster.objects.create("jobs.batch", {"metadata": {"name": "work"}, "spec": spec}, "default")
    if moment == "ending":
        await cluster.settled()
        finish_running(cluster)
    async with dying_after(cluster, writes):
        pass

    def done() -> bool:
        # Whenever a pod comes to run: a write that is tried again comes after a pause.
        finish_running(cluster)
        return job_ended(cluster)

    await cluster.until(done)
    await cluster.settled()
    assert job_status(cluster)["succeeded"] == 2
    assert "failed" not in job_status(cluster)
    assert len(cluster.pods()) == 2
    await cluster.stop()
