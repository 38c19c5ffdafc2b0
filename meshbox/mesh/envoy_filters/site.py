# SPDX-License-Identifier: Apache-2.0
"""What Istio would call a proxy's listeners, and on which port: by that a patch finds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct, field

from labkit.ground.names import is_ip
from meshbox.addresses import AddressPlan
from meshbox.contracts import View
from meshbox.mesh.envoy import Json
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.virtual_hosts import HTTP_PROXY

__all__ = ["ListenerPlace", "Site", "addresses"]

CAPTURE, INBOUND = 15001, 15006
_Where = tuple[str, int]
_INBOUND = "virtualInbound"


class ListenerPlace(Struct, frozen=True):
    """One listener as Istio knows it.

    Args:
        context: In which of a patch's contexts it is.
        names: What it may be called.
        ports: The port it stands for; a gateway's server and the port behind it.
        shared: Whether Istio has all ports of its kind in one listener, of which this is one port's chains.
    """

    context: str
    names: frozenset[str]
    ports: frozenset[int]
    shared: bool = False


class Site(Struct, frozen=True):
    """A proxy.

    Args:
        gateway: Whether it is a gateway's.
        legacy: Whether Istio 1.2's rules apply.
        ip: Its pod's address.
        plan: The sandbox's addresses.
        behind: For a gateway: the ports of its Service and those behind them, in both directions.
        serves: For a sidecar: the application's ports with the Services' hosts that lead there.
        answers: Names of Services, with a port, in clusters that filters add: where a proxy that asks DNS is led.
    """

    gateway: bool
    legacy: bool
    ip: str
    plan: AddressPlan
    behind: dict[int, frozenset[int]] = field(default_factory=dict)
    serves: frozenset[tuple[int, str]] = frozenset()
    answers: dict[_Where, tuple[_Where, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot, workload: Workload, filters: Iterable[View] = ()) -> Site:
        """The proxy of `workload`, whose configuration `filters` change."""
        key = workload.namespace, workload.pod
        both: dict[int, set[int]] = {}
        serves: set[tuple[int, str]] = set()
        gateway = workload.proxy == "router"
        for service in snapshot.services_of.get(key, ()):
            for port in service.ports:
                for target in snapshot.target_ports(service, port, key):
                    serves.add((target, service.host))
                    if gateway:
                        both.setdefault(port.number, set()).add(target)
                        both.setdefault(target, set()).add(port.number)
        behind = {port: frozenset(others) for port, others in both.items()}
        answers = {
            where: found
            for where in _named(filters)
            if (found := _answered(snapshot, where, workload.namespace)) is not None
        }
        return cls(gateway, snapshot.legacy, workload.ip, snapshot.plan, behind, frozenset(serves), answers)

    def ports(self, number: int) -> frozenset[int]:
        """A gateway's port under all its numbers."""
        return frozenset({number}) | self.behind.get(number, frozenset())

    def listener(self, body: Json) -> ListenerPlace:
        """The place of a listener of this proxy."""
        name = str(body["name"])
        host, _, port = name.rpartition("_")
        number = int(port) if port.isdigit() else 0
        if self.gateway:
            ports = self.ports(number)
            return ListenerPlace("GATEWAY", frozenset({name, *(f"{host}_{port}" for port in ports)}), ports)
        inbound = body.get("traffic_direction") == "INBOUND"
        context = "SIDECAR_INBOUND" if inbound else "SIDECAR_OUTBOUND"
        if inbound and not self.legacy:
            return ListenerPlace(context, frozenset({_INBOUND}), frozenset({number}), shared=True)
        if name in ("virtualOutbound", HTTP_PROXY):
            return ListenerPlace(context, frozenset({name}), frozenset({CAPTURE}))
        return ListenerPlace(context, frozenset({name}), frozenset({number}))


def _named(filters: Iterable[View]) -> Iterator[_Where]:
    """The names and ports at which clusters are that filters add."""
    for obj in filters:
        for one in obj["spec"].get("configPatches") or ():
            if one.get("applyTo") == "CLUSTER":
                yield from addresses(one.get("patch"))


def addresses(part: Any) -> Iterator[tuple[str, int]]:
    """The addresses and ports in a part of what a filter says."""
    if isinstance(part, list):
        for one in part:
            yield from addresses(one)
    elif isinstance(part, dict):
        name, port = part.get("address"), part.get("port_value", part.get("portValue"))
        if isinstance(name, str) and isinstance(port, int):
            yield name, port
        for one in part.values():
            yield from addresses(one)


def _answered(snapshot: Snapshot, where: _Where, namespace: str) -> tuple[_Where, ...] | None:
    """Where the pods of a Service are, which a pod may call by a part of its name; None where it is no Service.

    The machine's resolver, which Envoy asks, does not know the cluster's names.
    """
    name, number = where[0].rstrip("."), where[1]
    for end in ("", f".{namespace}.svc.cluster.local", ".svc.cluster.local", ".cluster.local"):
        service = snapshot.by_host.get(name + end)
        if service is not None and service.kubernetes:
            found = [one for one in service.endpoints.get(number, ()) if is_ip(one.address)]
            plan = snapshot.plan
            return tuple((one.address, plan.port(one.port) if plan.of_pods(one.address) else one.port) for one in found)
    return None
