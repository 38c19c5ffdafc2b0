# SPDX-License-Identifier: Apache-2.0
"""What is deleted is forgotten: by the store, the controllers and the mesh."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from meshbox.api.objects import ObjectStore
from meshbox.controllers import Controllers
from meshbox.daemon import claim
from meshbox.mesh import Mesh
from meshbox.settings import SandboxSettings

MARK = "forget-me"
MANY = 12
SIDECAR = {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.30.3", "args": ["proxy", "sidecar"]}


def holders() -> list[Any]:
    """Every dict, list, tuple and set of this process with a text in it that names one of the objects."""

    def names(value: object) -> bool:
        return isinstance(value, (str, bytes)) and (MARK if isinstance(value, str) else MARK.encode()) in value

    gc.collect()
    found = []
    for one in gc.get_objects():
        if isinstance(one, dict):
            if any(map(names, list(one))) or any(map(names, list(one.values()))):
                found.append(one)
        elif isinstance(one, (list, tuple, set, frozenset)) and any(map(names, list(one))):
            found.append(one)
    return [one for one in found if not any(value == MARK for value in (one.values() if isinstance(one, dict) else ()))]


async def until(condition: Any, what: str) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


@pytest.mark.long
async def test_nothing_is_kept_of_what_is_deleted(tmp_path: Path) -> None:
    plan, lock = claim(tmp_path)
    settings = SandboxSettings("test", tmp_path, "1.30.3", plan, "t" * 40)
    objects = ObjectStore(settings)
    mesh, controllers = Mesh(objects, settings), Controllers(objects, settings)
    await mesh.start()
    await controllers.start()
    try:
        for namespace in ("istio-system", MARK):
            objects.create("namespaces", {"metadata": {"name": namespace}})
        run(objects, "istio-system", "pilot", str(plan.pod_cidr[1]), {"istio": "pilot"})
        await until(lambda: mesh._pilot_ready() and mesh._timer is None, "the mesh is up")
        kept = mesh._memo.size()
        for number in range(MANY):
            name = f"{MARK}-{number}"
            spec = {"selector": {"all": "yes"}, "ports": [{"name": "http", "port": 80}]}
            objects.create("services", {"metadata": {"name": name}, "spec": spec}, MARK)
            run(objects, MARK, name, str(plan.pod_cidr[10 + number]), {"all": "yes"}, SIDECAR)
        await until(lambda: len(mesh._proxies) == MANY and mesh._timer is None, "all have proxies")
        assert mesh._memo.size() > kept + MANY
        assert len(holders()) > MANY
        for number in range(MANY):
            # There is no node to end them.
            objects.delete("pods", f"{MARK}-{number}", MARK, grace_period=0)
        # What is written once the namespace ends is refused, and a refusal is kept until it is tried again.
        await until(lambda: not any(one.get("subsets") for one in objects.list("endpoints", MARK)), "no endpoints left")
        objects.delete("namespaces", MARK)
        await until(lambda: not objects.find("namespaces", MARK), "the namespace is gone")
        # The mesh hears of it a moment later, and each controller as well.
        await until(lambda: (mesh._memo.size(), mesh._proxies) == (kept, {}), "the mesh has forgotten it")

        def left() -> list[Any]:
            # Watches may ask for what has just been, within bounds of their own.
            objects.store._history.clear()
            return holders()

        await until(lambda: not left(), "nobody holds anything of it")
    finally:
        await controllers.stop()
        await mesh.stop()
        objects.close()
        lock.close()


def run(objects: ObjectStore, namespace: str, name: str, ip: str, labels: dict[str, str], *more: Any) -> None:
    """A pod that is said to run."""
    containers = [{"name": "c", "image": "busybox:1.28"}, *more]
    pod = {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": "x", "containers": containers}}
    made = objects.create("pods", pod, namespace)
    status = {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    objects.update("pods", {**made, "status": status}, subresource="status")
