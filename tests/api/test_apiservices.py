# SPDX-License-Identifier: Apache-2.0
"""APIServices: who serves which group and version."""

from __future__ import annotations

import pytest

from .conftest import CRDS, Cluster, crd

PATH = "/apis/apiregistration.k8s.io/v1/apiservices"


async def test_kubectl_shows_every_group_and_version(cluster: Cluster) -> None:
    lines = (await cluster.kubectl("get", "apiservices")).out.splitlines()
    assert lines[0].split() == ["NAME", "SERVICE", "AVAILABLE", "AGE"]
    rows = {line.split()[0]: line.split()[1:3] for line in lines[1:]}
    assert rows["v1."] == rows["v1.apps"] == rows["v1.networking.k8s.io"] == ["Local", "True"]
    groups = (await cluster.request("GET", "/apis")).body["groups"]
    served = {f"{one['version']}.{group['name']}" for group in groups for one in group["versions"]}
    # Whoever keeps the APIServices serves them himself, and has none.
    assert set(rows) == (served | {"v1."}) - {"v1.apiregistration.k8s.io"}


async def test_a_custom_group_comes_and_goes_with_its_definition(cluster: Cluster) -> None:
    cluster.objects.create(CRDS, crd())
    found = (await cluster.request("GET", f"{PATH}/v1.example.com")).body
    assert found["spec"] == {
        "group": "example.com",
        "version": "v1",
        "groupPriorityMinimum": 1000,
        "versionPriority": 100,
    }
    assert found["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "true"}
    selected = (
        await cluster.request("GET", f"{PATH}?labelSelector=kube-aggregator.kubernetes.io/automanaged=true")
    ).body
    assert [one["metadata"]["name"] for one in selected["items"]] == ["v1.example.com"]
    cluster.objects.delete(CRDS, "widgets.example.com")
    gone = await cluster.request("GET", f"{PATH}/v1.example.com")
    assert (gone.status, gone.body["reason"]) == (404, "NotFound")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_they_can_only_be_read(cluster: Cluster, method: str) -> None:
    path = PATH if method == "POST" else f"{PATH}/v1.apps"
    spec = {"group": "a.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    body = {"metadata": {"name": "v1.a.io"}, "spec": spec} if method == "POST" else {}
    assert (await cluster.request(method, path, body)).status == 405


async def test_a_malformed_one_is_told_what_is_wrong_with_it(cluster: Cluster) -> None:
    said = (await cluster.request("POST", PATH, {"metadata": {"name": "v1.a.io"}, "spec": {"group": "a.io"}})).body
    assert "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000" in said["message"]
    spec = {"group": "a.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    told = []
    for name in ("v1.b.io", "a/b"):
        body = (await cluster.request("POST", PATH, {"metadata": {"name": name}, "spec": spec})).body
        told += [one["message"].partition(": ")[2] for one in body["details"]["causes"]]
    assert told == ['"v1.b.io": must be `spec.version+"."+spec.group`: "v1.a.io"', "\"a/b\": may not contain '/'"]


@pytest.mark.parametrize("release", ["1.2.2"])
async def test_the_older_kubernetes_serves_them_too(cluster: Cluster, release: str) -> None:
    out = (await cluster.kubectl("get", "apiservices", "v1beta1.extensions", "-o", "jsonpath={.spec.group}")).out
    assert out == "extensions"
    assert "NAME" in (await cluster.kubectl("get", "apiservices.v1beta1.apiregistration.k8s.io")).out
