# SPDX-License-Identifier: Apache-2.0
"""StatefulSets and DaemonSets."""

from __future__ import annotations

from typing import Any

from meshbox.contracts import Obj

from .conftest import Cluster, pod_spec

STATEFUL_SETS = "statefulsets.apps"
DAEMON_SETS = "daemonsets.apps"
REVISIONS = "controllerrevisions.apps"


def workload(name: str, **spec: Any) -> Obj:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def status(cluster: Cluster, resource: str, name: str) -> Obj:
    return cluster.objects.get(resource, name, "default").get("status") or {}


def names(cluster: Cluster) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in cluster.pods())


def images(cluster: Cluster) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in cluster.pods()}


def new_image(cluster: Cluster, resource: str, name: str, image: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}
    cluster.objects.patch(resource, name, patch, "default")


async def test_a_stateful_set_starts_in_order(cluster: Cluster) -> None:
    cluster.node.ready = lambda _pod: False
    cluster.objects.create(STATEFUL_SETS, workload("db", replicas=3, serviceName="db"))
    for ready in (1, 2, 3):
        await cluster.until(lambda ready=ready: len(cluster.pods()) == ready)
        await cluster.settled()
        assert names(cluster) == [f"db-{number}" for number in range(ready)]
        cluster.set_pod(f"db-{ready - 1}", "default", "Running", True)
    await cluster.until(lambda: status(cluster, STATEFUL_SETS, "db").get("readyReplicas") == 3)
    pod = cluster.objects.get("pods", "db-2", "default")
    assert pod["spec"]["hostname"] == "db-2"
    assert pod["spec"]["subdomain"] == "db"
    assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-2"
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "2"
    assert "Create Pod db-0 in StatefulSet db successful" in cluster.events("SuccessfulCreate")


async def test_a_stateful_set_shrinks_from_the_top_and_keeps_its_names(cluster: Cluster) -> None:
    cluster.objects.create(STATEFUL_SETS, workload("db", replicas=3, serviceName="db"))
    await cluster.until(lambda: status(cluster, STATEFUL_SETS, "db").get("readyReplicas") == 3)
    before = cluster.objects.get("pods", "db-0", "default")["metadata"]["uid"]
    cluster.objects.delete("pods", "db-0", "default")
    await cluster.until(
        lambda: (
            names(cluster) == ["db-0", "db-1", "db-2"]
            and cluster.objects.get("pods", "db-0", "default")["metadata"]["uid"] != before
        )
    )
    cluster.objects.patch(STATEFUL_SETS, "db", {"spec": {"replicas": 1}}, "default")
    await cluster.until(lambda: names(cluster) == ["db-0"])


async def test_a_stateful_set_rolls_from_the_top_down_to_its_partition(cluster: Cluster) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    made = workload("db", replicas=3, serviceName="db", updateStrategy=strategy)
    cluster.objects.create(STATEFUL_SETS, made)
    await cluster.until(lambda: status(cluster, STATEFUL_SETS, "db").get("readyReplicas") == 3)
    new_image(cluster, STATEFUL_SETS, "db", "httpbin:2")
    await cluster.until(lambda: images(cluster).get("db-1") == "httpbin:2")
    await cluster.settled()
    assert images(cluster) == {"db-0": "httpbin:1", "db-1": "httpbin:2", "db-2": "httpbin:2"}
    found = status(cluster, STATEFUL_SETS, "db")
    assert found["updatedReplicas"] == 2
    assert found["currentRevision"] != found["updateRevision"]
    patch = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
    cluster.objects.patch(STATEFUL_SETS, "db", patch, "default")
    await cluster.until(lambda: status(cluster, STATEFUL_SETS, "db").get("updatedReplicas") == 3)
    await cluster.until(
        lambda: (
            status(cluster, STATEFUL_SETS, "db")["currentRevision"]
            == status(cluster, STATEFUL_SETS, "db")["updateRevision"]
        )
    )
    revisions = cluster.objects.list(REVISIONS, "default")
    assert sorted(item["revision"] for item in revisions) == [1, 2]


