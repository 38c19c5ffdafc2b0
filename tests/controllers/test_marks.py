# SPDX-License-Identifier: Apache-2.0
"""What controllers leave on objects as Kubernetes' own do: labels, annotations, events; and what they put back."""

from __future__ import annotations

from typing import Any

from meshbox.api.options import WriteOptions

from .conftest import DEPLOYMENTS, REPLICA_SETS, Cluster, deployment, pod_spec

ROLES = "clusterroles.rbac.authorization.k8s.io"
NODE = "labkit-test"


def template(name: str, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": name}}, "spec": spec or pod_spec()}


async def test_a_replication_controller_keeps_its_pods(cluster: Cluster) -> None:
    spec = {"replicas": 2, "selector": {"app": "old"}, "template": template("old")}
    cluster.objects.create("replicationcontrollers", {"metadata": {"name": "old"}, "spec": spec})
    await cluster.until(lambda: len(cluster.pods("app=old")) == 2)
    owner = cluster.pods("app=old")[0]["metadata"]["ownerReferences"][0]
    assert (owner["apiVersion"], owner["kind"], owner["name"]) == ("v1", "ReplicationController", "old")
    cluster.objects.patch("replicationcontrollers", "old", {"spec": {"replicas": 1}}, "default")
    await cluster.until(lambda: len(cluster.pods("app=old")) == 1)
    status = cluster.objects.get("replicationcontrollers", "old")["status"]
    assert "terminatingReplicas" not in status
    assert any(text.startswith("Deleted pod: old-") for text in cluster.events("SuccessfulDelete"))


async def test_the_authority_of_a_namespace_is_put_back(cluster: Cluster) -> None:
    name = "kube-root-ca.crt"
    await cluster.until(lambda: cluster.objects.find("configmaps", name, "default"))
    cluster.objects.patch("configmaps", name, {"data": {"ca.crt": "another"}}, "default")
    await cluster.until(lambda: cluster.objects.get("configmaps", name)["data"] == {"ca.crt": "CERTIFICATE"})
    cluster.objects.delete("configmaps", name, "default")
    await cluster.until(lambda: cluster.objects.find("configmaps", name, "default"))


async def test_roles_are_made_of_others(cluster: Cluster) -> None:
    def verbs(name: str, resource: str) -> set[str]:
        rules = cluster.objects.get(ROLES, name)["rules"] or ()
        return {verb for rule in rules if resource in rule.get("resources", ()) for verb in rule["verbs"]}

    await cluster.until(lambda: verbs("admin", "roles"))
    await cluster.settled()
    assert verbs("view", "pods") == {"get", "list", "watch"}
    assert verbs("view", "secrets") == set()
    assert {"create", "delete", "list"} <= verbs("edit", "secrets")
    assert verbs("edit", "roles") == set()
    rules = [{"verbs": ["get"], "apiGroups": ["x.example.com"], "resources": ["widgets"]}]
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    cluster.objects.create(ROLES, {"metadata": {"name": "widgets", "labels": labels}, "rules": rules})
    await cluster.until(lambda: verbs("admin", "widgets") == {"get"})


async def test_a_node_that_is_full(cluster: Cluster) -> None:
    cluster.objects.update(
        "nodes",
        {**cluster.objects.get("nodes", NODE), "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}}},
        subresource="status",
    )
    await cluster.settled()

    def create(name: str, cpu: str = "0", **container: Any) -> None:
        one = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}, **container}
        cluster.objects.create("pods", {"metadata": {"name": name}, "spec": {"containers": [one]}})

    def node_of(name: str) -> Any:
        return cluster.objects.get("pods", name)["spec"].get("nodeName")

    create("first", "600m")
    await cluster.until(lambda: node_of("first"))
    create("second", "600m")
    words = (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are "
        "available: 1 No preemption victims found for incoming pod."
    )
    await cluster.until(lambda: cluster.events("FailedScheduling") == [words])
    create("port", ports=[{"containerPort": 80, "hostPort": 8080}])
    await cluster.until(lambda: node_of("port"))
    create("same", ports=[{"containerPort": 81, "hostPort": 8080}])
    await cluster.until(lambda: len(cluster.events("FailedScheduling")) == 2)
    assert any("1 node(s) didn't have free ports for the requested" in text for text in cluster.events())
    assert cluster.objects.get("pods", "first")["metadata"]["generation"] == 1
    cluster.objects.delete("pods", "first", "default", grace_period=0)
    await cluster.until(lambda: node_of("second"))
    [event] = [one for one in cluster.objects.list("events") if one["reason"] == "Scheduled"][:1]
    assert (event.get("source"), event["reportingComponent"], event["action"]) == ({}, "default-scheduler", "Binding")
    assert event["eventTime"]


async def test_labels_annotations_and_counts(cluster: Cluster) -> None:
    spec = {"template": {"spec": {**pod_spec(), "restartPolicy": "Never"}}}
    job = cluster.objects.create("jobs.batch", {"metadata": {"name": "j"}, "spec": spec})
    assert job["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "j"
    selector = {"matchLabels": {"app": "ds"}}
    body = {"metadata": {"name": "ds"}, "spec": {"selector": selector, "template": template("ds")}}
    made = cluster.objects.create("daemonsets.apps", body)
    count = "deprecated.daemonset.template.generation"
    assert made["metadata"]["annotations"][count] == "1"
    patch = {"spec": {"template": {"metadata": {"labels": {"more": "x"}}}}}
    assert cluster.objects.patch("daemonsets.apps", "ds", patch, "default")["metadata"]["annotations"][count] == "2"
    hard = {"metadata": {"name": "q"}, "spec": {"hard": {"count/deployments.apps": "2"}}}
    cluster.objects.create("resourcequotas", hard)
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    used = {"count/deployments.apps": "1"}
    await cluster.until(lambda: cluster.objects.get("resourcequotas", "q").get("status", {}).get("used") == used)
    await cluster.until(lambda: cluster.objects.list(REPLICA_SETS, "default"))
    entries = cluster.objects.get(DEPLOYMENTS, "web")["metadata"]["managedFields"]
    assert {(one["manager"], one.get("subresource")) for one in entries} == {("kube-controller-manager", "status")}
    owned = entries[0]["fieldsV1"]
    assert "f:deployment.kubernetes.io/revision" in owned["f:metadata"]["f:annotations"]


async def test_what_is_not_played_is_said(cluster: Cluster) -> None:
    options = WriteOptions("kubectl", validation="Warn")
    body = {"metadata": {"name": "gvisor"}, "handler": "runsc"}
    cluster.objects.create("runtimeclasses.node.k8s.io", body, options=options)
    assert options.warnings == ["RuntimeClass has no effect in the sandbox"]
    options.warnings.clear()
    policy = {"metadata": {"name": "none"}, "spec": {"podSelector": {}}}
    cluster.objects.create("networkpolicies.networking.k8s.io", policy, "default", options=options)
    assert options.warnings == ["NetworkPolicy keeps no traffic out in the sandbox"]
