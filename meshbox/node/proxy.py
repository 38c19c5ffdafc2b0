# SPDX-License-Identifier: Apache-2.0
"""kube-proxy: what connects to a Service's ClusterIP, node port or load balancer address reaches a ready endpoint."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

from msgspec import Struct, field

from labkit.ground.errors import SandboxError
from meshbox.contracts import Obj, Objects
from meshbox.node.relay import Address, RelayServer
from meshbox.reconcile import Key, Reconciler
from meshbox.settings import SandboxSettings

if TYPE_CHECKING:
    from meshbox.typed.services import Endpoints, EndpointSlice, Service

__all__ = ["SLICES", "ServiceProxy", "ready_addresses", "ready_pods", "service_key"]

SLICES = "endpointslices.discovery.k8s.io"
_SERVICE_LABEL = "kubernetes.io/service-name"
_AFFINITY_SECONDS = 10800


def service_key(slice_: Obj) -> Iterable[Key]:
    """The Service an EndpointSlice belongs to."""
    name = (slice_["metadata"].get("labels") or {}).get(_SERVICE_LABEL)
    return [(slice_["metadata"].get("namespace"), name)] if name else []


def _slices(objects: Objects, key: Key) -> list[EndpointSlice]:
    namespace, name = key
    return cast("list[EndpointSlice]", objects.view(SLICES, namespace, labels=f"{_SERVICE_LABEL}={name}"))


def ready_addresses(objects: Objects, key: Key, port_name: str | None = None) -> Iterator[Address]:
    """The ready endpoints of a Service: address, and the port called `port_name` (None: any, 0 where there is none)."""
    slices = _slices(objects, key)
    for slice_ in slices:
        ports = slice_.get("ports") or []
        port = next((p.get("port") or 0 for p in ports if port_name is None or (p.get("name") or "") == port_name), 0)
        for endpoint in slice_.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                yield from ((address, port) for address in endpoint.get("addresses") or [])
    if slices:
        return
    endpoints = cast("Endpoints | None", objects.find("endpoints", key[1], key[0]))
    for subset in (endpoints or {}).get("subsets") or []:
        ports = subset.get("ports") or []
        port = next((p["port"] for p in ports if port_name is None or (p.get("name") or "") == port_name), 0)
        yield from ((address["ip"], port) for address in subset.get("addresses") or [])


def ready_pods(objects: Objects, key: Key) -> Iterator[tuple[str, str]]:
    """The ready pods of a headless Service that have names of their own: name and address."""
    slices = _slices(objects, key)
    for slice_ in slices:
        for endpoint in slice_.get("endpoints") or []:
            if endpoint.get("hostname") and (endpoint.get("conditions") or {}).get("ready") is not False:
                yield from ((endpoint["hostname"], address) for address in endpoint.get("addresses") or [])
    if slices:
        return
    endpoints = cast("Endpoints | None", objects.find("endpoints", key[1], key[0]))
    for subset in (endpoints or {}).get("subsets") or []:
        for address in subset.get("addresses") or []:
            if address.get("hostname"):
                yield address["hostname"], address["ip"]


class _Backend(Struct):
    """Where the connections to one port of a Service go."""

    targets: list[Address] = field(default_factory=list)
    sticky: float | None = None
    _chosen: dict[str, tuple[Address, float]] = field(default_factory=dict)

    def choose(self, client: str) -> Address | None:
        """A target for a new connection of `client`."""
        if not self.targets:
            return None
        if self.sticky is None:
            return random.choice(self.targets)
        moment = time.monotonic()
        target, until = self._chosen.get(client, (None, 0.0))
        if target is None or target not in self.targets or moment > until:
            target = random.choice(self.targets)
        self._chosen[client] = target, moment + self.sticky
        return target


class ServiceProxy:
    """Keeps a listener for every port of every Service that has a ready endpoint; others refuse connections.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings) -> None:
        self._objects = objects
        self._plan = settings.plan
        self._listeners: dict[Key, dict[Address, tuple[RelayServer, _Backend]]] = {}
        self._closed: list[RelayServer] = []
        self._reconciler = (
            Reconciler("kube-proxy", objects, self._reconcile)
            .watches("services")
            .watches(SLICES, service_key)
            .watches("endpoints")
        )

    def start(self) -> None:
        """Begin to follow Services."""
        self._reconciler.start()

    async def stop(self) -> None:
        """Stop listening and end all connections."""
        await self._reconciler.stop()
        servers = [server for listeners in self._listeners.values() for server, _ in listeners.values()]
        for server in [*servers, *self._closed]:
            server.abort()
        self._listeners.clear()

    async def _reconcile(self, key: Key) -> None:
        service = cast("Service | None", self._objects.find("services", key[1], key[0]))
        wanted = dict(self._wanted(service, key)) if service else {}
        listeners = self._listeners.setdefault(key, {})
        for address in listeners.keys() - wanted.keys():
            server, backend = listeners.pop(address)
            server.close()
            backend.targets = []
            self._closed = [old for old in self._closed if old.clients] + [server]
        for address, backend in wanted.items():
            if address in listeners:
                current = listeners[address][1]
                current.targets, current.sticky = backend.targets, backend.sticky
                continue
            server = RelayServer(address, backend.choose)
            try:
                await server.start()
            except OSError as error:
                where = f"{address[0]}:{address[1]}"
                raise SandboxError(
                    f"Service {key[0]}/{key[1]} cannot be reached at {where}: {error.strerror or error}",
                    next_step=f"find what listens there: ss -ltnp 'src {where}'",
                ) from error
            listeners[address] = server, backend
        if not listeners:
            del self._listeners[key]

    def _wanted(self, service: Service, key: Key) -> Iterator[tuple[Address, _Backend]]:
        spec = service["spec"]
        sticky = None
        if spec.get("sessionAffinity") == "ClientIP":
            config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
            sticky = float(config.get("timeoutSeconds") or _AFFINITY_SECONDS)
        fronts = [ip for ip in (spec.get("clusterIP"), *(spec.get("externalIPs") or [])) if ip and ip != "None"]
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        fronts += [item["ip"] for item in ingress if item.get("ip")]
        for port in spec.get("ports") or []:
            if port.get("protocol", "TCP") != "TCP":
                continue
            found = ready_addresses(self._objects, key, port.get("name") or "")
            targets = [(address, self._plan.port(number)) for address, number in found if number]
            if not targets:
                # Nobody listens then, so that a connection is refused at once.
                continue
            addresses = [(ip, self._plan.port(port["port"])) for ip in fronts]
            if port.get("nodePort"):
                addresses.append((self._plan.node, port["nodePort"]))
            for address in addresses:
                yield address, _Backend(targets, sticky)
