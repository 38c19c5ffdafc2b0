# SPDX-License-Identifier: Apache-2.0
"""What a Sidecar object makes of its workloads' proxies: which hosts they see on which ports, and what they let in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import Struct

from labkit.ground.hosts import overlap, scoped
from labkit.ground.routing import VirtualService
from meshbox.mesh.model import Port, Service, protocol_of

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import IstioEgressListener, IstioIngressListener, SidecarSpec

__all__ = ["Entrance", "Narrowed", "entrances", "narrowed"]


class Narrowed(Struct, frozen=True):
    """What is left of the mesh where a Sidecar says what its workloads call.

    Args:
        services: The hosts they see, each with the ports they see of it.
        routes: The VirtualServices they see.
        reached: Hosts that only these VirtualServices lead to.
    """

    services: list[Service]
    routes: list[VirtualService]
    reached: list[Service]


class _Egress(Struct, frozen=True):
    hosts: tuple[tuple[str, str], ...]
    port: int = 0
    protocol: str = ""

    @classmethod
    def of(cls, listener: IstioEgressListener, namespace: str) -> _Egress:
        port = listener.get("port") or {}
        hosts = tuple(scoped(str(host), namespace) for host in listener.get("hosts") or [])
        return cls(hosts, int(port.get("number") or 0), str(port.get("protocol") or ""))

    def wants(self, namespace: str, host: str) -> bool:
        return any(where in ("*", namespace) and overlap(pattern, host) for where, pattern in self.hosts)


def narrowed(
    spec: SidecarSpec, namespace: str, services: list[Service], routes: list[VirtualService], *, legacy: bool
) -> Narrowed:
    """The hosts and VirtualServices of `services` and `routes` that a Sidecar's `egress` leaves to its workloads.

    A listener with a port is the only one for that port; the one without serves all the others.

    Args:
        spec: The Sidecar's, with an `egress`.
        namespace: The workloads' own.
        services: What they would see without.
        routes: The VirtualServices they would see without.
        legacy: Whether Istio 1.2's rules apply.
    """
    listeners = [_Egress.of(listener or {}, namespace) for listener in spec.get("egress") or []]
    named = {listener.port: listener for listener in reversed(listeners) if listener.port}
    others = [listener for listener in listeners if not listener.port]
    seen: list[Service] = []
    for service in services:
        where = service.namespace, service.host
        anywhere = any(listener.wants(*where) for listener in others)
        if not named and anywhere:
            seen.append(service)
            continue
        ports = tuple(_ports(service, named, anywhere=anywhere, legacy=legacy))
        if ports:
            seen.append(service if ports == service.ports else replace(service, ports=ports))
    kept = [v for v in routes if any(one.wants(v.namespace, host) for one in listeners for host in v.hosts)]
    known = {service.host for service in seen}
    wanted = {host for one in kept for host in _targets(one)} - known
    return Narrowed(seen, kept, [service for service in services if service.host in wanted])


def _ports(service: Service, named: dict[int, _Egress], *, anywhere: bool, legacy: bool) -> Iterator[Port]:
    for port in service.ports:
        listener = named.get(port.number)
        if listener is None:
            if anywhere:
                yield port
        elif listener.wants(service.namespace, service.host):
            protocol = protocol_of(listener.protocol, port.number, legacy=legacy) if listener.protocol else ""
            # The listener says how the port is listened on; HTTP of either version is the Service's to say.
            same = not protocol or Port(0, "", protocol).http == port.http
            yield port if same else replace(port, protocol=protocol)


def _targets(virtual_service: VirtualService) -> Iterator[str]:
    for http in virtual_service.http:
        yield from (target["destination"]["host"] for target in http.get("route") or [])
        yield from (mirror["destination"]["host"] for mirror in http.get("mirrors") or [])
        if http.get("mirror"):
            yield http["mirror"]["host"]
    for tls in virtual_service.tls:
        yield from (target["destination"]["host"] for target in tls.get("route") or [])
    for tcp in virtual_service.tcp:
        yield from (target["destination"]["host"] for target in tcp.get("route") or [])


class Entrance(Struct, frozen=True):
    """One `ingress` listener of a Sidecar.

    Args:
        port: The port at the pod's address.
        protocol: What is spoken there.
        behind: The application's own port.
        spec: The listener as the object has it.
    """

    port: int
    protocol: str
    behind: int
    spec: IstioIngressListener


def entrances(spec: SidecarSpec, *, legacy: bool) -> list[Entrance]:
    """The `ingress` listeners of a Sidecar that can be played; `unplayed` names the others."""
    found = []
    for listener in spec.get("ingress") or []:
        port = (listener or {}).get("port") or {}
        number = int(port.get("number") or 0)
        behind = (listener.get("defaultEndpoint") or f":{number}").rpartition(":")[2]
        if number and behind.isdigit():
            protocol = protocol_of(port.get("protocol") or "", number, legacy=legacy)
            found.append(Entrance(number, protocol, int(behind), listener))
    return found
