# SPDX-License-Identifier: Apache-2.0
"""LimitRanges: what a container is given, and what it may not ask for."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.contracts import ApiError

from .conftest import Cluster


async def limited(cluster: Cluster, *limits: dict[str, Any]) -> None:
    cluster.objects.create("limitranges", {"metadata": {"name": "lr"}, "spec": {"limits": list(limits)}})


def pod(**resources: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}}


async def test_what_a_container_does_not_say_is_filled_in(cluster: Cluster) -> None:
    await limited(cluster, {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "50m"}})
    made = cluster.objects.create("pods", pod())
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "200m"}, "requests": {"cpu": "50m"}}
    said = "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == said


async def test_the_most_is_a_containers_limit_where_none_is_said(cluster: Cluster) -> None:
    await limited(cluster, {"type": "Container", "max": {"cpu": "1"}})
    made = cluster.objects.create("pods", pod())
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}


async def test_a_request_beyond_a_limit_that_was_filled_in(cluster: Cluster) -> None:
    await limited(cluster, {"type": "Container", "default": {"cpu": "200m"}})
    with pytest.raises(ApiError) as caught:
        cluster.objects.create("pods", pod(requests={"cpu": "1"}))
    field = "spec.containers[0].resources.requests"
    words = f'{field}: Invalid value: "1": must be less than or equal to cpu limit of 200m'
    assert (caught.value.code, caught.value.message) == (422, f'Pod "p" is invalid: {words}')


@pytest.mark.parametrize(
    ("limit", "resources", "why"),
    [
        ({"max": {"cpu": "1"}}, {"limits": {"cpu": "2"}}, "maximum cpu usage per Container is 1, but limit is 2"),
        (
            {"min": {"memory": "64Mi"}},
            {"requests": {"memory": "1Mi"}},
            "minimum memory usage per Container is 64Mi, but request is 1Mi",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
    ],
)
async def test_what_is_beyond_is_refused(cluster: Cluster, limit: Any, resources: Any, why: str) -> None:
    await limited(cluster, {"type": "Container", **limit})
    with pytest.raises(ApiError) as caught:
        cluster.objects.create("pods", pod(**resources))
    assert (caught.value.code, caught.value.message) == (403, f'pods "p" is forbidden: {why}')


async def test_a_pod_and_a_claim_have_limits_too(cluster: Cluster) -> None:
    await limited(
        cluster,
        {"type": "Pod", "max": {"memory": "1Gi"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}},
    )
    with pytest.raises(ApiError, match="maximum memory usage per Pod is 1Gi, but limit is 2Gi"):
        cluster.objects.create("pods", pod(limits={"memory": "2Gi"}))
    claim = {
        "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    with pytest.raises(ApiError, match="minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"):
        cluster.objects.create("persistentvolumeclaims", claim)
