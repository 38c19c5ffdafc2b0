# SPDX-License-Identifier: Apache-2.0
"""What a scheduler of the user's own asks for: pods on nodes."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.bindings import asked

from .conftest import PODS, Cluster, pod

NODE = {"target": {"kind": "Node", "name": "node-1"}}


async def bind(cluster: Cluster, query: str = "", **fields: Any) -> Any:
    binding: Any = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web"}, **NODE, **fields}
    return await cluster.request("POST", f"{PODS}/web/binding{query}", binding)


async def test_a_pod_gets_what_its_binding_is_marked_with(cluster: Cluster) -> None:
    cluster.objects.create("pods", pod())
    cluster.objects.patch("pods", "web", {"metadata": {"annotations": {"a": "1", "b": "1"}, "labels": {"app": "web"}}})
    before = cluster.objects.get("pods", "web")["metadata"]
    marked = {"annotations": {"b": "2"}, "labels": {"zone": "z"}}
    meta = {"name": "web", "namespace": "default", "uid": before["uid"], "resourceVersion": before["resourceVersion"]}
    assert (await bind(cluster, metadata={**meta, **marked})).status == 201
    found = cluster.objects.get("pods", "web")
    assert found["spec"]["nodeName"] == "node-1"
    assert found["metadata"]["annotations"] == {"a": "1", "b": "2"}
    assert found["metadata"]["labels"] == {**before["labels"], "zone": "z"}


@pytest.mark.parametrize(("legacy", "marked"), [(False, {"annotations", "labels"}), (True, {"annotations"})])
def test_old_servers_pass_annotations_on_only(legacy: bool, marked: set[str]) -> None:
    there = {"metadata": {"name": "web", "namespace": "default"}, "spec": {}}
    binding = {"metadata": {"name": "web", "annotations": {"a": "1"}, "labels": {"b": "2"}}, **NODE}
    on = asked(binding, there, legacy=legacy)
    assert on["metadata"].keys() - there["metadata"].keys() == marked


async def test_a_dry_run_binds_nothing(cluster: Cluster) -> None:
    kept = cluster.objects.create("pods", pod())
    assert (await bind(cluster, "?dryRun=All")).status == 201
    assert cluster.objects.get("pods", "web") == kept


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"target": {}}, 500, "target.name: Required value"),
        ({"target": "node-1"}, 500, "target.name: Required value"),
        (
            {"target": {"kind": "Pod", "name": "a"}},
            500,
            'target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"',
        ),
        ({"metadata": {}}, 400, "name in URL does not match name in Binding object"),
        ({"metadata": {"name": "other"}}, 400, "name in URL does not match name in Binding object"),
        (
            {"metadata": {"name": "web", "namespace": "other"}},
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ],
)
async def test_a_binding_that_names_no_pod_or_node_is_refused(
    cluster: Cluster, fields: Any, status: int, said: str
) -> None:
    kept = cluster.objects.create("pods", pod())
    reply = await bind(cluster, **fields)
    assert (reply.status, reply.body["message"]) == (status, said)
    assert cluster.objects.get("pods", "web") == kept


@pytest.mark.parametrize("given", [{"uid": "another"}, {"resourceVersion": "1"}])
async def test_a_binding_of_a_pod_as_it_was_is_refused(cluster: Cluster, given: Any) -> None:
    kept = cluster.objects.create("pods", pod())
    assert (await bind(cluster, metadata={"name": "web", **given})).status == 409
    assert cluster.objects.get("pods", "web") == kept


async def test_marks_that_are_none_are_refused(cluster: Cluster) -> None:
    kept = cluster.objects.create("pods", pod())
    assert (await bind(cluster, metadata={"name": "web", "annotations": ["a"]})).status == 400
    assert (await bind(cluster, metadata={"name": "web", "labels": {"a b": ""}})).status == 422
    assert cluster.objects.get("pods", "web") == kept


@pytest.mark.parametrize(
    ("spec", "going", "why"),
    [
        ({"nodeName": "n"}, False, 'is already assigned to node "n"'),
        ({"schedulingGates": [{"name": "example.test/wait"}]}, False, "has non-empty .spec.schedulingGates"),
        ({}, True, "is being deleted, cannot be assigned to a host"),
    ],
)
async def test_what_may_be_put_nowhere_stays_where_it_is(cluster: Cluster, spec: Any, going: bool, why: str) -> None:
    created = pod(**spec)
    created["metadata"]["finalizers"] = ["example.test/wait"]
    cluster.objects.create("pods", created)
    if going:
        assert (await cluster.request("DELETE", f"{PODS}/web")).status == 200
    kept = cluster.objects.get("pods", "web")
    reply = await bind(cluster)
    said = f'Operation cannot be fulfilled on pods/binding "web": pod web {why}'
    assert (reply.status, reply.body["message"]) == (409, said)
    assert reply.body["details"] == {"name": "web", "kind": "pods/binding"}
    assert cluster.objects.get("pods", "web") == kept


async def test_the_old_way_to_bind_is_the_same(cluster: Cluster) -> None:
    path = PODS.removesuffix("pods") + "bindings"
    cluster.objects.create("pods", pod())
    assert (await cluster.request("POST", path, {"metadata": "web", **NODE})).status == 404
    assert (await cluster.request("POST", f"{path}?dryRun=All", {"metadata": {"name": "web"}, **NODE})).status == 201
    assert "nodeName" not in cluster.objects.get("pods", "web")["spec"]
    assert (await cluster.request("POST", path, {"metadata": {"name": "web"}, **NODE})).status == 201
    assert cluster.objects.get("pods", "web")["spec"]["nodeName"] == "node-1"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_a_binding_is_only_made(cluster: Cluster, method: str) -> None:
    cluster.objects.create("pods", pod())
    binding = None if method == "GET" else {"metadata": {"name": "web"}, **NODE}
    assert (await cluster.request(method, f"{PODS}/web/binding", binding)).status == 405
