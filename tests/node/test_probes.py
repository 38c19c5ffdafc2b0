# SPDX-License-Identifier: Apache-2.0
"""Probes: what they ask, when they count, what follows."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.node import Timing
from meshbox.node.backoff import BackOff
from tests.node.conftest import Cluster, running

FOREVER = "while true; do sleep 0.05; done"
HEALTHY = {"image": "docker.io/istio/pilot:1.2.2"}


async def test_an_http_probe_makes_a_stand_in_ready(cluster: Cluster) -> None:
    probe = {"httpGet": {"path": "/ready", "port": "web"}, "initialDelaySeconds": 30, "periodSeconds": 30}
    cluster.pod(container={**HEALTHY, "readinessProbe": probe, "ports": [{"name": "web", "containerPort": 8080}]})
    # The probe's own clock says half a minute; a stand-in is up in milliseconds, and is asked at once.
    await cluster.until(cluster.ready)
    assert "Unhealthy" not in cluster.reasons()


async def test_with_real_clocks_the_delay_counts(tmp_path: Any) -> None:
    async with running(tmp_path / "home", timing=Timing(backoff=0.2, eager=False)) as cluster:
        probe = {"httpGet": {"path": "/ready", "port": 8080}, "initialDelaySeconds": 1, "periodSeconds": 1}
        cluster.pod(container={**HEALTHY, "readinessProbe": probe})
        await cluster.until(lambda: cluster.container().get("started"))
        assert not cluster.ready()
        await cluster.until(cluster.ready)


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ({"httpGet": {"path": "/nowhere", "port": 8080}}, "HTTP probe failed with statuscode: 404"),
        (
            {"httpGet": {"path": "/", "port": 9999}},
            'Get "http://{ip}:9999/": dial tcp {ip}:9999: connect: connection refused',
        ),
        ({"httpGet": {"path": "/", "port": "nope"}}, 'couldn\'t find port: "nope"'),
        ({"tcpSocket": {"port": 9999}}, "dial tcp {ip}:9999: connect: connection refused"),
        ({"exec": {"command": ["sh", "-c", "echo not yet; exit 1"]}}, "not yet"),
        ({"exec": {"command": ["nope"]}}, 'exec: "nope": executable file not found in $PATH'),
        ({"exec": {"command": ["sleep", "9"]}, "timeoutSeconds": 1}, 'command timed out: "sleep 9" timed out after 1s'),
    ],
)
async def test_a_readiness_probe_that_fails_is_told_and_restarts_nothing(
    tmp_path: Any, probe: dict[str, Any], problem: str
) -> None:
    async with running(tmp_path / "home", timing=Timing(backoff=0.2, eager=False)) as cluster:
        cluster.pod(container={**HEALTHY, "readinessProbe": {"periodSeconds": 1, **probe}})
        await cluster.until(lambda: "Unhealthy" in cluster.reasons())
        expected = problem.format(ip=await cluster.until(lambda: cluster.status().get("podIP")))
        await cluster.until(lambda: any(expected in text for text in cluster.messages("Unhealthy")), expected)
        assert all(text.startswith("Readiness probe failed: ") for text in cluster.messages("Unhealthy"))
        assert not cluster.ready()
        assert cluster.container()["restartCount"] == 0


async def test_tcp_and_grpc_probes_only_connect(cluster: Cluster) -> None:
    containers = [
        {"name": "a", "image": "istio/pilot:1.2.2", "readinessProbe": {"tcpSocket": {"port": 8080}}},
        {"name": "b", "image": "istio/citadel:1.2.2", "args": ["--monitoring-port=7777"]},
    ]
    containers[1]["readinessProbe"] = {"grpc": {"port": 7777}}
    cluster.pod(containers=containers)
    await cluster.until(cluster.ready)


async def test_a_liveness_probe_that_fails_restarts_the_container(cluster: Cluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.pod(container={"command": ["sh", "-c", FOREVER], "livenessProbe": probe})
    await cluster.until(lambda: cluster.container().get("restartCount", 0) >= 1)
    assert "Container c failed liveness probe, will be restarted" in cluster.messages("Killing")
    assert cluster.container()["lastState"]["terminated"]["exitCode"] == 143


async def test_readiness_is_lost_and_found_again(cluster: Cluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "fine"]}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.pod(container={"command": ["sh", "-c", "touch fine; " + FOREVER], "readinessProbe": probe})
    await cluster.until(cluster.ready)
    assert (await cluster.exec(["rm", "fine"]))[0] == 0
    await cluster.until(lambda: not cluster.ready())
    condition = next(item for item in cluster.status()["conditions"] if item["type"] == "Ready")
    assert condition["reason"] == "ContainersNotReady"
    assert condition["message"] == "containers with unready status: [c]"
    assert (await cluster.exec(["touch", "fine"]))[0] == 0
    await cluster.until(cluster.ready)
    assert cluster.container()["restartCount"] == 0


async def test_a_startup_probe_holds_the_others_back(cluster: Cluster) -> None:
    # Its end by a slow machine is not meant.
    look = {"exec": {"command": ["test", "-e", "up"]}, "periodSeconds": 1, "timeoutSeconds": 60}
    cluster.pod(
        container={
            "command": ["sh", "-c", FOREVER],
            "startupProbe": {**look, "failureThreshold": 240},
            "livenessProbe": {**look, "failureThreshold": 1},
        }
    )
    await cluster.until(lambda: "running" in cluster.container().get("state", {}))
    assert cluster.container()["started"] is False
    assert (await cluster.exec(["touch", "up"]))[0] == 0
    await cluster.until(cluster.ready)
    assert cluster.container()["started"] is True
    assert cluster.container()["restartCount"] == 0


async def test_a_probe_behind_a_sidecar_reaches_the_application(cluster: Cluster) -> None:
    proxy = {"name": "istio-proxy", "image": "busybox", "command": ["sh", "-c", FOREVER], "args": ["x", "sidecar"]}
    app = {"name": "c", **HEALTHY, "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}}
    cluster.pod(containers=[app, proxy])
    await cluster.until(cluster.ready)


def test_backoff_doubles_to_its_limit_and_forgets() -> None:
    moment = 0.0
    back_off = BackOff(10, 300, clock=lambda: moment)
    waits = []
    for _ in range(8):
        wait = back_off.wait()
        waits.append(wait)
        moment += wait + 1
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    moment += 599
    assert back_off.wait() == 300
    moment += 300 + 601
    assert back_off.wait() == 0
    assert back_off.wait() == 10
