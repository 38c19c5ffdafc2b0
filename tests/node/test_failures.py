# SPDX-License-Identifier: Apache-2.0
"""An error that nobody foresaw, wherever one pod or object is worked on: it is told there, and the rest goes on."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from meshbox import images
from meshbox.node import container as containers
from meshbox.node import kubelet_metrics as monitoring
from meshbox.node import node as nodes
from meshbox.node import pod as pods
from meshbox.node.volumes import Volumes
from meshbox.reconcile import Reconciler
from tests.faulty import Fault

from .conftest import Cluster, running

WORDS = Fault()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path / "home") as made:
        yield made


def breaking(real: Callable[..., Any], *, times: int = 10**9, name: str = "bad") -> Callable[..., Any]:
    """As `real`, but for the pod called `name`, of which it does not know what to make."""
    left = itertools.count(times, -1)

    def broken(*arguments: Any, **options: Any) -> Any:
        if any(f"'name': '{name}'" in repr(_shown(one)) for one in arguments) and next(left) > 0:
            raise KeyError("unforeseen")
        return real(*arguments, **options)

    return broken


def _shown(argument: Any) -> Any:
    """The pod behind an argument."""
    if callable(pod := getattr(argument, "_pod", None)):
        return pod()["metadata"]
    for holder in (argument, getattr(argument, "pod", None)):
        if isinstance(holder, dict) and "metadata" in holder:
            return {"name": holder["metadata"].get("name")}
    return getattr(argument, "env", {}).get("HOSTNAME") and {"name": argument.env["HOSTNAME"]}


CREATING = {
    "volumes": (Volumes, "set_up", "FailedMount", None),
    "mounts": (containers, "make_context", "Failed", "CreateContainerConfigError"),
    "image": (containers, "pull", "Failed", "CreateContainerError"),
    "launch": (images, "launch", "Failed", "CreateContainerError"),
}


@pytest.mark.parametrize(("owner", "name", "event", "reason"), CREATING.values(), ids=CREATING)
async def test_what_keeps_a_container_from_being_made(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, event: str, reason: str | None
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, breaking(getattr(owner, name)))
        cluster.shell("sleep 1000", "bad")
        cluster.shell("sleep 1000", "good")
        await cluster.until(lambda: cluster.ready("good"))
        await cluster.until(lambda: any(text in (WORDS, Fault("Error: ")) for text in cluster.messages(event, "bad")))
        if reason is not None:
            await cluster.until(lambda: cluster.container("bad")["state"].get("waiting", {}).get("reason") == reason)
            assert cluster.container("bad")["state"]["waiting"]["message"] == WORDS
        assert cluster.status("bad")["phase"] == "Pending"
    # Once it is possible, it is done.
    await cluster.until(lambda: cluster.ready("bad"))


async def test_a_pod_that_the_node_cannot_take_on(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "references", breaking(pods.references))
    cluster.shell("sleep 1000", "bad")
    cluster.shell("sleep 1000", "good")
    await cluster.until(lambda: cluster.ready("good"))
    assert cluster.messages("FailedSync", "bad") == [WORDS]


async def test_a_pod_of_an_earlier_run_that_the_node_cannot_take_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "home") as first:
        for name in ("bad", "good"):
            first.shell("sleep 1000", name)
            await first.until(lambda name=name: first.ready(name))
    monkeypatch.setattr(nodes, "PodWorker", breaking(nodes.PodWorker))
    async with running(tmp_path / "home") as again:
        await again.until(lambda: again.container("good")["restartCount"] == 1 and again.ready("good"))
        assert WORDS in again.messages("FailedSync", "bad")


async def test_a_status_that_cannot_be_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "pod_status", breaking(pods.pod_status, times=3))
    cluster.shell("sleep 1000", "bad")
    cluster.shell("sleep 1000", "good")
    await cluster.until(lambda: cluster.ready("good"))
    await cluster.until(lambda: cluster.messages("FailedStatusUpdate", "bad") == [WORDS])
    await cluster.until(lambda: cluster.ready("bad"))


async def test_volumes_that_cannot_be_brought_up_to_date(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "cm"}, "data": {"a": "1"}}, "default")
    volume = {"volumes": [{"name": "v", "configMap": {"name": "cm"}}]}
    mounted = {"command": ["sleep", "1000"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    for name in ("bad", "good"):
        cluster.pod(name, mounted, **volume)
        await cluster.until(lambda name=name: cluster.ready(name))
    monkeypatch.setattr(Volumes, "refresh", breaking(Volumes.refresh))
    cluster.objects.patch("configmaps", "cm", {"data": {"a": "2"}}, "default")

    async def seen() -> bytes:
        return (await cluster.exec(["cat", "/v/a"], "good"))[1].encode()

    await cluster.until(lambda: cluster.messages("FailedMount", "bad") == [WORDS])
    async with asyncio.timeout(120):
        while await seen() != b"2":
            await asyncio.sleep(0.02)


HOOKS = {
    "postStart": ("FailedPostStartHook", Fault("PostStartHook failed: ")),
    "readinessProbe": ("Unhealthy", Fault("Readiness probe failed: ")),
    "preStop": ("FailedPreStopHook", Fault("draining failed: ")),
}


@pytest.mark.parametrize("place", HOOKS)
async def test_handlers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def act(*_: Any) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(containers, "act", act)
    monkeypatch.setattr("meshbox.node.probes.act", act)
    handler = {"exec": {"command": ["true"]}}
    spec = {place: {**handler, "periodSeconds": 1}} if place.endswith("Probe") else {"lifecycle": {place: handler}}
    cluster.shell("trap 'exit 0' TERM; while true; do sleep 0.1; done", "bad", terminationGracePeriodSeconds=1, **spec)
    cluster.shell("sleep 1000", "good")
    await cluster.until(lambda: cluster.ready("good"))
    if place == "preStop":
        await cluster.until(lambda: cluster.ready("bad"))
        cluster.objects.delete("pods", "bad", "default", grace_period=1)
    reason, message = HOOKS[place]
    await cluster.until(lambda: message in cluster.messages(reason, "bad"))


async def test_one_container_does_not_take_the_page_of_metrics_from_the_others(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.shell("sleep 1000", "bad", resources={"limits": {"memory": "65536Ki", "cpu": "222m"}})
    cluster.shell("sleep 1000", "good", resources={"limits": {"memory": "65536Ki", "cpu": "222m"}})
    await cluster.until(lambda: cluster.ready("bad") and cluster.ready("good"))
    page = await cluster.node.metrics("/metrics/cadvisor")
    for name in ("bad", "good"):
        (limit,) = [line for line in page.splitlines() if "memory_limit_bytes{" in line and f'pod="{name}"' in line]
        assert float(limit.split()[-1]) == 64 * 2**20
        (quota,) = [line for line in page.splitlines() if "cpu_quota{" in line and f'pod="{name}"' in line]
        assert float(quota.split()[-1]) == 22200
    monkeypatch.setattr(monitoring.Monitoring, "_of", breaking(monitoring.Monitoring._of))
    page = await cluster.node.metrics("/metrics/cadvisor")
    assert 'pod="good"' in page
    assert 'pod="bad"' not in page
    assert cluster.messages("FailedMetrics", "bad") == [WORDS]


async def test_a_limit_in_ki_reaches_the_container(cluster: Cluster) -> None:
    fields = [
        {"name": name, "valueFrom": {"resourceFieldRef": {"resource": f"limits.{what}", "divisor": divisor}}}
        for name, what, divisor in (("M", "memory", "1Mi"), ("B", "memory", "0"), ("C", "cpu", "1m"))
    ]
    limits = {"limits": {"memory": "65536Ki", "cpu": "222m"}}
    cluster.shell("echo $M $B $C; sleep 1000", resources=limits, env=fields)
    cluster.shell("echo $M $B $C; sleep 1000", "none", env=fields[1:2])
    await cluster.until(lambda: cluster.ready() and cluster.ready("none"))
    assert (await said(cluster, "web")) == f"64 {64 * 2**20} 222"
    # Without a limit: what the node has, which is told in Ki.
    allocatable = cluster.objects.get("nodes", cluster.settings.node_name)["status"]["allocatable"]["memory"]
    assert allocatable.endswith("Ki")
    assert (await said(cluster, "none")) == str(int(allocatable.removesuffix("Ki")) * 1024)


async def said(cluster: Cluster, name: str) -> str:
    """A pod's first words."""
    async with asyncio.timeout(120):
        while not (text := (await cluster.log(name)).strip()):
            await asyncio.sleep(0.02)
    return text


