# SPDX-License-Identifier: Apache-2.0
"""What Istio would call a proxy's listeners, and on which port: by that a patch finds them."""

from __future__ import annotations

from msgspec import Struct, field

from meshbox.addresses import AddressPlan
from meshbox.mesh.envoy import Json
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.virtual_hosts import HTTP_PROXY

__all__ = ["ListenerPlace", "Site"]

CAPTURE, INBOUND = 15001, 15006
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
    """

    gateway: bool
    legacy: bool
    ip: str
    plan: AddressPlan
    behind: dict[int, frozenset[int]] = field(default_factory=dict)
    serves: frozenset[tuple[int, str]] = frozenset()

    @classmethod
    def of(cls, snapshot: Snapshot, workload: Workload) -> Site:
        """The proxy of `workload`."""
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
        return cls(gateway, snapshot.legacy, workload.ip, snapshot.plan, behind, frozenset(serves))

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
