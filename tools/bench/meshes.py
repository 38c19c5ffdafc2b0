# SPDX-License-Identifier: Apache-2.0
"""A mesh of any size in this process: the real control plane over the real object store, without pods or Envoys.

What a proxy is sent is counted where it would go over its stream, as if an Envoy took each message at once.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from meshbox.blocks import claim
from meshbox.mesh import Mesh
from meshbox.mesh import kinds as names
from meshbox.mesh.proxies import ProxyState
from meshbox.mesh.resources import KINDS, Kind
from meshbox.values import clone
from tests.mesh.cluster import CONTROL_PLANE, Cluster
from tests.mesh.objects import Obj, endpoints, istio, pod, service
from tools.bench.world import homes

__all__ = ["Change", "Grown", "grown"]

SPACE = "shop"


@dataclass(frozen=True)
class Change:
    """What one write cost.

    Args:
        cpu: Milliseconds of this process's CPU time, from the stored write until every proxy has been sent its own.
        size: Bytes of what proxies are sent.
        proxies: How many proxies are sent something.
    """

    cpu: float
    size: int
    proxies: int


class Ear:
    """A proxy that asks for all there is, and takes it."""

    def __init__(self, state: ProxyState) -> None:
        self._state = state
        self._bytes = 0
        state.opened(self, "", {})
        for kind in KINDS:
            state.ask(kind.name, [], [])

    def heard(self) -> int:
        """The bytes that came since this was asked last."""
        found, self._bytes = self._bytes, 0
        return found

    def say(self, kind: Kind, version: int, found: Mapping[str, bytes], gone: Collection[str]) -> int:
        """Take a message, in the loop's next turn, and ask for what it leads to."""
        size = sum(len(name) + len(body) for name, body in found.items()) + sum(map(len, gone))
        self._bytes += size
        asyncio.get_running_loop().call_soon(self._take, kind, version, list(found))
        return size

    def end(self) -> None:
        """Nothing more comes."""

    def _take(self, kind: Kind, version: int, names: list[str]) -> None:
        state = self._state
        if kind.name == "clusters":
            state.ask("endpoints", set(names) - state.told["endpoints"].asked, [])
        elif kind.name == "listeners" and state.config is not None:
            state.ask("routes", state.config.routes.keys() - state.told["routes"].asked, [])
        state.told[kind.name].settle(version)


