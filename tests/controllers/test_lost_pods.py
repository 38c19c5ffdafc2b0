# SPDX-License-Identifier: Apache-2.0
"""Pods whose node is not there."""

from __future__ import annotations

from .conftest import Cluster


async def test_a_pod_of_no_node_is_taken_away_after_a_while(cluster: Cluster) -> None:
    cluster.stop_clock()
    for name, node in (("lost", "nowhere"), ("kept", cluster.settings.node_name)):
        spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": node}
        cluster.objects.create("pods", {"metadata": {"name": name}, "spec": spec})
    await cluster.settled()
    cluster.ahead += 39
    for name in ("lost", "kept"):
        cluster.set_pod(name, "default", "Running", True)
    await cluster.settled()
    assert [one["metadata"]["name"] for one in cluster.objects.list("pods")] == ["kept", "lost"]
    cluster.ahead += 2
    for name in ("lost", "kept"):
        cluster.set_pod(name, "default", "Running", False)
    await cluster.until(lambda: [one["metadata"]["name"] for one in cluster.objects.list("pods")] == ["kept"])
