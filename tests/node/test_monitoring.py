# SPDX-License-Identifier: Apache-2.0
"""The kubelet's metrics: what each container uses, as its processes show it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from meshbox.contracts import ApiError
from meshbox.node.usage import UsageReader
from tests.metrics_page import Page
from tests.node.conftest import Cluster, running

FOREVER = "while true; do sleep 0.05; done"


async def cadvisor(cluster: Cluster) -> Page:
    return Page(await cluster.node.metrics("/metrics/cadvisor"))


@pytest.mark.parametrize(("release", "old_names"), [("1.2.2", True), ("1.30.3", False)])
async def test_a_container_is_named_as_its_kubernetes_would(tmp_path: Path, release: str, old_names: bool) -> None:
    async with running(tmp_path / "home", release) as cluster:
        limits = {"resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}
        before = time.time()
        cluster.shell(FOREVER, **limits)
        await cluster.until(cluster.ready)
        page = await cadvisor(cluster)
        (labels,) = [labels for name, labels, _ in page.series if name == "container_memory_working_set_bytes"]
        assert labels["container"] == "c"
        assert (labels["pod"], labels["namespace"]) == ("web", "default")
        assert labels["image"] == "docker.io/library/busybox:1.28"
        assert labels["name"] == cluster.container()["containerID"].partition("://")[2]
        old = (labels.get("container_name"), labels.get("pod_name"))
        assert old == (("c", "web") if old_names else (None, None))
        assert page.one("container_spec_memory_limit_bytes", pod="web") == 64 * 1024**2
        assert page.one("container_spec_cpu_quota", pod="web") == 50000
        assert before - 1 <= page.one("container_start_time_seconds", pod="web") <= time.time()


async def test_memory_is_what_the_containers_processes_hold(cluster: Cluster) -> None:
    hold = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo held; while true; do sleep 0.05; done"
    cluster.shell(hold, "big")
    cluster.shell(FOREVER, "small")
    await cluster.until(lambda: cluster.ready("small"))
    await cluster.until(lambda: cluster.ready("big"))
    async for line in cluster.node.logs("default", "big", "c", follow=True):
        assert line == b"held\n"
        break
    page = await cadvisor(cluster)
    big, small = (page.one("container_memory_working_set_bytes", pod=name) for name in ("big", "small"))
    assert 30e6 < big < 150e6
    assert 0 < small < 10e6
    assert page.one("container_memory_usage_bytes", pod="big") == big
    assert page.one("container_processes", pod="small") in (1, 2)


async def test_cpu_time_only_grows_and_keeps_what_ended(cluster: Cluster) -> None:
    cluster.shell(FOREVER)
    await cluster.until(cluster.ready)
    burn = "import sys, time\nwhile time.process_time() < .3: 0\nprint('done\\n', end='', flush=True)\nsys.stdin.read()"
    session = await cluster.node.exec("default", "web", "c", ["python3", "-c", burn], stdin=True, tty=False)
    assert await session.read_stdout() == b"done\n"
    during = (await cadvisor(cluster)).one("container_cpu_usage_seconds_total", pod="web", cpu="total")
    assert during >= 0.28
    await session.close_stdin()
    assert await session.wait() == 0
    after = await cadvisor(cluster)
    assert after.one("container_cpu_usage_seconds_total", pod="web") >= during
    parts = [after.one(f"container_cpu_{kind}_seconds_total", pod="web") for kind in ("user", "system")]
    assert sum(parts) == pytest.approx(after.one("container_cpu_usage_seconds_total", pod="web"))


async def test_files_that_a_container_writes_are_counted_and_volumes_are_not(cluster: Cluster) -> None:
    mount = {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}
    script = "head -c 3000000 /dev/zero > scratch/much; head -c 500000 /dev/zero > own; echo written; " + FOREVER
    container = {"name": "c", "image": "busybox:1.28", "command": ["sh", "-c", script], **mount}
    cluster.pod(containers=[container], volumes=[{"name": "scratch", "emptyDir": {}}])
    await cluster.until(cluster.ready)
    async for line in cluster.node.logs("default", "web", "c", follow=True):
        assert line == b"written\n"
        break
    size = (await cadvisor(cluster)).one("container_fs_usage_bytes", pod="web")
    assert 500_000 <= size < 1_000_000


async def test_the_kubelet_counts_pods_and_containers(cluster: Cluster) -> None:
    cluster.shell(FOREVER)
    cluster.shell("exit 0", "over", restartPolicy="Never")
    await cluster.until(cluster.ready)
    await cluster.until(lambda: cluster.status("over").get("phase") == "Succeeded")
    page = Page(await cluster.node.metrics("/metrics"))
    assert page.one("kubelet_node_name", node="labkit-test") == 1
    assert page.one("kubelet_running_pod_count") == 1
    assert page.one("kubelet_running_container_count") == 1
    assert page.one("kubernetes_build_info", gitVersion="v1.14.10") == 1
    cadvisors = await cadvisor(cluster)
    assert cadvisors.all("container_memory_rss", pod="over") == []
    assert cadvisors.one("machine_cpu_cores") >= 1
    with pytest.raises(ApiError) as refused:
        await cluster.node.metrics("/metrics/nothing")
    assert refused.value.code == 404


def test_what_a_process_took_with_it_stays() -> None:
    reader = UsageReader()
    assert reader.read({}) == {}
    from meshbox.node.usage import _Clock

    clock = _Clock()
    assert clock.take(3.0, 1.0) == (3.0, 1.0)
    assert clock.take(2.0, 1.5) == (3.0, 1.5)
    assert clock.take(2.5, 1.5) == (3.5, 1.5)