class Grown:
    """A mesh with `services` Services, `proxies` sidecars and a gateway.

    Args:
        cluster: Its objects.
        mesh: Its control plane.
        services: How many Services, each with a pod behind it.
        proxies: How many sidecars: those of the pods behind the first Services.
    """

    def __init__(self, cluster: Cluster, mesh: Mesh, services: int, proxies: int) -> None:
        self.cluster, self.mesh = cluster, mesh
        self.services, self.proxies = services, proxies
        self._pods: list[Obj] = []
        self._ears: dict[tuple[str, str], Ear] = {}
        self._turn = 0

    def fill(self) -> None:
        """Store what there is, past the API: its own cost is measured elsewhere."""
        pilot = pod("pilot-0", "", namespace="istio-system", role="", istio="pilot")
        pilot["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        gateway = pod("gate-0", self._ip(60000), namespace="istio-system", role="router", istio="ingressgateway")
        for one in (pilot, gateway):
            self._keep(names.PODS, one)
        for number in range(max(self.services, self.proxies)):
            role = "sidecar" if number < self.proxies else ""
            self._pods.append(pod(f"s{number}-0", self._ip(number + 1), namespace=SPACE, role=role, app=f"s{number}"))
            self._keep(names.PODS, self._pods[-1])
        for number in range(self.services):
            self.add_service(number)
        servers = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]
        spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
        self._keep(names.GATEWAYS, istio("gate", spec, SPACE))

    def add_service(self, number: int) -> None:
        """A Service of HTTP with a port of its own, as the API and the endpoints' controller would store it."""
        address = f"127.{self.cluster.settings.plan.number}.{16 + number // 250}.{number % 250 + 1}"
        made = service(f"s{number}", ("http", 8000 + number % 1000), namespace=SPACE, ip=address)
        made["spec"]["ports"][0]["targetPort"] = 9080
        self._keep(names.SERVICES, made)
        chosen = [one for one in self._pods if one["metadata"]["labels"]["app"] == f"s{number}"]
        for resource, found in endpoints([made], chosen).items():
            for one in found:
                self._keep(resource, one)

    def rule(self) -> None:
        """A VirtualService about one host, for sidecars."""
        self._turn += 1
        route = [{"destination": {"host": "s0"}}]
        spec = {"hosts": ["s0"], "http": [{"timeout": f"{self._turn + 5}s", "route": route}]}
        self._keep(names.VIRTUAL_SERVICES, istio("host", spec, SPACE))

    def gateway_rule(self) -> None:
        """A VirtualService of one gateway."""
        self._turn += 1
        route = [{"destination": {"host": "s0"}}]
        spec = {"hosts": ["shop.test"], "gateways": ["gate"], "http": [{"timeout": f"{self._turn}s", "route": route}]}
        self._keep(names.VIRTUAL_SERVICES, istio("gate", spec, SPACE))

    def config_map(self) -> None:
        """A ConfigMap that nobody reads."""
        self._turn += 1
        meta = {"name": "notes", "namespace": SPACE}
        self._keep(names.CONFIG_MAPS, {"metadata": meta, "data": {"text": str(self._turn)}})

    def ready(self) -> None:
        """A pod of a Service gets ready, or is not any more."""
        self._turn += 1
        found = self.cluster.view(names.ENDPOINT_SLICES, SPACE, fields="metadata.name=s1")[0]
        changed: Obj = clone(found)
        changed["endpoints"][0]["conditions"] = {"ready": bool(self._turn % 2)}
        self._keep(names.ENDPOINT_SLICES, changed)

    def more(self) -> None:
        """A Service is added."""
        self._turn += 1
        self.add_service(self.services + self._turn)

    async def cost(self, write: Callable[[], None], rounds: int = 5) -> Change:
        """What `write` costs: the least of several times, each of them another write."""
        found = []
        for _ in range(rounds):
            await self.settled()
            self._sent()
            gc.collect()
            began = time.process_time()
            write()
            await self.settled()
            cpu = (time.process_time() - began) * 1000
            found.append(Change(cpu, *self._sent()))
        return min(found, key=lambda one: one.cpu)

    async def settled(self) -> None:
        """Until the mesh has seen every write and offered every proxy what it should have."""
        for _ in range(50):
            # Watches are told in the loop's next turns.
            await asyncio.sleep(0)
        await self.mesh.settled()
        self._listen()
        while not all(told.settled for state in self.mesh.proxies.values() for told in state.told.values()):
            await asyncio.sleep(0)

    def held(self) -> int:
        """Bytes of all resources that proxies are offered, each counted once wherever it is one object in memory."""
        found: dict[int, int] = {}
        for state in self.mesh.proxies.values():
            for kind in (state.config.clusters, state.config.listeners, state.config.routes) if state.config else ():
                found.update((id(body), len(body)) for body in kind.values())
        return sum(found.values())

    def _keep(self, resource: str, obj: Obj) -> None:
        self.cluster.keep(str(resource), obj)

    def _listen(self) -> None:
        """Have each proxy that does not listen yet listen."""
        for key, state in self.mesh.proxies.items():
            if not state.connected:
                self._ears[key] = Ear(state)

    def _sent(self) -> tuple[int, int]:
        sizes = [ear.heard() for ear in self._ears.values()]
        return sum(sizes), sum(size > 0 for size in sizes)

    def _ip(self, number: int) -> str:
        return str(self.cluster.settings.plan.pod_cidr[number % self.cluster.settings.plan.pod_cidr.num_addresses])


@asynccontextmanager
async def grown(services: int, proxies: int) -> AsyncIterator[Grown]:
    """A mesh of that size, at rest."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="labkit-bench-", dir=homes()) as name:
        plan, lock = claim(Path(name))
        with lock:
            cluster = Cluster(Path(name) / "home", "1.30.3", plan)
            cluster.install("ConfigMap", "configmaps", CONTROL_PLANE)
            cluster.create("namespaces", {"metadata": {"name": SPACE}})
            mesh = Mesh(cluster, cluster.settings)
            here = Grown(cluster, mesh, services, proxies)
            here.fill()
            await mesh.start()
            try:
                await here.settled()
                yield here
            finally:
                await mesh.stop()
                cluster.close()
