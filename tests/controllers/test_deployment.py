# SPDX-License-Identifier: Apache-2.0
"""Deployments: what is created, how it rolls, what its status says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.meta import condition
from meshbox.controllers.rollout import REVISION, available, proportional_sizes, replicas, revision

from .conftest import DEPLOYMENTS, REPLICA_SETS, Cluster, deployment


def get(cluster: Cluster, name: str = "web") -> Obj:
    return cluster.objects.get(DEPLOYMENTS, name, "default")


def sets(cluster: Cluster, name: str = "web") -> list[Obj]:
    """Its ReplicaSets, the oldest revision first."""
    return sorted(cluster.objects.list(REPLICA_SETS, "default", labels=f"app={name}"), key=revision)


def patch(cluster: Cluster, spec: Obj, name: str = "web") -> Obj:
    return cluster.objects.patch(DEPLOYMENTS, name, {"spec": spec}, "default")


def set_image(cluster: Cluster, image: str, name: str = "web") -> Obj:
    return patch(cluster, {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}, name)


def is_done(cluster: Cluster, name: str = "web") -> bool:
    found = get(cluster, name)
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    return (
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
    )


def progress(cluster: Cluster) -> tuple[str, str, str]:
    found = condition(get(cluster)["status"], "Progressing") or {}
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


async def rolled_out(cluster: Cluster, name: str = "web") -> None:
    await cluster.until(lambda: is_done(cluster, name), f"{name} rolled out")
    await cluster.settled()


async def test_makes_a_replica_set_and_pods_named_as_kubernetes_names_them(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2))
    await rolled_out(cluster)
    (replica_set,) = sets(cluster)
    name = replica_set["metadata"]["name"]
    assert re.fullmatch(r"web-[bcdfghjklmnpqrstvwxz2456789]{5,10}", name)
    digest = name.removeprefix("web-")
    assert replica_set["metadata"]["labels"] == {"app": "web", "pod-template-hash": digest}
    assert replica_set["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": digest}
    assert replica_set["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "1",
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
    }
    pods = cluster.pods("app=web")
    assert len(pods) == 2
    for pod in pods:
        assert re.fullmatch(re.escape(name) + r"-[bcdfghjklmnpqrstvwxz2456789]{5}", pod["metadata"]["name"])
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", name, True)
        assert pod["metadata"]["labels"]["pod-template-hash"] == digest


async def test_status_and_conditions_of_a_finished_rollout(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2))
    await rolled_out(cluster)
    found = get(cluster)
    status = found["status"]
    assert found["metadata"]["annotations"][REVISION] == "1"
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "terminatingReplicas": 0,
    }
    name = sets(cluster)[0]["metadata"]["name"]
    assert progress(cluster) == ("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
    usable = condition(status, "Available") or {}
    assert (usable["status"], usable["reason"], usable["message"]) == (
        "True",
        "MinimumReplicasAvailable",
        "Deployment has minimum availability.",
    )


async def test_events_of_the_current_kubernetes(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await rolled_out(cluster)
    name = sets(cluster)[0]["metadata"]["name"]
    (pod,) = cluster.pods("app=web")
    assert cluster.events("ScalingReplicaSet") == [f"Scaled up replica set {name} from 0 to 1"]
    assert cluster.events("SuccessfulCreate") == [f"Created pod: {pod['metadata']['name']}"]
    assert cluster.events("Scheduled") == [f"Successfully assigned default/{pod['metadata']['name']} to labkit-test"]


async def test_events_of_kubernetes_1_14(legacy: Cluster) -> None:
    legacy.objects.create(DEPLOYMENTS, deployment("web", 1))
    await rolled_out(legacy)
    name = sets(legacy)[0]["metadata"]["name"]
    assert legacy.events("ScalingReplicaSet") == [f"Scaled up replica set {name} to 1"]


def pod_is_available(pod: Obj) -> bool:
    ready = condition(pod["status"], "Ready")
    return "deletionTimestamp" not in pod["metadata"] and ready is not None and ready["status"] == "True"


@pytest.mark.parametrize(
    ("surge", "unavailable", "least", "most"),
    [(1, 0, 5, 6), (0, 1, 4, 5), ("25%", "25%", 4, 7), ("100%", 0, 5, 10), (0, "50%", 3, 5)],
)
async def test_rolling_update_stays_within_its_bounds(
    cluster: Cluster, surge: int | str, unavailable: int | str, least: int, most: int
) -> None:
    rolling = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}, "type": "RollingUpdate"}
    cluster.objects.create(DEPLOYMENTS, deployment("web", 5, strategy=rolling))
    await rolled_out(cluster)
    seen: list[tuple[int, int]] = []

    def look(_change: object) -> None:
        pods = cluster.pods("app=web")
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        seen.append((sum(map(pod_is_available, pods)), len(alive)))

    stop = cluster.objects.store.listen("pods", look)
    set_image(cluster, "httpbin:2")
    await rolled_out(cluster)
    stop()
    assert min(ready for ready, _ in seen) == least
    assert max(alive for _, alive in seen) <= most
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods("app=web")} == {"httpbin:2"}
    assert [replicas(item) for item in sets(cluster)] == [0, 5]


async def test_an_update_that_never_becomes_ready_keeps_the_old_pods(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 4))
    await rolled_out(cluster)
    cluster.node.ready = lambda pod: pod["spec"]["containers"][0]["image"] == "httpbin:1"
    set_image(cluster, "broken:2")
    await cluster.settled()
    assert [replicas(item) for item in sets(cluster)] == [3, 2]
    status = get(cluster)["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (5, 2, 3)
    assert status["unavailableReplicas"] == 2
    assert progress(cluster)[:2] == ("True", "ReplicaSetUpdated")


async def test_undo_takes_the_old_replica_set_again(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2))
    await rolled_out(cluster)
    first = sets(cluster)[0]["metadata"]["name"]
    set_image(cluster, "httpbin:2")
    await rolled_out(cluster)
    set_image(cluster, "httpbin:1")
    await rolled_out(cluster)
    second, again = sets(cluster)
    assert again["metadata"]["name"] == first
    assert (revision(second), revision(again)) == (2, 3)
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
    assert get(cluster)["metadata"]["annotations"][REVISION] == "3"
    assert [replicas(second), replicas(again)] == [0, 2]


async def test_old_replica_sets_are_forgotten_beyond_the_limit(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1, revisionHistoryLimit=1))
    await rolled_out(cluster)
    for number in (2, 3, 4):
        set_image(cluster, f"httpbin:{number}")
        await rolled_out(cluster)
    await cluster.until(lambda: len(sets(cluster)) == 2)
    assert [revision(item) for item in sets(cluster)] == [3, 4]


async def test_paused_changes_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await rolled_out(cluster)
    patch(cluster, {"paused": True})
    await cluster.settled()
    assert progress(cluster) == ("Unknown", "DeploymentPaused", "Deployment is paused")
    set_image(cluster, "httpbin:2")
    patch(cluster, {"replicas": 3})
    await cluster.settled()
    # Scaling is not held back: the template is.
    (only,) = sets(cluster)
    assert replicas(only) == 3
    patch(cluster, {"paused": False})
    await rolled_out(cluster)
    assert [replicas(item) for item in sets(cluster)] == [0, 3]
    assert progress(cluster)[:2] == ("True", "NewReplicaSetAvailable")


async def test_recreate_starts_new_pods_only_when_the_old_ones_are_gone(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2, strategy={"type": "Recreate"}))
    await rolled_out(cluster)
    cluster.node.kills = False
    set_image(cluster, "httpbin:2")
    await cluster.settled()
    assert [bool(pod["metadata"].get("deletionTimestamp")) for pod in cluster.pods()] == [True, True]
    assert len(sets(cluster)) == 1
    cluster.node.kills = True
    cluster.node.catch_up()
    await rolled_out(cluster)
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods()} == {"httpbin:2"}


async def test_scale_up_and_down(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await rolled_out(cluster)
    for size in (4, 2, 0, 1):
        patch(cluster, {"replicas": size})
        await rolled_out(cluster)
        await cluster.until(lambda size=size: len(cluster.pods()) == size)
    name = sets(cluster)[0]["metadata"]["name"]
    assert set(cluster.events("ScalingReplicaSet")) == {
        f"Scaled {how} replica set {name} from {before} to {after}"
        for how, before, after in (("up", 0, 1), ("up", 1, 4), ("down", 4, 2), ("down", 2, 0))
    }


async def test_scaling_in_the_middle_of_a_rollout_is_shared(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 8))
    await rolled_out(cluster)
    cluster.node.ready = lambda pod: pod["spec"]["containers"][0]["image"] == "httpbin:1"
    set_image(cluster, "broken:2")
    await cluster.settled()
    assert [replicas(item) for item in sets(cluster)] == [6, 4]
    patch(cluster, {"replicas": 16})
    await cluster.settled()
    assert [replicas(item) for item in sets(cluster)] == [12, 8]


async def test_a_rollout_that_stands_still_exceeds_its_deadline(cluster: Cluster) -> None:
    cluster.node.ready = lambda _pod: False
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1, progressDeadlineSeconds=1))
    await cluster.until(lambda: progress(cluster)[1] == "ProgressDeadlineExceeded", "the deadline")
    name = sets(cluster)[0]["metadata"]["name"]
    assert progress(cluster) == ("False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.')
    (pod,) = cluster.pods()
    cluster.set_pod(pod["metadata"]["name"], "default", "Running", True)
    await rolled_out(cluster)
    assert progress(cluster)[1] == "NewReplicaSetAvailable"


async def test_min_ready_seconds_delay_availability(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1, minReadySeconds=600))
    cluster.objects.create(DEPLOYMENTS, deployment("soon", 1, minReadySeconds=1))
    await cluster.until(lambda: get(cluster).get("status", {}).get("readyReplicas") == 1)
    await rolled_out(cluster, "soon")
    assert "availableReplicas" not in get(cluster)["status"]
    assert (condition(get(cluster)["status"], "Available") or {})["status"] == "False"


async def test_a_taken_name_is_avoided(cluster: Cluster, tmp_path: Any) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await rolled_out(cluster)
    taken = sets(cluster)[0]["metadata"]["name"]
    cluster.objects.delete(DEPLOYMENTS, "web", "default")
    await cluster.until(lambda: not cluster.pods() and not sets(cluster))
    foreign = {
        "metadata": {"name": taken},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "other"}},
            "template": {"metadata": {"labels": {"app": "other"}}, "spec": deployment()["spec"]["template"]["spec"]},
        },
    }
    cluster.objects.create(REPLICA_SETS, foreign, "default")
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await rolled_out(cluster)
    (mine,) = sets(cluster)
    assert mine["metadata"]["name"] != taken
    assert get(cluster)["status"]["collisionCount"] == 1


async def test_annotations_follow_but_what_kubectl_applied_does_not(cluster: Cluster) -> None:
    made = deployment("web", 1)
    made["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "first",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    cluster.objects.create(DEPLOYMENTS, made)
    await rolled_out(cluster)
    annotations = sets(cluster)[0]["metadata"]["annotations"]
    assert annotations["kubernetes.io/change-cause"] == "first"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in annotations


async def test_an_orphaned_replica_set_is_adopted(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await rolled_out(cluster)
    (before,) = sets(cluster)
    pod = cluster.pods()[0]["metadata"]["uid"]
    cluster.objects.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
    await cluster.until(lambda: cluster.objects.find(DEPLOYMENTS, "web", "default") is None)
    await cluster.settled()
    (orphan,) = sets(cluster)
    assert "ownerReferences" not in orphan["metadata"]
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await rolled_out(cluster)
    (adopted,) = sets(cluster)
    assert adopted["metadata"]["uid"] == before["metadata"]["uid"]
    assert [item["kind"] for item in adopted["metadata"]["ownerReferences"]] == ["Deployment"]
    assert [item["metadata"]["uid"] for item in cluster.pods()] == [pod]


async def test_a_refused_replica_set_is_told_and_tried_again(cluster: Cluster) -> None:
    class Refusal:
        active = True

        def mutate(self, request: Any) -> None: ...

        def validate(self, request: Any) -> None:
            if self.active and request.resource == REPLICA_SETS and request.operation == "CREATE":
                raise ApiError(403, "Forbidden", "not today")

    refusal = Refusal()
    cluster.objects.add_admission(refusal)
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await cluster.until(lambda: progress(cluster)[1] == "ReplicaSetCreateError", "the error")
    assert progress(cluster) == ("False", "ReplicaSetCreateError", "Failed to create new replica set: not today")
    refusal.active = False
    await rolled_out(cluster)


async def test_refused_pods_show_in_the_deployment(cluster: Cluster) -> None:
    class NoPods:
        def mutate(self, request: Any) -> None: ...

        def validate(self, request: Any) -> None:
            if request.resource == "pods" and request.operation == "CREATE":
                raise ApiError(403, "Forbidden", "no pods today")

    cluster.objects.add_admission(NoPods())
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    found = await cluster.until(lambda: condition(get(cluster)["status"], "ReplicaFailure"), "the failure")
    assert (found["status"], found["reason"], found["message"]) == ("True", "FailedCreate", "no pods today")
    assert "Error creating: no pods today" in cluster.events("FailedCreate")


async def test_a_pod_that_plugins_make_invalid_is_not_made(cluster: Cluster) -> None:
    class Twice:
        def mutate(self, request: Any) -> None:
            if request.resource == "pods" and request.operation == "CREATE":
                request.object["spec"]["containers"].append({"name": "proxy"})

        def validate(self, request: Any) -> None: ...

    cluster.objects.add_admission(Twice())
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    found = await cluster.until(lambda: condition(get(cluster)["status"], "ReplicaFailure"), "the failure")
    assert found["message"].endswith(" is invalid: spec.containers[1].image: Required value")
    assert cluster.pods() == []


def sized(name: str, size: int, rev: int, most: int, ready: int = 0) -> Obj:
    annotations = {REVISION: str(rev), "deployment.kubernetes.io/max-replicas": str(most)}
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"replicas": size},
        "status": {"availableReplicas": ready},
    }


def test_proportions_add_up() -> None:
    for wanted in range(40):
        shared = proportional_sizes(deployment("web", wanted), [sized("a", 7, 1, 13), sized("b", 6, 2, 13)])
        surge = -(-wanted // 4)
        assert sum(size for _, size in shared) == (wanted + surge if wanted else 0)
        assert all(size >= 0 for _, size in shared)


def test_pods_above_the_wanted_number_are_not_counted_on() -> None:
    assert available(sized("a", 2, 1, 5, ready=3)) == 2
