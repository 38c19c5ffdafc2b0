# SPDX-License-Identifier: Apache-2.0
"""What the controllers do when nothing is to be done: nothing."""

from __future__ import annotations

from .conftest import DEPLOYMENTS, Cluster, deployment


def bound(cluster: Cluster) -> int:
    return sum(bool(pod["spec"].get("nodeName")) for pod in cluster.pods())


async def test_controllers_at_rest_write_nothing(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 3))
    await cluster.until(lambda: bound(cluster) == 3)
    await cluster.settled()
    version = cluster.objects.store.version
    await cluster.restart()
    await cluster.settled()
    assert cluster.objects.store.version == version
