# SPDX-License-Identifier: Apache-2.0
"""Events about containers."""

from __future__ import annotations

from tests.node.conftest import Cluster


async def test_events_say_which_container_they_are_about(cluster: Cluster) -> None:
    init = [{"name": "first", "image": "busybox:1.28", "command": ["sh", "-c", "exit 0"]}]
    container = {"name": "c", "image": "busybox:1.28", "command": ["sh", "-c", "while true; do sleep 0.05; done"]}
    cluster.pod(containers=[container], initContainers=init)
    await cluster.until(cluster.ready)
    about = {
        (event["reason"], event["involvedObject"].get("fieldPath", ""))
        for event in cluster.events()
        if event["reason"] in ("Pulled", "Created", "Started", "Scheduled")
    }
    for reason in ("Pulled", "Created", "Started"):
        assert (reason, "spec.containers{c}") in about
        assert (reason, "spec.initContainers{first}") in about
    cluster.objects.delete("pods", "web", "default", grace_period=5)
    await cluster.until(cluster.gone)
    (killing,) = [event for event in cluster.events() if event["reason"] == "Killing"]
    assert killing["involvedObject"]["fieldPath"] == "spec.containers{c}"
