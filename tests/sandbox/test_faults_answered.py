# SPDX-License-Identifier: Apache-2.0
"""An exception that nobody foresaw while somebody waits for an answer: real kubectl, pages of metrics, connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.node import kubelet_metrics
from meshbox.node.relay import RelayServer
from tests.conftest import BIN
from tests.faulty import Fault

from .faults import POD, WORKLOAD, World, ready

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def kubectl(world: World, *arguments: str) -> tuple[int, str, str]:
    """Real kubectl on this sandbox."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "kubectl"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(world.home), "KUBECONFIG": str(world.home / "kubeconfig")},
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode(), err.decode()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def talker(world: World) -> AsyncIterator[str]:
    """A pod that runs."""
    world.objects.create("pods", {"metadata": {"name": "talker"}, "spec": POD}, "default")
    await world.until(lambda: ready(world, world.objects.get("pods", "talker", "default")), "the pod is ready")
    yield "talker"
    world.objects.delete("pods", "talker", "default", grace_period=0)


def broken(*_: Any, **__: Any) -> Any:
    raise KeyError("unforeseen")


async def broken_soon(*_: Any, **__: Any) -> Any:
    raise KeyError("unforeseen")


async def broken_lines(*_: Any, **__: Any) -> AsyncIterator[bytes]:
    yield b"a line\n"
    raise KeyError("unforeseen")


STREAMS = {
    "exec that does not begin": ("meshbox.node.node.start_command", broken_soon, ("exec", "talker", "--", "true")),
    "exec whose end is not known": ("meshbox.node.execs.Command.wait", broken_soon, ("exec", "talker", "--", "true")),
    "a log": ("meshbox.node.node.read_log", broken_lines, ("logs", "talker")),
    "the node's metrics": (
        "meshbox.node.kubelet_metrics.exposition",
        broken,
        ("get", "--raw", "/api/v1/nodes/{node}/proxy/metrics"),
    ),
    "the API's metrics": ("meshbox.api.server_metrics.exposition", broken, ("get", "--raw", "/metrics")),
    "admission": ("meshbox.mesh.admission.inject", broken, ("run", "x", "--image=busybox:1.28")),
}


@pytest.mark.parametrize("place", STREAMS)
async def test_what_a_client_is_told(world: World, talker: str, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    target, instead, command = STREAMS[place]
    words = [word.replace("{node}", world.sandbox.settings.node_name) for word in command]
    with monkeypatch.context() as patched:
        patched.setattr(target, instead)
        code, out, err = await kubectl(world, *words)
    assert "an internal error of the sandbox (" in out + err
    assert "KeyError" not in out + err
    assert (code == 0) == (place == "a log")
    code, out, err = await kubectl(world, *words)
    assert code == 0, err
    if place == "admission":
        world.objects.delete("pods", "x", "default", grace_period=0)


async def test_a_pod_that_admission_fails_for_is_told_on_who_makes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"metadata": {"name": "maker"}, "spec": {**WORKLOAD["spec"], "replicas": 1}}
    with monkeypatch.context() as patched:
        patched.setattr("meshbox.mesh.admission.inject", broken)
        world.objects.create("replicasets.apps", body, "default")
        await world.until(lambda: world.events("maker", "FailedReconcile"), "the ReplicaSet has an event")
        assert world.events("maker", "FailedReconcile")[0]["message"] == Fault()
    await world.until(
        lambda: world.objects.get("replicasets.apps", "maker", "default")["status"].get("readyReplicas") == 1, "a pod"
    )
    world.objects.delete("replicasets.apps", "maker", "default")


async def test_a_container_that_cannot_be_measured_is_left_out_of_the_page(
    world: World, talker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.objects.create("pods", {"metadata": {"name": "bad"}, "spec": POD}, "default")
    await world.until(lambda: ready(world, world.objects.get("pods", "bad", "default")), "the pod is ready")
    uid = world.objects.get("pods", "bad", "default")["metadata"]["uid"]
    real = kubelet_metrics.folder_size

    def folder_size(folders: Any) -> int:
        if any(uid in str(folder) for folder in folders):
            raise KeyError("unforeseen")
        return real(folders)

    monkeypatch.setattr(kubelet_metrics, "folder_size", folder_size)
    page = await world.sandbox.node.metrics("/metrics/cadvisor")
    assert 'pod="talker"' in page
    assert 'pod="bad"' not in page
    assert [one["message"] for one in world.events("bad", "FailedMetrics")] == [Fault()]
    world.objects.delete("pods", "bad", "default", grace_period=0)


async def test_a_connection_to_a_service_that_cannot_be_passed_on_is_reset(world: World) -> None:
    plan = world.sandbox.settings.plan

    def choose(_: str) -> Any:
        raise KeyError("unforeseen")

    server = RelayServer((plan.node, 0), choose)
    await server.start()
    assert server._server is not None
    reader, writer = await asyncio.open_connection(*server._server.sockets[0].getsockname())
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(120):
            await reader.read()
    writer.close()
    server.abort()
