# SPDX-License-Identifier: Apache-2.0
"""A cluster without API server and node: the object store, the controllers, and a node of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from meshbox.addresses import AddressPlan
from meshbox.api.objects import ObjectStore
from meshbox.contracts import ApiError, Event, Obj, ResourceMetrics
from meshbox.controllers import Controllers
from meshbox.settings import SandboxSettings
from tests.conftest import PATIENCE, TOKEN

DEPLOYMENTS = "deployments.apps"
REPLICA_SETS = "replicasets.apps"


class TestNode:
    """Runs pods by saying so: each bound pod becomes ready, each terminating one goes.

    Args:
        cluster: Where the pods are.
    """

    __test__ = False

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._task: asyncio.Task[None] | None = None
        self._next = 0
        self.paused = False
        self.ready: Callable[[Obj], bool] = lambda _pod: True
        self.kills = True

    def start(self) -> None:
        objects = self._cluster.objects
        if objects.find("nodes", self._cluster.settings.node_name) is None:
            node = {
                "metadata": {
                    "name": self._cluster.settings.node_name,
                    "labels": {"kubernetes.io/hostname": self._cluster.settings.node_name},
                },
                "spec": {},
            }
            objects.create("nodes", node)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        watch = self._cluster.objects.watch("pods")
        with contextlib.closing(watch):
            async for event in watch:
                if not self.paused:
                    self.serve(event)

    def serve(self, event: Event) -> None:
        if event.type == "DELETED":
            return
        key = event.object["metadata"]["name"], event.object["metadata"]["namespace"]
        pod = self._cluster.objects.find("pods", *key)
        if pod is None or not pod["spec"].get("nodeName"):
            return
        if "deletionTimestamp" in pod["metadata"]:
            if self.kills:
                with contextlib.suppress(ApiError):
                    self._cluster.objects.delete("pods", *key, grace_period=0)
        elif pod["status"]["phase"] == "Pending":
            self.run(pod, ready=self.ready(pod))

    def run(self, pod: Obj, *, ready: bool = True) -> None:
        self._next += 1
        ip = f"127.77.64.{self._next % 250 + 1}"
        self._cluster.set_pod(pod["metadata"]["name"], pod["metadata"]["namespace"], "Running", ready, podIP=ip)

    def catch_up(self) -> None:
        """Serve every pod that there is."""
        self.paused = False
        for pod in self._cluster.objects.list("pods"):
            self.serve(Event("MODIFIED", pod))


class Cluster:
    """The object store with its controllers and node.

    Args:
        home: Folder of the objects.
        release: The Istio release whose Kubernetes is played.
    """

    metrics: ResourceMetrics | None = None
    """Whom autoscalers ask."""

    def __init__(self, home: Path, release: str = "1.30.3", **options: Any) -> None:
        self.settings = SandboxSettings("test", home, release, AddressPlan(77), TOKEN, **options)
        home.mkdir(exist_ok=True)
        (home / "ca.crt").write_text("CERTIFICATE")
        self.ahead = 0.0
        """Seconds by which the controllers' clock is ahead of the real one, or of when it was stopped."""
        self.stopped: float | None = None
        self.objects = ObjectStore(self.settings)
        self.node = TestNode(self)
        self.controllers = self._controllers()

    def _controllers(self) -> Controllers:
        clock = lambda: (time.time() if self.stopped is None else self.stopped) + self.ahead  # noqa: E731
        return Controllers(self.objects, self.settings, clock, self.metrics)

    def stop_clock(self) -> None:
        """From now on only `ahead` moves the controllers' clock: for tests of what is not yet to be."""
        self.stopped = time.time()

    def touch(self, resource: str, name: str, namespace: str = "default") -> None:
        """Make the controllers look at an object again."""
        annotations = {"looked-at": str(self.objects.store.version)}
        self.objects.patch(resource, name, {"metadata": {"annotations": annotations}}, namespace)

    async def look(self, resource: str, name: str) -> None:
        """Let a controller look that looks every quarter of a minute."""
        await self.settled()
        self.ahead += 16
        self.touch(resource, name)

    async def start(self, *, node: bool = True) -> Cluster:
        if node:
            self.node.start()
        await self.controllers.start()
        return self

    async def stop(self) -> None:
        await self.controllers.stop()
        await self.node.stop()
        self.objects.close()

    async def restart(self) -> None:
        """What kill -9 and another start do: nothing but the stored objects is left."""
        await self.stop()
        self.objects = ObjectStore(self.settings)
        self.controllers = self._controllers()
        node, self.node = self.node, TestNode(self)
        self.node.ready, self.node.paused, self.node._next = node.ready, node.paused, node._next
        await self.start()

    async def until(self, condition: Callable[[], Any], what: str = "the condition", seconds: float = PATIENCE) -> Any:
        """Let the controllers work until `condition` returns something true."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"{what} was not so within {seconds} s:\n{self.tell()}"
            await asyncio.sleep(0.002)
        return value

    async def settled(self, seconds: float = PATIENCE) -> None:
        """Let the controllers work until nothing is written any more."""
        deadline = time.monotonic() + seconds
        version, quiet = -1, 0
        while quiet < 20:
            assert time.monotonic() < deadline, f"still writing after {seconds} s:\n{self.tell()}"
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.objects.store.version == version else 0
            version = self.objects.store.version

    def tell(self) -> str:
        lines = []
        for resource in (DEPLOYMENTS, REPLICA_SETS, "jobs.batch", "pods", "events"):
            for obj in self.objects.list(resource):
                meta = obj["metadata"]
                detail = obj.get("message") or f"{(obj.get('spec') or {}).get('replicas', '')} {obj.get('status')}"
                lines.append(f"{resource} {meta['name']} {meta.get('deletionTimestamp', '')} {detail}")
        return "\n".join(lines)

    def set_pod(self, name: str, namespace: str, phase: str, ready: bool, **status: Any) -> None:
        """What the kubelet would write about a pod."""
        pod = self.objects.get("pods", name, namespace)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kept = [item for item in pod["status"].get("conditions") or () if item["type"] != "Ready"]
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now}
        pod["status"] = {**pod["status"], "phase": phase, "conditions": [*kept, condition], **status}
        self.objects.update("pods", pod, subresource="status")

    def pods(self, selector: str = "", namespace: str = "default") -> list[Obj]:
        return self.objects.list("pods", namespace, labels=selector)

    def events(self, reason: str = "", namespace: str | None = "default") -> list[str]:
        """Messages of the events so far (of one reason), in the order of their times and names."""
        found = self.objects.list("events", namespace)
        return [item["message"] for item in found if reason in ("", item["reason"])]


def deployment(name: str = "web", replicas: int = 1, image: str = "httpbin:1", **spec: Any) -> Obj:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(image)},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            **spec,
        },
    }


def pod_spec(image: str = "httpbin:1", **spec: Any) -> Obj:
    return {"containers": [{"name": "main", "image": image}], **spec}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A current Kubernetes, running."""
    made = await Cluster(tmp_path / "home").start()
    yield made
    await made.stop()


@pytest.fixture
async def legacy(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Kubernetes 1.14, running."""
    made = await Cluster(tmp_path / "home", "1.2.2").start()
    yield made
    await made.stop()
