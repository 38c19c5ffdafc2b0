# SPDX-License-Identifier: Apache-2.0
"""ReplicaSets: how many pods, which ones go first, whose they are."""

from __future__ import annotations

from typing import Any

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.pods import deletion_rank

from .conftest import REPLICA_SETS, Cluster, pod_spec


def replica_set(replicas: int, name: str = "web") -> Obj:
    labels = {"app": name}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels, "matchExpressions": [{"key": "off", "operator": "DoesNotExist"}]},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    }


def status(cluster: Cluster, name: str = "web") -> Obj:
    found: Obj = cluster.objects.get(REPLICA_SETS, name, "default")["status"]
    return found


async def test_an_orphan_that_matches_is_adopted_and_counts(cluster: Cluster) -> None:
    lone = {"metadata": {"name": "lone", "labels": {"app": "web"}}, "spec": pod_spec()}
    cluster.objects.create("pods", lone, "default")
    cluster.objects.create(REPLICA_SETS, replica_set(2))
    await cluster.until(lambda: status(cluster).get("readyReplicas") == 2)
    pods = cluster.pods("app=web")
    assert len(pods) == 2
    assert "lone" in {pod["metadata"]["name"] for pod in pods}
    assert {pod["metadata"]["ownerReferences"][0]["name"] for pod in pods} == {"web"}


async def test_an_orphan_that_comes_later_is_adopted_and_one_too_many_goes(cluster: Cluster) -> None:
    cluster.objects.create(REPLICA_SETS, replica_set(1))
    await cluster.until(lambda: status(cluster).get("readyReplicas") == 1)
    (kept,) = cluster.pods()
    lone = {"metadata": {"name": "lone", "labels": {"app": "web"}}, "spec": pod_spec()}
    cluster.objects.create("pods", lone, "default")
    await cluster.until(lambda: cluster.objects.find("pods", "lone", "default") is None, "the surplus pod's end")
    await cluster.settled()
    assert [pod["metadata"]["name"] for pod in cluster.pods()] == [kept["metadata"]["name"]]


async def test_a_pod_that_no_longer_matches_is_released_and_replaced(cluster: Cluster) -> None:
    cluster.objects.create(REPLICA_SETS, replica_set(2))
    await cluster.until(lambda: status(cluster).get("readyReplicas") == 2)
    name = cluster.pods()[0]["metadata"]["name"]
    cluster.objects.patch("pods", name, {"metadata": {"labels": {"off": "yes"}}}, "default")
    await cluster.until(lambda: len(cluster.pods()) == 3, "a replacement")
    await cluster.settled()
    assert "ownerReferences" not in cluster.objects.get("pods", name, "default")["metadata"]
    assert status(cluster)["replicas"] == 2
    # Back again, it is one too many, but not a stranger.
    cluster.objects.patch("pods", name, {"metadata": {"labels": {"off": None}}}, "default")
    await cluster.until(lambda: len(cluster.pods()) == 2)


async def test_a_pod_of_another_controller_is_left_alone(cluster: Cluster) -> None:
    cluster.objects.create(REPLICA_SETS, replica_set(1))
    await cluster.until(lambda: status(cluster).get("readyReplicas") == 1)
    other = replica_set(1, "other")
    other["spec"]["selector"] = {"matchLabels": {"app": "web"}}
    other["spec"]["template"]["metadata"]["labels"] = {"app": "web"}
    cluster.objects.create(REPLICA_SETS, other)
    await cluster.until(lambda: status(cluster, "other").get("readyReplicas") == 1)
    await cluster.settled()
    owners = sorted(pod["metadata"]["ownerReferences"][0]["name"] for pod in cluster.pods())
    assert owners == ["other", "web"]


