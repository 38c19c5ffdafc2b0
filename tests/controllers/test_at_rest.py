"""How much work the controllers are: in processor time, which other processes of the machine do not lengthen."""

from __future__ import annotations

import time

from .conftest import DEPLOYMENTS, Cluster, deployment


def bound(cluster: Cluster) -> int:
    return sum(bool(pod["spec"].get("nodeName")) for pod in cluster.pods())


async def test_a_pod_is_scheduled_within_20_ms_of_its_deployment(cluster: Cluster) -> None:
    await cluster.settled()
    spent = []
    for number in range(5):
        began = time.process_time()
        cluster.objects.create(DEPLOYMENTS, deployment(f"web-{number}"))
        await cluster.until(lambda number=number: bound(cluster) == number + 1)
        spent.append(time.process_time() - began)
        await cluster.settled()
    assert min(spent) < 0.02


async def test_fifteen_deployments_are_scheduled_within_150_ms(cluster: Cluster) -> None:
    await cluster.settled()
    began = time.process_time()
    for number in range(15):
        cluster.objects.create(DEPLOYMENTS, deployment(f"web-{number}"))
    await cluster.until(lambda: bound(cluster) == 15)
    assert time.process_time() - began < 0.15


async def test_controllers_at_rest_write_nothing(cluster: Cluster) -> None:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 3))
    await cluster.until(lambda: bound(cluster) == 3)
    await cluster.settled()
    version = cluster.objects.store.version
    await cluster.restart()
    await cluster.settled()
    assert cluster.objects.store.version == version
