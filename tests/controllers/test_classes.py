# SPDX-License-Identifier: Apache-2.0
"""Classes of pods, and who leaves for whom: as a real Kubernetes 1.35.4 has it."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.classes import PRIORITIES
from meshbox.controllers.meta import condition

from .conftest import Cluster, pod_spec

PORT = [{"containerPort": 8080, "hostPort": 18080}]
BUSY = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."


def pod(cluster: Cluster, name: str, *, port: bool = False, **spec: Any) -> Obj:
    made = {"metadata": {"name": name}, "spec": pod_spec(**spec)}
    if port:
        made["spec"]["containers"][0]["ports"] = PORT
    return cluster.objects.create("pods", made, "default")


def priority_class(cluster: Cluster, name: str, value: int, **more: Any) -> Obj:
    return cluster.objects.create(PRIORITIES, {"metadata": {"name": name}, "value": value, **more})


def given(made: Obj) -> tuple[Any, ...]:
    return tuple(made["spec"].get(key) for key in ("priorityClassName", "priority", "preemptionPolicy"))


async def test_a_pod_has_the_priority_of_its_class(cluster: Cluster) -> None:
    assert given(pod(cluster, "plain")) == (None, 0, "PreemptLowerPriority")
    priority_class(cluster, "polite", 1000, preemptionPolicy="Never")
    assert given(pod(cluster, "named", priorityClassName="polite")) == ("polite", 1000, "Never")
    priority_class(cluster, "all", 7, globalDefault=True)
    assert given(pod(cluster, "unnamed")) == ("all", 7, "PreemptLowerPriority")
    before = cluster.objects.get("pods", "named", "default")
    del before["spec"]["priority"], before["spec"]["preemptionPolicy"]
    assert given(cluster.objects.update("pods", before)) == ("polite", 1000, "Never")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        ({"priorityClassName": "nope"}, "no PriorityClass with name nope was found"),
        (
            {"priority": 5},
            "the integer value of priority (5) must not be provided in pod spec; priority admission controller "
            "computed 0 from the given PriorityClass name",
        ),
        (
            {"preemptionPolicy": "Never"},
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission "
            "controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ],
)
async def test_a_pod_does_not_say_its_priority_itself(cluster: Cluster, spec: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiError) as refused:
        pod(cluster, "p", **spec)
    assert (refused.value.code, refused.value.message) == (403, f'pods "p" is forbidden: {why}')


async def test_one_class_at_most_is_everybodys(cluster: Cluster) -> None:
    priority_class(cluster, "one", 1, globalDefault=True)
    with pytest.raises(ApiError) as refused:
        priority_class(cluster, "two", 2, globalDefault=True)
    why = "PriorityClass one is already marked as default. Only one default can exist"
    assert refused.value.message == f'priorityclasses.scheduling.k8s.io "two" is forbidden: {why}'
    cluster.objects.patch(PRIORITIES, "one", {"description": "still the one"})


async def test_the_less_important_leave_as_few_as_can_be(cluster: Cluster) -> None:
    priority_class(cluster, "high", 1000)
    pod(cluster, "low", port=True)
    pod(cluster, "beside")
    await cluster.until(lambda: len(cluster.events("Scheduled")) == 2)
    # Told to go, and not gone yet.
    cluster.node.kills = False
    it = pod(cluster, "vip", port=True, priorityClassName="high")
    await cluster.settled()
    low, vip = (cluster.objects.get("pods", name, "default") for name in ("low", "vip"))
    told = condition(low["status"], "DisruptionTarget") or {}
    assert (told["reason"], "deletionTimestamp" in low["metadata"]) == ("PreemptionByScheduler", True)
    assert told["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
    assert cluster.events("Preempted") == [f"Preempted by pod {it['metadata']['uid']} on node labkit-test"]
    assert (vip["status"]["nominatedNodeName"], cluster.events("FailedScheduling")) == ("labkit-test", [BUSY])
    assert "deletionTimestamp" not in cluster.objects.get("pods", "beside", "default")["metadata"]
    cluster.objects.delete("pods", "low", "default", grace_period=0)
    await cluster.until(lambda: cluster.objects.get("pods", "vip", "default")["spec"].get("nodeName"))
    assert "nominatedNodeName" not in cluster.objects.get("pods", "vip", "default")["status"]


async def test_who_never_preempts_waits(cluster: Cluster) -> None:
    priority_class(cluster, "polite", 1000, preemptionPolicy="Never")
    pod(cluster, "low", port=True)
    await cluster.until(lambda: cluster.events("Scheduled"))
    pod(cluster, "vip", port=True, priorityClassName="polite")
    await cluster.settled()
    words = f"{BUSY} no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
    assert cluster.events("FailedScheduling") == [words]


async def test_equals_stay(cluster: Cluster) -> None:
    pod(cluster, "first", port=True)
    await cluster.until(lambda: cluster.events("Scheduled"))
    pod(cluster, "second", port=True)
    await cluster.settled()
    vain = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 "
    assert cluster.events("FailedScheduling") == [f"{BUSY} {vain}No preemption victims found for incoming pod."]


async def test_nobody_leaves_for_what_no_node_could_hold(cluster: Cluster) -> None:
    priority_class(cluster, "high", 1000)
    pod(cluster, "low")
    made = pod_spec(priorityClassName="high")
    made["containers"][0]["resources"] = {"requests": {"cpu": "100000"}}
    await cluster.until(lambda: cluster.events("Scheduled"))
    cluster.objects.patch("nodes", "labkit-test", {"status": {"allocatable": {"cpu": "2"}}}, subresource="status")
    cluster.objects.create("pods", {"metadata": {"name": "vast"}, "spec": made}, "default")
    await cluster.settled()
    vain = (
        "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
    assert cluster.events("FailedScheduling") == [f"0/1 nodes are available: 1 Insufficient cpu. {vain}"]
    assert cluster.events("Preempted") == []


async def test_an_ingress_without_a_class_has_everybodys(cluster: Cluster) -> None:
    backend = {"service": {"name": "web", "port": {"number": 80}}}

    def ingress(name: str, **annotations: str) -> Any:
        meta = {"name": name, "annotations": {f"kubernetes.io/{key}": value for key, value in annotations.items()}}
        spec = {"defaultBackend": backend}
        made = cluster.objects.create("ingresses.networking.k8s.io", {"metadata": meta, "spec": spec}, "default")
        return made["spec"].get("ingressClassName")

    assert ingress("before") is None
    meta = {"name": "mine", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}
    spec = {"controller": "example.com/mine"}
    cluster.objects.create("ingressclasses.networking.k8s.io", {"metadata": meta, "spec": spec})
    assert ingress("unsaid") == "mine"
    assert ingress("old", **{"ingress.class": "istio"}) is None
    # Whoever takes it away later has taken it away, and what has no spec has no place for it.
    made = cluster.objects.get("ingresses.networking.k8s.io", "unsaid", "default")
    del made["spec"]["ingressClassName"]
    assert "ingressClassName" not in cluster.objects.update("ingresses.networking.k8s.io", made)["spec"]
    empty = cluster.objects.create("ingresses.networking.k8s.io", {"metadata": {"name": "empty"}}, "default")
    assert "ingressClassName" not in empty.get("spec", {})
