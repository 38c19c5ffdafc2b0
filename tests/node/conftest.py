# SPDX-License-Identifier: Apache-2.0
"""A node on a store of its own, without API server and controllers: pods are created already bound to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from meshbox.addresses import AddressPlan
from meshbox.api.objects import ObjectStore
from meshbox.blocks import claim
from meshbox.node import Node, Timing
from meshbox.settings import SandboxSettings
from tests.conftest import PATIENCE, TOKEN

QUICK = Timing(backoff=0.2, backoff_limit=600.0, retry=0.05, heartbeat=1.0)
"""A back-off is forgotten after twice its limit without a repetition: not while a slow machine starts a container."""


class Cluster:
    """A node and its objects."""

    def __init__(self, home: Path, plan: AddressPlan, release: str = "1.2.2", timing: Timing = QUICK) -> None:
        self.settings = SandboxSettings("test", home, release, plan, TOKEN)
        self.timing = timing
        self.objects = ObjectStore(self.settings)
        self.node = Node(self.objects, self.settings, timing)
        if not self.objects.find("configmaps", "kube-root-ca.crt", "default"):
            # A controller's work in a whole sandbox; today's pods show it in their service account's volume.
            ca = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}}
            self.objects.create("configmaps", ca, "default")

    async def start(self) -> None:
        await self.node.start()

    async def stop(self) -> None:
        await self.node.stop()
        self.objects.close()

    def pod(self, name: str = "web", container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        """Create a pod on the node; with `container` it has that one."""
        if container is not None:
            spec["containers"] = [{"name": "c", "image": "busybox:1.28", **container}]
        body = {"metadata": {"name": name}, "spec": {"nodeName": self.settings.node_name, **spec}}
        return self.objects.create("pods", body, "default")

    def shell(self, script: str, name: str = "web", **more: Any) -> dict[str, Any]:
        """Create a pod that runs a shell script."""
        spec = {key: more.pop(key) for key in ("restartPolicy", "terminationGracePeriodSeconds") if key in more}
        return self.pod(name, {"command": ["sh", "-c", script], **more}, **spec)

    def touch(self, file: str, name: str = "web") -> None:
        """Make a file that container c waits for to end: a command in it could be ended with it."""
        uid = self.objects.get("pods", name, "default")["metadata"]["uid"]
        (self.settings.pods_dir / uid / "containers" / "c" / "root" / file).touch()

    def status(self, name: str = "web") -> dict[str, Any]:
        return self.objects.get("pods", name, "default").get("status") or {}

    def container(self, name: str = "web", index: int = 0) -> dict[str, Any]:
        statuses = self.status(name).get("containerStatuses") or [{}]
        found: dict[str, Any] = statuses[index]
        return found

    def ready(self, name: str = "web") -> bool:
        conditions = self.status(name).get("conditions") or []
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def gone(self, name: str = "web") -> bool:
        return self.objects.find("pods", name, "default") is None

    def reasons(self, name: str = "web") -> list[str]:
        return [event["reason"] for event in self.events(name)]

    def events(self, name: str = "web") -> list[dict[str, Any]]:
        return [item for item in self.objects.list("events") if item["involvedObject"]["name"] == name]

    def messages(self, reason: str, name: str = "web") -> list[str]:
        return [event["message"] for event in self.events(name) if event["reason"] == reason]

    async def until(self, condition: Callable[[], Any], what: str = "", seconds: float = PATIENCE) -> Any:
        """Wait until `condition` holds; what it says of a pod that is missing does not count."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (value := condition()):
                    await asyncio.sleep(0.01)
                return value
        states = {pod["metadata"]["name"]: pod.get("status") for pod in self.objects.list("pods")}
        raise AssertionError(f"{what or 'the condition'} was not so within {seconds} s: {states}")

    async def log(self, name: str = "web", container: str = "c", **options: Any) -> str:
        return b"".join([chunk async for chunk in self.node.logs("default", name, container, **options)]).decode()

    async def exec(self, command: list[str], name: str = "web", container: str = "c") -> tuple[int, str, str]:
        session = await self.node.exec("default", name, container, command, stdin=False, tty=False)
        out, err = b"", b""
        while data := await session.read_stdout():
            out += data
        while data := await session.read_stderr():
            err += data
        return await session.wait(), out.decode(), err.decode()


@contextlib.asynccontextmanager
async def running(home: Path, release: str = "1.2.2", timing: Timing = QUICK) -> AsyncIterator[Cluster]:
    """A started cluster in `home`, stopped at the end."""
    home.mkdir(mode=0o700, exist_ok=True)
    plan, lock = claim(home)
    with lock:
        cluster = Cluster(home, plan, release, timing)
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.stop()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path / "home") as made:
        yield made
