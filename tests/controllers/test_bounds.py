# SPDX-License-Identifier: Apache-2.0
"""HorizontalPodAutoscalers and PodDisruptionBudgets."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.contracts import Obj
from meshbox.controllers.meta import condition

from .conftest import DEPLOYMENTS, Cluster, deployment

AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
BUDGETS = "poddisruptionbudgets.policy"


def autoscaler(low: int, high: int, target: str = "web") -> Obj:
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    spec = {"minReplicas": low, "maxReplicas": high, "scaleTargetRef": reference, "metrics": [metric]}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def status(cluster: Cluster, resource: str = AUTOSCALERS) -> Obj:
    return cluster.objects.get(resource, "web", "default").get("status") or {}


def words(cluster: Cluster, type_: str) -> tuple[str, str, str]:
    found = condition(status(cluster), type_) or {}
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


async def test_an_autoscaler_says_that_there_are_no_metrics(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2))
    cluster.objects.create(AUTOSCALERS, autoscaler(1, 5))
    await cluster.look(AUTOSCALERS, "web")
    await cluster.until(lambda: status(cluster).get("currentReplicas") == 2)
    await cluster.settled()
    message = "the HPA controller was able to get the target's current scale"
    assert words(cluster, "AbleToScale") == ("True", "SucceededGetScale", message)
    problem = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from "
        "resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
    )
    message = f"the HPA was unable to compute the replica count: {problem}"
    assert words(cluster, "ScalingActive") == ("False", "FailedGetResourceMetric", message)
    assert cluster.events("FailedGetResourceMetric") == [problem]
    assert cluster.objects.get(DEPLOYMENTS, "web", "default")["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("size", "expected", "reason"),
    [
        (1, 2, "New size: 2; reason: Current number of replicas below Spec.MinReplicas"),
        (9, 4, "New size: 4; reason: Current number of replicas above Spec.MaxReplicas"),
    ],
)
async def test_an_autoscaler_keeps_its_bounds(cluster: Cluster, size: int, expected: int, reason: str) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", size))
    cluster.objects.create(AUTOSCALERS, autoscaler(2, 4))
    await cluster.look(AUTOSCALERS, "web")
    await cluster.until(lambda: status(cluster).get("desiredReplicas") == expected)
    await cluster.settled()
    assert cluster.objects.get(DEPLOYMENTS, "web", "default")["spec"]["replicas"] == expected
    assert cluster.events("SuccessfulRescale") == [reason]


async def test_an_autoscaler_leaves_zero_alone(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 0))
    cluster.objects.create(AUTOSCALERS, autoscaler(2, 4))
    await cluster.look(AUTOSCALERS, "web")
    await cluster.until(lambda: words(cluster, "ScalingActive")[1] == "ScalingDisabled")
    await cluster.settled()
    assert cluster.objects.get(DEPLOYMENTS, "web", "default")["spec"]["replicas"] == 0


async def test_an_autoscaler_without_its_target(cluster: Cluster) -> None:
    cluster.objects.create(AUTOSCALERS, autoscaler(1, 2, target="none"))
    await cluster.look(AUTOSCALERS, "web")
    await cluster.until(lambda: words(cluster, "AbleToScale")[0] == "False")
    message = 'the HPA controller was unable to get the target\'s current scale: deployments.apps "none" not found'
    assert words(cluster, "AbleToScale") == ("False", "FailedGetScale", message)


@pytest.mark.parametrize(
    ("spec", "desired", "allowed"),
    [
        ({"minAvailable": 1}, 1, 3),
        ({"minAvailable": 4}, 4, 0),
        ({"minAvailable": "50%"}, 2, 2),
        ({"maxUnavailable": 1}, 3, 1),
        ({"maxUnavailable": "30%"}, 2, 2),
        ({"maxUnavailable": 9}, 0, 4),
    ],
)
async def test_a_budget_counts(cluster: Cluster, spec: dict[str, Any], desired: int, allowed: int) -> None:
    selector = {"matchLabels": {"app": "web"}}
    cluster.objects.create(BUDGETS, {"metadata": {"name": "web"}, "spec": {"selector": selector, **spec}}, "default")
    cluster.objects.create(DEPLOYMENTS, deployment("web", 4))
    await cluster.until(lambda: status(cluster, BUDGETS).get("currentHealthy") == 4)
    await cluster.settled()
    found = status(cluster, BUDGETS)
    assert (found["desiredHealthy"], found["disruptionsAllowed"], found["expectedPods"]) == (desired, allowed, 4)
    reason = (condition(found, "DisruptionAllowed") or {})["reason"]
    assert reason == ("SufficientPods" if allowed else "InsufficientPods")
    name = cluster.pods()[0]["metadata"]["name"]
    cluster.set_pod(name, "default", "Running", False)
    await cluster.until(lambda: status(cluster, BUDGETS)["currentHealthy"] == 3)
    assert status(cluster, BUDGETS)["disruptionsAllowed"] == max(0, allowed - 1)


async def test_a_budget_without_pods(legacy: Cluster) -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    legacy.objects.create(BUDGETS, {"metadata": {"name": "web"}, "spec": spec}, "default")
    await legacy.until(lambda: legacy.events("NoPods"))
    await legacy.settled()
    assert legacy.events("NoPods") == ["No matching pods found"]
    assert status(legacy, BUDGETS)["disruptionsAllowed"] == 0
    assert "conditions" not in status(legacy, BUDGETS)
