# SPDX-License-Identifier: Apache-2.0
"""Which pods the node takes, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import Obj
from meshbox.controllers.meta import condition
from meshbox.controllers.scheduler import refusal

from .conftest import Cluster, pod_spec

NODE = "labkit-test"


def create(cluster: Cluster, name: str = "p", **spec: Any) -> Obj:
    return cluster.objects.create("pods", {"metadata": {"name": name}, "spec": pod_spec(**spec)}, "default")


def node_of(cluster: Cluster, name: str = "p") -> str:
    found: str = cluster.objects.get("pods", name, "default")["spec"].get("nodeName", "")
    return found


def scheduled(cluster: Cluster, name: str = "p") -> Obj:
    return condition(cluster.objects.get("pods", name, "default")["status"], "PodScheduled") or {}


def change_node(cluster: Cluster, **spec: Any) -> None:
    cluster.objects.patch("nodes", NODE, {"spec": spec})


async def test_a_pod_is_bound(cluster: Cluster) -> None:
    create(cluster)
    await cluster.until(lambda: node_of(cluster) == NODE)
    assert scheduled(cluster)["status"] == "True"
    assert cluster.events("Scheduled") == [f"Successfully assigned default/p to {NODE}"]


async def test_a_binding_is_one_write_in_nobodys_name(cluster: Cluster) -> None:
    """As a server does it: who sees a pod with a node sees that it is scheduled, and no manager owns the field."""
    watch = cluster.objects.watch("pods", "default")
    create(cluster)
    await cluster.until(lambda: node_of(cluster) == NODE)
    watch_ends = cluster.objects.get("pods", "p", "default")["metadata"]["resourceVersion"]
    seen = []
    async for event in watch:
        told = condition(event.object["status"], "PodScheduled") or {}
        seen.append((event.type, event.object["spec"].get("nodeName"), told.get("status")))
        if event.object["metadata"]["resourceVersion"] == watch_ends:
            break
    watch.close()
    assert seen[:2] == [("ADDED", None, None), ("MODIFIED", NODE, "True")]
    fields = cluster.objects.get("pods", "p", "default")["metadata"].get("managedFields") or []
    assert not any("f:nodeName" in (one["fieldsV1"].get("f:spec") or {}) for one in fields)


async def test_a_cordoned_node_takes_nothing_until_it_is_uncordoned(cluster: Cluster) -> None:
    await cluster.settled()
    change_node(cluster, unschedulable=True)
    await cluster.settled()
    create(cluster)
    await cluster.until(lambda: scheduled(cluster))
    said = scheduled(cluster)
    words = (
        "0/1 nodes are available: 1 node(s) were unschedulable. no new claims to deallocate, "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
    assert (said["status"], said["reason"], said["message"]) == ("False", "Unschedulable", words)
    assert cluster.events("FailedScheduling") == [words]
    tolerant = [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]
    create(cluster, "tolerant", tolerations=tolerant)
    await cluster.until(lambda: node_of(cluster, "tolerant"))
    change_node(cluster, unschedulable=None)
    await cluster.until(lambda: node_of(cluster))
    assert scheduled(cluster)["status"] == "True"
    assert "reason" not in scheduled(cluster)


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
async def test_words_of_each_release(tmp_path: Path, release: str) -> None:
    cluster = await Cluster(tmp_path / "home", release).start()
    await cluster.settled()
    create(cluster, nodeSelector={"disk": "ssd"})
    await cluster.until(lambda: scheduled(cluster))
    change_node(cluster, taints=[{"key": "only", "value": "gpu", "effect": "NoSchedule"}])
    await cluster.settled()
    create(cluster, "q")
    await cluster.until(lambda: scheduled(cluster, "q"))
    legacy = release == "1.2.2"
    selector = "node(s) didn't match node selector." if legacy else "node(s) didn't match Pod's node affinity/selector."
    taint = "node(s) had taints that the pod didn't tolerate." if legacy else "node(s) had untolerated taint(s)."
    events = cluster.events("FailedScheduling")
    assert any(text.startswith(f"0/1 nodes are available: 1 {selector}") for text in events)
    assert any(text.startswith(f"0/1 nodes are available: 1 {taint}") for text in events)
    assert all(("preemption" in text) is not legacy for text in events)
    cluster.objects.patch("nodes", NODE, {"metadata": {"labels": {"disk": "ssd"}}, "spec": {"taints": None}})
    await cluster.until(lambda: node_of(cluster) and node_of(cluster, "q"))
    await cluster.stop()


async def test_pods_wait_for_a_node(tmp_path: Path) -> None:
    cluster = await Cluster(tmp_path / "home").start(node=False)
    create(cluster)
    await cluster.until(lambda: scheduled(cluster))
    assert cluster.events("FailedScheduling") == ["no nodes available to schedule pods"]
    cluster.node.start()
    await cluster.until(lambda: node_of(cluster))
    await cluster.stop()


async def test_pods_of_another_scheduler_and_gated_pods_are_left_alone(cluster: Cluster) -> None:
    create(cluster, "other", schedulerName="mine")
    create(cluster, "gated", schedulingGates=[{"name": "example.com/wait"}])
    await cluster.settled()
    assert node_of(cluster, "other") == node_of(cluster, "gated") == ""
    words = "Scheduling is blocked due to non-empty scheduling gates"
    told = scheduled(cluster, "gated")
    assert (told["status"], told["reason"], told["message"]) == ("False", "SchedulingGated", words)
    cluster.objects.patch("pods", "gated", {"spec": {"schedulingGates": None}}, "default")
    await cluster.until(lambda: node_of(cluster, "gated"))


def affine(*expressions: Obj) -> Obj:
    terms = [{"matchExpressions": list(expressions)}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"spec": {"affinity": {"nodeAffinity": required}}}


@pytest.mark.parametrize(
    ("operator", "values", "taken"),
    [
        ("In", ["a", "b"], True),
        ("In", ["c"], False),
        ("NotIn", ["c"], True),
        ("NotIn", ["a"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_node_affinity(operator: str, values: list[str], taken: bool) -> None:
    node = {"metadata": {"name": "n", "labels": {"zone": "a"}}, "spec": {}}
    found = refusal(affine({"key": "zone", "operator": operator, "values": values}), node, legacy=False)
    assert (found is None) is taken


@pytest.mark.parametrize(("operator", "value", "taken"), [("Gt", "3", True), ("Gt", "4", False), ("Lt", "5", True)])
def test_node_affinity_of_numbers(operator: str, value: str, taken: bool) -> None:
    node = {"metadata": {"name": "n", "labels": {"cores": "4"}}, "spec": {}}
    found = refusal(affine({"key": "cores", "operator": operator, "values": [value]}), node, legacy=False)
    assert (found is None) is taken


@pytest.mark.parametrize(
    ("toleration", "taken"),
    [
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "other"}, False),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(toleration: Obj, taken: bool) -> None:
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    node = {"metadata": {"name": "n"}, "spec": {"taints": [taint]}}
    assert (refusal({"spec": {"tolerations": [toleration]}}, node, legacy=False) is None) is taken
