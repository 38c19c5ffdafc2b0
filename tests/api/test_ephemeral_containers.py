# SPDX-License-Identifier: Apache-2.0
"""Containers that are added to a pod, by the subresource that is for them and by no other way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import PODS, Cluster, pod

PLACE = f"{PODS}/web/ephemeralcontainers"
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
HELPER = {"name": "helper", "image": "busybox", "targetContainerName": "web"}


@pytest.fixture(autouse=True)
def web(cluster: Cluster) -> None:
    account = {"metadata": {"name": "default", "namespace": "default"}, "secrets": [{"name": "default-token"}]}
    cluster.objects.create("serviceaccounts", account)
    cluster.objects.create("pods", pod(), "default")


async def _patched(cluster: Cluster, *containers: dict[str, Any], place: str = PLACE) -> Any:
    spec = {"spec": {"ephemeralContainers": list(containers)}}
    return await cluster.request("PATCH", place, spec, headers=STRATEGIC)


async def test_one_is_added_and_nothing_else(cluster: Cluster) -> None:
    body = {"spec": {"ephemeralContainers": [HELPER], "activeDeadlineSeconds": 5}, "metadata": {"labels": {"a": "b"}}}
    answer = await cluster.request("PATCH", PLACE, body, headers=STRATEGIC)
    assert answer.status == 200
    kept = cluster.objects.get("pods", "web", "default")
    (added,) = kept["spec"]["ephemeralContainers"]
    assert (added["name"], added["imagePullPolicy"]) == ("helper", "Always")
    assert "activeDeadlineSeconds" not in kept["spec"]
    assert "labels" not in kept["metadata"]
    assert kept["metadata"]["generation"] == 2
    assert (await cluster.request("GET", PLACE)).body["spec"]["ephemeralContainers"] == [added]


async def test_it_stays_as_it_is(cluster: Cluster) -> None:
    await _patched(cluster, HELPER)
    answer = await _patched(cluster, {"name": "helper", "image": "alpine"})
    assert answer.status == 422
    said = 'spec.ephemeralContainers: Forbidden: existing ephemeral containers "helper" may not be changed'
    assert answer.body["message"] == f'Pod "web" is invalid: {said}'
    shown = (await cluster.request("GET", PLACE)).body
    shown["spec"]["ephemeralContainers"] = []
    answer = await cluster.request("PUT", PLACE, shown)
    assert 'existing ephemeral containers "helper" may not be removed' in answer.body["message"]
    # An update of the whole pod leaves them alone.
    shown = (await cluster.request("GET", f"{PODS}/web")).body
    del shown["spec"]["ephemeralContainers"]
    assert (await cluster.request("PUT", f"{PODS}/web", shown)).status == 200
    assert [one["name"] for one in cluster.objects.get("pods", "web", "default")["spec"]["ephemeralContainers"]] == [
        "helper"
    ]


async def test_what_is_wrong_with_one_is_said(cluster: Cluster) -> None:
    answer = await _patched(cluster, {"name": "web", "image": "busybox"})
    assert answer.status == 422
    assert 'spec.ephemeralContainers[0].name: Duplicate value: "web"' in answer.body["message"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ports": [{"containerPort": 80}]}, "ports: Forbidden: cannot be set for an Ephemeral Container"),
        ({"resources": {"limits": {"cpu": "1"}}}, "resources: Forbidden: cannot be set for an Ephemeral Container"),
        ({"targetContainerName": "nobody"}, 'targetContainerName: Not found: "nobody"'),
        ({"image": ""}, "image: Required value"),
    ],
)
async def test_what_one_may_not_have(cluster: Cluster, fields: dict[str, Any], said: str) -> None:
    answer = await _patched(cluster, {**HELPER, **fields})
    assert answer.body["message"] == f'Pod "web" is invalid: spec.ephemeralContainers[0].{said}'


async def test_a_new_pod_has_none(cluster: Cluster) -> None:
    body = pod("other", ephemeralContainers=[HELPER])
    answer = await cluster.request("POST", PODS, body)
    said = "spec.ephemeralContainers: Forbidden: cannot be set on create"
    assert answer.body["message"] == f'Pod "other" is invalid: {said}'


async def test_pods_are_not_resized(cluster: Cluster) -> None:
    answer = await _patched(cluster, place=f"{PODS}/web/resize")
    assert answer.status == 403
    why = "the sandbox resizes no running pod: change the template of whatever made it"
    assert answer.body["message"] == f'pods "web" is forbidden: {why}'


@pytest.mark.parametrize("release", ["1.2.2"])
async def test_an_old_kubernetes_has_none(cluster: Cluster) -> None:
    assert (await _patched(cluster, HELPER)).status == 404