async def test_revisions_and_pods_tell_their_templates_as_each_kind_does(cluster: Cluster) -> None:
    made = {STATEFUL_SETS: workload("db", replicas=1, serviceName="db"), DAEMON_SETS: workload("agent")}
    for resource, one in made.items():
        one["metadata"]["annotations"] = {"team": "a"}
        cluster.objects.create(resource, one)
    await cluster.until(lambda: len(cluster.objects.list("pods", "default")) == 2)
    pods = {
        one["metadata"]["generateName"]: one["metadata"]["labels"] for one in cluster.objects.list("pods", "default")
    }
    assert sorted(pods) == ["agent-", "db-"]
    assert pods["agent-"]["pod-template-generation"] == "1"
    revisions = {one["metadata"]["labels"]["app"]: one for one in cluster.objects.list(REVISIONS, "default")}
    db, agent = revisions["db"]["metadata"], revisions["agent"]["metadata"]
    assert db["labels"] == {"app": "db", "controller.kubernetes.io/hash": db["name"].removeprefix("db-")}
    assert agent["labels"] == {"app": "agent", "controller-revision-hash": agent["name"].removeprefix("agent-")}
    assert db["annotations"]["team"] == agent["annotations"]["team"] == "a"
    assert agent["annotations"]["deprecated.daemonset.template.generation"] == "1"


async def test_a_parallel_stateful_set_starts_all_at_once(cluster: Cluster) -> None:
    cluster.node.ready = lambda _pod: False
    made = workload("db", replicas=3, serviceName="db", podManagementPolicy="Parallel")
    cluster.objects.create(STATEFUL_SETS, made)
    await cluster.until(lambda: len(names(cluster)) == 3)


async def test_a_stateful_set_claims_its_volumes_once(cluster: Cluster) -> None:
    template = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    cluster.objects.create(STATEFUL_SETS, workload("db", replicas=1, serviceName="db", volumeClaimTemplates=[template]))
    await cluster.until(lambda: names(cluster) == ["db-0"])
    claim = cluster.objects.get("persistentvolumeclaims", "data-db-0", "default")
    volumes = cluster.objects.get("pods", "db-0", "default")["spec"]["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}} in volumes
    cluster.objects.delete("pods", "db-0", "default")
    await cluster.until(lambda: cluster.events("SuccessfulCreate") and names(cluster) == ["db-0"])
    await cluster.settled()
    again = cluster.objects.get("persistentvolumeclaims", "data-db-0", "default")
    assert again["metadata"]["uid"] == claim["metadata"]["uid"]


async def test_a_daemon_set_has_one_pod_on_the_node(cluster: Cluster) -> None:
    cluster.objects.create(DAEMON_SETS, workload("agent"))
    await cluster.until(lambda: status(cluster, DAEMON_SETS, "agent").get("numberReady") == 1)
    await cluster.settled()
    assert status(cluster, DAEMON_SETS, "agent") == {
        "currentNumberScheduled": 1,
        "desiredNumberScheduled": 1,
        "numberAvailable": 1,
        "numberMisscheduled": 0,
        "numberReady": 1,
        "observedGeneration": 1,
        "updatedNumberScheduled": 1,
    }
    # Daemons stay on a node that is cordoned.
    cluster.objects.patch("nodes", "labkit-test", {"spec": {"unschedulable": True}})
    (pod,) = names(cluster)
    cluster.objects.delete("pods", pod, "default")
    await cluster.until(lambda: names(cluster) not in ([], [pod]))
    await cluster.until(lambda: status(cluster, DAEMON_SETS, "agent").get("numberReady") == 1)


async def test_a_daemon_set_rolls(cluster: Cluster) -> None:
    cluster.objects.create(DAEMON_SETS, workload("agent"))
    await cluster.until(lambda: status(cluster, DAEMON_SETS, "agent").get("numberReady") == 1)
    new_image(cluster, DAEMON_SETS, "agent", "httpbin:2")
    await cluster.until(lambda: list(images(cluster).values()) == ["httpbin:2"])
    await cluster.until(lambda: status(cluster, DAEMON_SETS, "agent").get("numberAvailable") == 1)


async def test_a_daemon_set_goes_where_its_node_selector_says(cluster: Cluster) -> None:
    made = workload("agent")
    made["spec"]["template"]["spec"]["nodeSelector"] = {"gpu": "yes"}
    cluster.objects.create(DAEMON_SETS, made)
    await cluster.settled()
    assert names(cluster) == []
    assert status(cluster, DAEMON_SETS, "agent")["desiredNumberScheduled"] == 0
    cluster.objects.patch("nodes", "labkit-test", {"metadata": {"labels": {"gpu": "yes"}}})
    await cluster.until(lambda: len(names(cluster)) == 1)
    cluster.objects.patch("nodes", "labkit-test", {"metadata": {"labels": {"gpu": None}}})
    await cluster.until(lambda: names(cluster) == [])
