# SPDX-License-Identifier: Apache-2.0
"""Which files an applied VirtualService passes on its way to a sidecar's route: `python -m tools.count_walk`.

An API server, the object store and the mesh run in this process. From the request to the message that a sidecar is
sent, every function that Python enters is noted, and the files of ours that hold them are printed.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp
import yaml

from meshbox.api.objects import ObjectStore
from meshbox.api.server import ApiServer
from meshbox.blocks import claim
from meshbox.mesh import Mesh
from meshbox.settings import SandboxSettings
from tests.mesh.telling import Listener

ROOT = Path(__file__).resolve().parents[1]
BASE = "labkit/istio/manifests/1.30.3/manifests/base.yaml"
OURS = ("labkit/", "meshbox/", "grafana_figures/")
SHOP = {"hosts": ["shop"], "http": [{"route": [{"destination": {"host": "shop", "subset": "v2"}}]}]}

Obj = dict[str, Any]


def _pod(objects: ObjectStore, name: str, namespace: str, ip: str, labels: Obj, containers: list[Obj]) -> None:
    meta = {"name": name, "namespace": namespace, "labels": labels}
    spec = {"containers": [{"image": "x", **container} for container in containers]}
    pod = objects.create("pods", {"metadata": meta, "spec": spec}, namespace)
    conditions = [{"type": "Ready", "status": "True"}]
    pod["status"] = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
    objects.update("pods", pod, subresource="status")


def _populate(objects: ObjectStore) -> None:
    for name in ("istio-system", "shop"):
        objects.create("namespaces", {"metadata": {"name": name}})
    for obj in yaml.safe_load_all((ROOT / BASE).read_text()):
        if obj["kind"] == "CustomResourceDefinition":
            objects.create("customresourcedefinitions.apiextensions.k8s.io", obj)
        elif obj["kind"] == "ValidatingWebhookConfiguration":
            objects.create("validatingwebhookconfigurations.admissionregistration.k8s.io", obj)
    ips = [str(objects.settings.plan.pod_cidr[index]) for index in (9, 10)]
    for name, namespace, ip, port in (("istiod", "istio-system", ips[0], 443), ("shop", "shop", ips[1], 9080)):
        meta, ports = {"name": name, "namespace": namespace}, [{"name": "http", "port": port}]
        objects.create("services", {"metadata": meta, "spec": {"ports": ports}}, namespace)
        subsets = [{"addresses": [{"ip": ip}], "ports": ports}]
        objects.create("endpoints", {"metadata": meta, "subsets": subsets}, namespace)
    _pod(objects, "istiod-1", "istio-system", ips[0], {"istio": "pilot"}, [{"name": "discovery"}])
    proxy = {"name": "istio-proxy", "args": ["proxy", "sidecar"]}
    _pod(objects, "web-1", "shop", ips[1], {"app": "web"}, [{"name": "app"}, proxy])


async def walk(home: Path) -> set[str]:
    """The files between the two."""
    plan, held = claim(home)
    with held:
        settings = SandboxSettings("walk", home, "1.30.3", plan, "w" * 43)
        objects = ObjectStore(settings)
        mesh, server = Mesh(objects, settings), ApiServer(objects, settings, None)
        objects.add_admission(mesh.admission)
        await server.start()
        await mesh.start()
        _populate(objects)
        context = ssl.create_default_context(cafile=str(home / "ca.crt"))
        limit = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=limit) as session:
            proxy, state = Listener(), mesh._state(("shop", "web-1"))
            state.opened(proxy, "sidecar~127.0.0.1~web-1.shop~x", {})
            state.ask("routes", ["9080"], [])

            async def told(host: bytes) -> None:
                while not any(host in table["9080"] for _, table, _ in proxy.heard["routes"]):
                    await asyncio.sleep(0.01)

            await told(b"shop.shop.svc.cluster.local")
            state.told["routes"].settle(proxy.heard["routes"][-1][0])
            await asyncio.sleep(1)  # the talk before has ended
            found = _Entered()
            sys.setprofile(found)
            meta = {"name": "shop", "namespace": "shop"}
            applied = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": meta, "spec": SHOP}
            url = f"https://{plan.node}:{server.port}/apis/networking.istio.io/v1/namespaces/shop/virtualservices"
            token = {"Authorization": f"Bearer {settings.token}"}
            async with session.post(url, json=applied, headers=token, ssl=context) as answer:
                assert answer.status == 201, await answer.text()
            await told(b"outbound|9080|v2|shop.shop.svc.cluster.local")
            sys.setprofile(None)
        await mesh.stop()
        await server.stop()
        objects.close()
    return found.files


class _Entered:
    def __init__(self) -> None:
        self.files: set[str] = set()
        self._root = f"{ROOT}/"

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(self._root):
            self.files.add(name.removeprefix(self._root))


def main() -> int:
    """Print them."""
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(name for name in asyncio.run(walk(Path(folder))) if name.startswith(OURS))
    print(*files, sep="\n")
    print(f"{len(files)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