async def test_a_finished_or_deleted_pod_is_replaced(cluster: Cluster) -> None:
    cluster.objects.create(REPLICA_SETS, replica_set(1))
    await cluster.until(lambda: status(cluster).get("readyReplicas") == 1)
    first = cluster.pods()[0]["metadata"]["name"]
    cluster.set_pod(first, "default", "Failed", False)
    await cluster.until(lambda: len(cluster.pods()) == 2)
    await cluster.until(lambda: status(cluster).get("readyReplicas") == 1)
    second = next(pod["metadata"]["name"] for pod in cluster.pods() if pod["metadata"]["name"] != first)
    cluster.objects.delete("pods", second, "default")
    await cluster.until(lambda: cluster.objects.find("pods", second, "default") is None)
    await cluster.until(lambda: len(cluster.pods()) == 2 and status(cluster).get("readyReplicas") == 1)


async def test_the_pod_that_is_not_ready_goes_first(cluster: Cluster) -> None:
    cluster.objects.create(REPLICA_SETS, replica_set(3))
    await cluster.until(lambda: status(cluster).get("readyReplicas") == 3)
    sick = cluster.pods()[1]["metadata"]["name"]
    cluster.set_pod(sick, "default", "Running", False)
    cluster.objects.patch(REPLICA_SETS, "web", {"spec": {"replicas": 2}}, "default")
    await cluster.until(lambda: len(cluster.pods()) == 2)
    assert sick not in {pod["metadata"]["name"] for pod in cluster.pods()}
    assert cluster.events("SuccessfulDelete") == [f"Deleted pod: {sick}"]


def pod(name: str, **changes: Any) -> Obj:
    made: Obj = {
        "metadata": {"name": name, "creationTimestamp": changes.get("created", "2026-01-01T00:00:00Z")},
        "spec": {"nodeName": changes.get("node", "n")},
        "status": {
            "phase": changes.get("phase", "Running"),
            "conditions": [
                {
                    "type": "Ready",
                    "status": changes.get("ready", "True"),
                    "lastTransitionTime": changes.get("since", "2026-01-01T00:00:00Z"),
                }
            ],
            "containerStatuses": [{"restartCount": changes.get("restarts", 0)}],
        },
    }
    if "cost" in changes:
        made["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": changes["cost"]}
    return made


def test_order_of_deletion() -> None:
    pods = [
        pod("steady"),
        pod("younger", created="2026-01-02T00:00:00Z"),
        pod("restarted", restarts=3),
        pod("ready-later", since="2026-01-03T00:00:00Z"),
        pod("cheap", cost="-5"),
        pod("not-ready", ready="False"),
        pod("pending", phase="Pending", ready="False"),
        pod("unassigned", node="", phase="Pending", ready="False"),
        pod("odd-cost", cost="much", ready="False", restarts=9),
    ]
    assert [item["metadata"]["name"] for item in sorted(pods, key=deletion_rank)] == [
        "unassigned",
        "pending",
        "odd-cost",
        "not-ready",
        "cheap",
        "ready-later",
        "restarted",
        "younger",
        "steady",
    ]


async def test_what_refuses_a_pod_is_told_and_tried_again(cluster: Cluster) -> None:
    class Quota:
        full = True
        refusals = 0

        def mutate(self, request: Any) -> None: ...

        def validate(self, request: Any) -> None:
            if request.resource == "pods" and request.operation == "CREATE" and self.full:
                self.refusals += 1
                raise ApiError(403, "Forbidden", 'pods "web-" is forbidden: exceeded quota')

    quota = Quota()
    cluster.objects.add_admission(quota)
    cluster.objects.create(REPLICA_SETS, replica_set(1))
    await cluster.until(lambda: status(cluster).get("conditions"), "the condition")
    assert status(cluster)["conditions"][0]["reason"] == "FailedCreate"
    await cluster.until(lambda: quota.refusals >= 3, "more tries")
    quota.full = False
    await cluster.until(lambda: status(cluster).get("readyReplicas") == 1, "a pod in the end")
    await cluster.settled()
    assert "conditions" not in status(cluster)
    (event,) = [item for item in cluster.objects.list("events", "default") if item["reason"] == "FailedCreate"]
    assert event["message"] == 'Error creating: pods "web-" is forbidden: exceeded quota'
    assert (event["type"], event["count"], event["source"]["component"]) == (
        "Warning",
        quota.refusals,
        "replicaset-controller",
    )
