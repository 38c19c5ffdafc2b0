# SPDX-License-Identifier: Apache-2.0
"""PersistentVolumeClaims: bound to what fits, waiting where nothing does, kept while they are in use."""

from __future__ import annotations

from typing import Any

from .conftest import Cluster

CLAIMS, VOLUMES = "persistentvolumeclaims", "persistentvolumes"


def claim(name: str = "data", **spec: Any) -> dict[str, Any]:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": {**asked, **spec}}


def volume(name: str, size: str, **spec: Any) -> dict[str, Any]:
    offered = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "hostPath": {"path": f"/{name}"}}
    return {"metadata": {"name": name}, "spec": {**offered, "storageClassName": "manual", **spec}}


def pod(name: str, of: str) -> dict[str, Any]:
    mounts = {"name": "v", "persistentVolumeClaim": {"claimName": of}}
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [mounts]}}


def phase(cluster: Cluster, name: str = "data") -> Any:
    return cluster.objects.get(CLAIMS, name)["status"].get("phase")


async def test_the_smallest_that_is_large_enough(cluster: Cluster) -> None:
    for name, size in (("small", "512Mi"), ("huge", "10Gi"), ("right", "2Gi")):
        cluster.objects.create(VOLUMES, volume(name, size))
    cluster.objects.create(CLAIMS, claim(storageClassName="manual"))
    await cluster.until(lambda: phase(cluster) == "Bound")
    bound = cluster.objects.get(CLAIMS, "data")
    assert (bound["spec"]["volumeName"], bound["status"]["capacity"]) == ("right", {"storage": "2Gi"})
    assert bound["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    await cluster.settled()
    known = cluster.objects.get(VOLUMES, "right")
    assert (known["status"]["phase"], known["spec"]["claimRef"]["name"]) == ("Bound", "data")
    waiting = cluster.objects.get(VOLUMES, "huge")["status"]
    assert (waiting["phase"], "lastPhaseTransitionTime" in waiting) == ("Available", True)


async def test_a_claim_without_a_class_gets_a_folder_once_a_pod_wants_it(cluster: Cluster) -> None:
    cluster.objects.create(CLAIMS, claim())
    await cluster.settled()
    assert cluster.objects.get(CLAIMS, "data")["spec"]["storageClassName"] == "standard"
    assert cluster.events("WaitForFirstConsumer") == ["waiting for first consumer to be created before binding"]
    cluster.objects.create("pods", pod("p", "data"))
    await cluster.until(lambda: phase(cluster) == "Bound")
    made = cluster.objects.get(CLAIMS, "data")["spec"]["volumeName"]
    assert made == f"pvc-{cluster.objects.get(CLAIMS, 'data')['metadata']['uid']}"
    cluster.objects.delete(CLAIMS, "data")
    await cluster.settled()
    assert "deletionTimestamp" in cluster.objects.get(CLAIMS, "data")["metadata"]
    cluster.objects.delete("pods", "p", grace_period=0)
    await cluster.until(lambda: cluster.objects.find(CLAIMS, "data", "default") is None)
    await cluster.until(lambda: cluster.objects.find(VOLUMES, made) is None)


async def test_what_nothing_fits_waits_and_so_does_its_pod(cluster: Cluster) -> None:
    cluster.objects.create(CLAIMS, claim(storageClassName="manual"))
    cluster.objects.create("pods", pod("p", "data"))
    cluster.objects.create("pods", pod("q", "nothing"))
    await cluster.until(lambda: len(cluster.events("FailedScheduling")) == 2)
    # Of claims another controller tells than of pods.
    await cluster.settled()
    assert cluster.events("ProvisioningFailed") == ['storageclass.storage.k8s.io "manual" not found']
    said = sorted(message.partition(". ")[0] for message in cluster.events("FailedScheduling"))
    assert said == [
        '0/1 nodes are available: persistentvolumeclaim "nothing" not found',
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims",
    ]
    cluster.objects.create(VOLUMES, volume("late", "1Gi"))
    await cluster.until(lambda: phase(cluster) == "Bound")
    await cluster.until(lambda: cluster.objects.get("pods", "p")["spec"].get("nodeName"))


async def test_a_pod_on_no_node_keeps_no_claim(cluster: Cluster) -> None:
    cluster.objects.create(CLAIMS, claim())
    waits = pod("waits", "data")
    waits["spec"]["nodeSelector"] = {"disk": "none"}
    cluster.objects.create("pods", waits)
    cluster.objects.delete(CLAIMS, "data")
    await cluster.until(lambda: cluster.objects.find(CLAIMS, "data") is None, "the claim is gone")
