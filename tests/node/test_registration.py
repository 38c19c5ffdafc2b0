# SPDX-License-Identifier: Apache-2.0
"""The Node object: what it says, and the images on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from meshbox.node.registration import REMOVE_IMAGES
from tests.node.conftest import Cluster, running

FOREVER = "while true; do sleep 0.05; done"


def node(cluster: Cluster) -> dict[str, Any]:
    return cluster.objects.get("nodes", cluster.settings.node_name)


def images(cluster: Cluster) -> list[str]:
    listed = (node(cluster)["status"].get("images")) or []
    return sorted(name for image in listed for name in image["names"] if "@" not in name)


async def test_it_tells_the_machine_and_is_ready(cluster: Cluster) -> None:
    status = node(cluster)["status"]
    assert {item["type"]: item["status"] for item in status["conditions"]} == {
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        "Ready": "True",
    }
    assert status["capacity"]["cpu"] == str(len(os.sched_getaffinity(0)))
    assert status["allocatable"]["memory"].endswith("Ki")
    assert status["addresses"][0] == {"type": "InternalIP", "address": cluster.settings.plan.node}
    assert status["nodeInfo"]["kubeletVersion"] == cluster.settings.kubernetes_version
    assert node(cluster)["spec"]["podCIDR"] == str(cluster.settings.plan.pod_cidr)
    meta = node(cluster)["metadata"]
    assert (meta["labels"]["beta.kubernetes.io/os"], meta["annotations"]["node.alpha.kubernetes.io/ttl"]) == (
        "linux",
        "0",
    )


async def test_its_lease_is_renewed(cluster: Cluster) -> None:
    name = cluster.settings.node_name

    def renewed() -> str:
        lease = cluster.objects.find("leases.coordination.k8s.io", name, "kube-node-lease")
        return lease["spec"]["renewTime"] if lease else ""

    first = await cluster.until(renewed)
    await cluster.until(lambda: renewed() != first)


async def test_it_says_so_when_it_stops(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as cluster:
        await cluster.node.stop()
        ready = next(item for item in node(cluster)["status"]["conditions"] if item["type"] == "Ready")
        assert ready["status"] == "False"


async def test_images_are_listed_once_pods_run_them_and_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as cluster:
        assert images(cluster) == []
        cluster.pod(container={"image": "docker.io/istio/pilot:1.2.0"})
        cluster.pod("next", {"image": "istio/pilot:1.2.2"})
        wanted = ["docker.io/istio/pilot:1.2.0", "docker.io/istio/pilot:1.2.2"]
        await cluster.until(lambda: images(cluster) == wanted)
        entry = node(cluster)["status"]["images"][0]
        assert entry["names"][0].startswith("docker.io/istio/pilot@sha256:")
        assert entry["sizeBytes"] > 0
        await cluster.until(cluster.ready)
        cluster.objects.delete("pods", "web", "default", grace_period=0)
    async with running(tmp_path / "home") as cluster:
        assert images(cluster) == wanted


async def test_images_that_no_pod_uses_are_removed_on_request(cluster: Cluster) -> None:
    cluster.pod(container={"image": "istio/mixer:1.2.0"}, restartPolicy="Never")
    cluster.shell(FOREVER, name="user")
    await cluster.until(lambda: len(images(cluster)) == 2)
    cluster.objects.delete("pods", "web", "default")
    await cluster.until(cluster.gone)
    asked = "istio/mixer:1.2.0, busybox:1.28,istio/never:1"
    name = cluster.settings.node_name
    cluster.objects.patch("nodes", name, {"metadata": {"annotations": {REMOVE_IMAGES: asked}}})
    await cluster.until(lambda: images(cluster) == ["docker.io/library/busybox:1.28"])
    assert REMOVE_IMAGES not in (node(cluster)["metadata"].get("annotations") or {})
    assert cluster.messages("ImageRemoved", name) == ['Removed image "docker.io/istio/mixer:1.2.0"']
    assert sorted(cluster.messages("ImageRemovalFailed", name)) == [
        'Image "docker.io/library/busybox:1.28" is used by a pod on this node',
        'No such image on this node: "docker.io/istio/never:1"',
    ]


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
async def test_it_plays_the_time_of_its_release(tmp_path: Path, release: str) -> None:
    async with running(tmp_path / "home", release) as cluster:
        runtime = node(cluster)["status"]["nodeInfo"]["containerRuntimeVersion"]
        assert runtime.startswith("docker://" if release == "1.2.2" else "containerd://")
        cluster.shell(FOREVER)
        await cluster.until(cluster.ready)
        assert cluster.container()["containerID"].partition(":")[0] == runtime.partition(":")[0]
