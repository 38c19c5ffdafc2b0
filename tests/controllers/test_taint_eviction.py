# SPDX-License-Identifier: Apache-2.0
"""Pods whose node has got a taint with the effect NoExecute."""

from __future__ import annotations

from typing import Any

from meshbox.controllers.meta import condition

from .conftest import Cluster, pod_spec

TAINT = {"key": "broken", "value": "disk", "effect": "NoExecute"}
MINUTE = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}


def create(cluster: Cluster, name: str, *tolerations: Any) -> None:
    made = {"metadata": {"name": name}, "spec": pod_spec(tolerations=list(tolerations))}
    cluster.objects.create("pods", made, "default")


def there(cluster: Cluster) -> list[str]:
    return sorted(one["metadata"]["name"] for one in cluster.pods())


async def test_a_node_that_is_cordoned_has_a_taint_until_it_is_not(cluster: Cluster) -> None:
    def taints() -> list[dict[str, Any]]:
        return cluster.objects.get("nodes", "labkit-test")["spec"].get("taints") or []

    cluster.objects.patch("nodes", "labkit-test", {"spec": {"taints": [TAINT], "unschedulable": True}})
    await cluster.until(lambda: len(taints()) == 2)
    assert {**taints()[1], "timeAdded": ""} == {
        "key": "node.kubernetes.io/unschedulable",
        "effect": "NoSchedule",
        "timeAdded": "",
    }
    cluster.objects.patch("nodes", "labkit-test", {"spec": {"unschedulable": None}})
    await cluster.until(lambda: taints() == [TAINT])


async def test_who_does_not_tolerate_it_leaves_at_once_others_in_their_time_or_never(cluster: Cluster) -> None:
    create(cluster, "none")
    create(cluster, "stays", {"key": "broken", "operator": "Exists"})
    create(
        cluster,
        "minute",
        {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
        {"operator": "Exists"},
    )
    create(cluster, "other", {"key": "broken", "value": "fan", "effect": "NoExecute"})
    await cluster.until(lambda: len(cluster.events("Scheduled")) == 4)
    cluster.objects.patch("nodes", "labkit-test", {"spec": {"taints": [TAINT]}})
    await cluster.until(lambda: there(cluster) == ["minute", "stays"])
    await cluster.settled()
    said = [f"Marking for deletion Pod default/{name}" for name in ("none", "other")]
    assert sorted(cluster.events("TaintManagerEviction")) == said
    cluster.ahead += 61
    cluster.touch("pods", "minute")
    cluster.touch("pods", "stays")
    await cluster.until(lambda: there(cluster) == ["stays"])


async def test_a_taint_that_is_taken_back_is_forgotten(cluster: Cluster) -> None:
    create(cluster, "minute", MINUTE)
    await cluster.until(lambda: cluster.events("Scheduled"))
    for _ in range(2):
        cluster.objects.patch("nodes", "labkit-test", {"spec": {"taints": [TAINT]}})
        await cluster.settled()
        cluster.ahead += 40
        cluster.objects.patch("nodes", "labkit-test", {"spec": {"taints": None}})
        await cluster.settled()
    cluster.touch("pods", "minute")
    await cluster.settled()
    assert there(cluster) == ["minute"]


async def test_a_pod_says_why_it_leaves(cluster: Cluster) -> None:
    create(cluster, "p")
    await cluster.until(lambda: cluster.events("Scheduled"))
    cluster.node.kills = False
    cluster.objects.patch("nodes", "labkit-test", {"spec": {"taints": [TAINT]}})
    await cluster.until(lambda: "deletionTimestamp" in cluster.objects.get("pods", "p", "default")["metadata"])
    told = condition(cluster.objects.get("pods", "p", "default")["status"], "DisruptionTarget") or {}
    words = "Taint manager: deleting due to NoExecute taint"
    assert (told["status"], told["reason"], told["message"]) == ("True", "DeletionByTaintManager", words)
