# SPDX-License-Identifier: Apache-2.0
"""What an autoscaler makes of what pods use: the arithmetic, the pace, and both together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import ApiError, Obj, PodUsage
from meshbox.controllers.meta import condition, time_text
from meshbox.controllers.replica_count import CountError, propose
from meshbox.controllers.scaling_pace import Pace

from .conftest import DEPLOYMENTS, Cluster, deployment

AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
NOW = 1_700_000_000.0


def pod(name: str, *, ready: bool = True, cpu: str = "100m", phase: str = "Running", age: float = 3600) -> Obj:
    began = time_text(NOW - age)
    status = {
        "phase": phase,
        "startTime": began,
        "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": began}],
    }
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}} if cpu else {}}
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"containers": [container]}, "status": status}


def used(**cores: float) -> dict[tuple[str, str], PodUsage]:
    return {("d", name): PodUsage(NOW, 15, {"c": (value, 64 << 20)}) for name, value in cores.items()}


def cpu(**target: Any) -> Obj:
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


@pytest.mark.parametrize(
    ("pods", "usage", "current", "wanted", "share"),
    [
        ([pod("a")], used(a=0.05), 1, 1, 50),
        ([pod("a")], used(a=0.054), 1, 1, 54),
        ([pod("a")], used(a=0.2), 1, 4, 200),
        ([pod("a"), pod("b")], used(a=0.01, b=0.03), 2, 1, 20),
        # One of which nothing is known counts as using all it asked for when there are to be fewer, nothing when more.
        ([pod("a"), pod("b")], used(a=0.01), 2, 2, 10),
        ([pod("a"), pod("b")], used(a=0.2), 2, 4, 200),
        # One that has just begun uses CPU to begin.
        ([pod("a"), pod("b", ready=False, age=10)], used(a=0.1, b=5.0), 2, 2, 100),
        ([pod("a"), pod("b", phase="Failed")], used(a=0.1), 1, 2, 100),
    ],
)
def test_a_share_of_what_is_asked_for(
    pods: list[Obj], usage: dict[tuple[str, str], PodUsage], current: int, wanted: int, share: int
) -> None:
    found = propose(cpu(type="Utilization", averageUtilization=50), pods, usage, current, NOW)
    assert (found.replicas, found.name) == (wanted, "cpu resource utilization (percentage of request)")
    assert found.status["resource"]["current"]["averageUtilization"] == share


def test_an_amount_and_one_container() -> None:
    found = propose(cpu(type="AverageValue", averageValue="20m"), [pod("a", cpu="")], used(a=0.05), 1, NOW)
    assert (found.replicas, found.status) == (
        3,
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageValue": "50m"}}},
    )
    source = {"name": "memory", "container": "c", "target": {"type": "AverageValue", "averageValue": "16Mi"}}
    found = propose({"type": "ContainerResource", "containerResource": source}, [pod("a")], used(a=0.0), 1, NOW)
    assert found.replicas == 4
    assert found.status["containerResource"]["current"] == {"averageValue": str(64 << 20)}


@pytest.mark.parametrize(
    ("pods", "usage", "said"),
    [
        ([], {}, "no pods returned by selector while calculating replica count"),
        ([pod("a")], {}, "unable to get metrics for resource cpu: no metrics returned from resource metrics API"),
        ([pod("a", cpu="")], used(a=1.0), "missing request for cpu in container c of Pod a"),
        ([pod("a", ready=False, age=10)], used(a=1.0),
         "did not receive metrics for targeted pods (pods might be unready)"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_said(pods: list[Obj], usage: Any, said: str) -> None:
    with pytest.raises(CountError) as caught:
        propose(cpu(type="Utilization", averageUtilization=50), pods, usage, 1, NOW)
    assert str(caught.value) == said


def test_more_at_once_and_fewer_after_five_minutes() -> None:
    pace = Pace()
    assert pace.settle({}, 1, 4, NOW) == (4, "ReadyForNewScale", "recommended size matches current size")
    assert pace.settle({}, 4, 1, NOW + 299)[:2] == (4, "ScaleDownStabilized")
    assert pace.settle({}, 4, 1, NOW + 301)[:2] == (1, "ReadyForNewScale")
    quick = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    assert Pace([(NOW, 4)]).settle(quick, 4, 1, NOW + 1)[0] == 1


@pytest.mark.parametrize(
    ("behavior", "current", "wanted", "found", "reason"),
    [
        ({}, 1, 20, 5, "ScaleUpLimit"),
        ({}, 8, 20, 10, "TooManyReplicas"),
        ({"scaleUp": {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]}}, 4, 9, 6, "ScaleUpLimit"),
        ({"scaleUp": {"selectPolicy": "Disabled"}}, 4, 9, 4, "ScaleUpLimit"),
        ({"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}, 4, 2, 3, "ScaleDownLimit"),
        ({}, 4, 1, 2, "TooFewReplicas"),
        ({}, 4, 3, 3, "DesiredWithinRange"),
    ],
)
def test_policies_and_bounds(behavior: Obj, current: int, wanted: int, found: int, reason: str) -> None:
    assert Pace().limit(behavior, current, wanted, (2, 10), NOW)[:2] == (found, reason)


def test_what_was_done_within_a_policys_period_counts() -> None:
    pace = Pace()
    pace.changed(NOW, 2)
    one_by_one = {"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}}
    assert pace.limit(one_by_one, 3, 9, (1, 10), NOW + 59)[0] == 3
    assert pace.limit(one_by_one, 3, 9, (1, 10), NOW + 61)[0] == 5


class Source:
    """What pods use, as a test says."""

    def __init__(self) -> None:
        self.cores = 0.0
        self.error: ApiError | None = None
        self.pods_seen: list[tuple[str, str]] = []

    async def pods(self) -> dict[tuple[str, str], PodUsage]:
        if self.error is not None:
            raise self.error
        return {key: PodUsage(time.time(), 15, {"web": (self.cores, 0)}) for key in self.pods_seen}


async def test_a_deployment_follows_what_its_pods_use(tmp_path: Path) -> None:
    source = Source()
    source.error = ApiError(503, "ServiceUnavailable", "the server is currently unable to handle the request")

    class Metered(Cluster):
        metrics = source

    cluster = await Metered(tmp_path / "home").start()
    try:
        target = deployment("web", 1)
        target["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
        target["spec"]["template"]["spec"]["containers"][0]["name"] = "web"
        cluster.objects.create(DEPLOYMENTS, target)
        reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        spec = {
            "maxReplicas": 3,
            "scaleTargetRef": reference,
            "metrics": [cpu(type="Utilization", averageUtilization=50)],
        }
        cluster.objects.create(AUTOSCALERS, {"metadata": {"name": "web"}, "spec": spec}, "default")

        def status() -> Obj:
            found: Obj = cluster.objects.get(AUTOSCALERS, "web", "default").get("status") or {}
            return found

        def active() -> Obj:
            return condition(status(), "ScalingActive") or {}

        await cluster.look(AUTOSCALERS, "web")
        await cluster.until(lambda: active().get("reason") == "FailedGetResourceMetric")
        assert "the server is currently unable to handle the request (get pods.metrics.k8s.io)" in active()["message"]
        assert status()["currentMetrics"] == [{"type": ""}]
        # Five minutes later its pod is no longer one that has just begun.
        cluster.ahead += 300
        source.error, source.cores = None, 0.2
        [name] = [one["metadata"]["name"] for one in cluster.pods()]
        cluster.set_pod(name, "default", "Running", True, startTime=time_text(time.time()))
        source.pods_seen = [("default", name)]
        await cluster.look(AUTOSCALERS, "web")
        await cluster.until(lambda: cluster.objects.get(DEPLOYMENTS, "web", "default")["spec"]["replicas"] == 3)
        await cluster.settled()
        assert status()["desiredReplicas"] == 3
        assert active()["reason"] == "ValidMetricFound"
        assert (condition(status(), "ScalingLimited") or {})["reason"] == "TooManyReplicas"
        assert status()["currentMetrics"][0]["resource"]["current"] == {
            "averageUtilization": 200,
            "averageValue": "200m",
        }
        assert cluster.events("SuccessfulRescale") == [
            "New size: 3; reason: cpu resource utilization (percentage of request) above target"
        ]
    finally:
        await cluster.stop()