async def test_the_end_of_a_pod(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.shell("sleep 1000", "bad")
    await cluster.until(lambda: cluster.ready("bad"))

    async def end(self: Any) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(pods.PodWorker, "_end_containers", end)
    cluster.objects.delete("pods", "bad", "default", grace_period=1)
    await cluster.until(lambda: cluster.gone("bad"))
    assert cluster.messages("FailedKillPod", "bad") == [WORDS]


async def test_a_controller_tells_on_the_object_and_goes_on_with_the_others(cluster: Cluster) -> None:
    done: list[str] = []

    async def reconcile(key: tuple[str | None, str]) -> None:
        if key[1] == "bad":
            raise KeyError("unforeseen")
        done.append(key[1])

    reconciler = Reconciler("tester", cluster.objects, reconcile).watches("configmaps")
    reconciler.start()
    for name in ("bad", "good"):
        cluster.objects.create("configmaps", {"metadata": {"name": name}}, "default")
    await cluster.until(lambda: "good" in done)
    await cluster.until(lambda: cluster.messages("FailedReconcile", "bad") == [WORDS])
    (event,) = [one for one in cluster.events("bad") if one["reason"] == "FailedReconcile"]
    assert (event["type"], event["source"]["component"]) == ("Warning", "tester")
    await reconciler.stop()


async def test_a_controller_that_cannot_tell_what_an_object_concerns(cluster: Cluster) -> None:
    seen: list[str] = []

    async def reconcile(key: tuple[str | None, str]) -> None:
        seen.append(key[1])

    def keys(obj: dict[str, Any]) -> list[tuple[str | None, str]]:
        if obj["metadata"]["name"] == "bad":
            raise KeyError("unforeseen")
        return [("default", obj["metadata"]["name"])]

    reconciler = Reconciler("tester", cluster.objects, reconcile).watches("configmaps", keys)
    reconciler.start()
    for name in ("bad", "good"):
        cluster.objects.create("configmaps", {"metadata": {"name": name}}, "default")
    await cluster.until(lambda: "good" in seen)
    assert cluster.messages("FailedReconcile", "bad") == [WORDS]
    await reconciler.stop()


def test_words_of_errors() -> None:
    from labkit.ground.errors import SandboxError
    from meshbox.failures import words

    assert words(SandboxError("what was seen", next_step="what to do")) == "what was seen"
    assert words(FileNotFoundError(2, "No such file or directory", "/x")) == "No such file or directory: /x"
    assert words(KeyError("unforeseen")) == WORDS


async def test_what_cannot_be_started_leaves_nothing_open(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log and its terminal, each time that it is tried."""
    opened: list[int] = []

    async def spawn(*_: Any, **__: Any) -> Any:
        opened.append(len(os.listdir("/proc/self/fd")))
        raise KeyError("unforeseen")

    monkeypatch.setattr(cluster.node._processes, "spawn", spawn)
    cluster.shell("sleep 1000", "bad", tty=True, stdin=True)
    await cluster.until(lambda: len(opened) > 20)
    assert opened[20] - opened[5] < 15


async def test_probes_that_end_begin_anew(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = {"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}
    with monkeypatch.context() as patched:
        patched.setattr("meshbox.node.probes.Probe", breaking_always)
        cluster.shell("sleep 1000", "bad", **probe)
        cluster.shell("sleep 1000", "good")
        await cluster.until(lambda: cluster.ready("good"))
        await cluster.until(lambda: cluster.messages("ProbeError", "bad") == [Fault("its probes begin anew: ")])
        assert not cluster.ready("bad")
    await cluster.until(lambda: cluster.ready("bad"))
    assert cluster.container("bad")["restartCount"] == 0


async def test_a_container_that_cannot_be_ended_as_it_should_is_killed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(containers.Container, "end", breaking_always_soon)
        probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
        cluster.shell("sleep 1000", "bad", livenessProbe=probe)
        cluster.shell("sleep 1000", "good")
        await cluster.until(lambda: cluster.ready("good"))
        await cluster.until(lambda: Fault("killed at once: ") in cluster.messages("FailedKillPod", "bad"))
        await cluster.until(lambda: cluster.container("bad")["restartCount"] >= 1)


def breaking_always(*_: Any, **__: Any) -> Any:
    raise KeyError("unforeseen")


async def breaking_always_soon(*_: Any, **__: Any) -> Any:
    raise KeyError("unforeseen")
