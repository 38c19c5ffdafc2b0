# SPDX-License-Identifier: Apache-2.0
"""The hosts that ServiceEntries give, and all hosts of the mesh: those and Kubernetes Services."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labkit.ground.labels import selects
from labkit.ground.names import is_ip
from meshbox.mesh.allocation import allocated
from meshbox.mesh.locality import nearest_places
from meshbox.mesh.memo import Identity, Memo
from meshbox.mesh.model import Endpoint, Port, Service, Workload, in_order, protocol_of
from meshbox.mesh.workload_entries import Machine, chosen

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import ServiceEntry, ServiceEntrySpec

__all__ = ["all_hosts", "service_entries"]


def service_entries(
    entries: Iterable[ServiceEntry],
    workloads: Iterable[Workload],
    outside: Sequence[Machine],
    memo: Memo,
    *,
    legacy: bool,
    trust_domain: str,
) -> list[Service]:
    """The hosts that ServiceEntries give, oldest first; what several of one namespace say of a host is put together.

    Args:
        entries: They, oldest first.
        workloads: The pods.
        outside: What WorkloadEntries tell of.
        memo: Keeps what snapshots have in common.
        legacy: Whether Istio 1.2's rules apply.
        trust_domain: The mesh's own.
    """
    objects, pods = list(entries), list(workloads)
    key = ("service entries", Identity(objects), Identity(pods), legacy, trust_domain)
    found: dict[_Alike, Service] = (
        _hosts(objects, pods, outside, legacy=legacy, trust_domain=trust_domain)
        if outside
        else memo(key, lambda: _hosts(objects, pods, outside, legacy=legacy, trust_domain=trust_domain))
    )
    return memo.each("hosts", found.values(), lambda one, _: one, key=_alike)


def all_hosts(services: list[Service], entries: list[Service], memo: Memo, *, legacy: bool) -> tuple[Service, ...]:
    """All hosts: Services, then what ServiceEntries give.

    Where one of these has a Service's host and namespace, its endpoints answer beside the Service's pods at the port of
    the same name. (What istiod 1.30 sends; of 1.2's pilot nothing is known, so there the Service stands alone.)

    Args:
        services: The Kubernetes Services.
        entries: The hosts of ServiceEntries.
        memo: Keeps what snapshots have in common.
        legacy: Whether Istio 1.2's rules apply.
    """
    known = {(one.host, one.namespace) for one in services}
    more: dict[tuple[str, str], tuple[Service, ...]] = {}
    for one in () if legacy else entries:
        if (place := (one.host, one.namespace)) in known and one.resolution != "NONE":
            more[place] = (*more.get(place, ()), one)
    if more:
        services = memo.each(
            "services with entries", services, _beside_pods, lambda one: more.get((one.host, one.namespace), ()), _alike
        )
    return *services, *entries


def _beside_pods(service: Service, entries: tuple[Service, ...]) -> Service:
    endpoints = dict(service.endpoints)
    for entry in entries:
        for port in entry.ports:
            number = next((own.number for own in service.ports if own.name == port.name), 0)
            added = (one for one in entry.endpoints.get(port.number, ()) if is_ip(one.address))
            if number:
                endpoints[number] = (*endpoints.get(number, ()), *added)
    return replace(service, endpoints=endpoints) if entries else service


_Alike = tuple[str, str, str, bool, tuple[str, ...]]


def _alike(service: Service) -> _Alike:
    """What ServiceEntries of one host have in common that are put together."""
    return service.host, service.namespace, service.resolution, service.external, service.exported_to


def _hosts(
    entries: Iterable[ServiceEntry],
    pods: list[Workload],
    outside: Sequence[Machine],
    *,
    legacy: bool,
    trust_domain: str,
) -> dict[_Alike, Service]:
    found: dict[_Alike, Service] = {}
    for entry in entries:
        for service in _entry(entry, pods, outside, legacy=legacy, trust_domain=trust_domain):
            alike = _alike(service)
            found[alike] = _merged(found[alike], service) if alike in found else service
    return found


def _merged(one: Service, other: Service) -> Service:
    known = {port.number for port in one.ports}
    endpoints = {
        number: tuple(dict.fromkeys((*one.endpoints.get(number, ()), *other.endpoints.get(number, ()))))
        for number in {**one.endpoints, **other.endpoints}
    }
    return replace(
        one,
        ports=(*one.ports, *(port for port in other.ports if port.number not in known)),
        addresses=tuple(dict.fromkeys((*one.addresses, *other.addresses))),
        endpoints=endpoints,
        subject_alt_names=tuple(dict.fromkeys((*one.subject_alt_names, *other.subject_alt_names))),
        allocated=tuple(dict.fromkeys((*one.allocated, *other.allocated))),
    )


def _entry(
    entry: ServiceEntry, workloads: list[Workload], outside: Sequence[Machine], *, legacy: bool, trust_domain: str
) -> list[Service]:
    spec, namespace = entry.get("spec") or {}, entry["metadata"]["namespace"]
    ports = tuple(
        Port(
            port["number"],
            port.get("name") or "",
            protocol_of(port.get("protocol") or port.get("name") or "", port["number"], legacy=legacy),
            port.get("targetPort"),
        )
        for port in spec.get("ports") or []
    )
    external = spec.get("location", "MESH_EXTERNAL") != "MESH_INTERNAL"
    addresses = tuple(_address(text) for text in spec.get("addresses") or [])
    services = []
    for host in spec.get("hosts") or []:
        endpoints = {
            port.number: _entry_endpoints(spec, port, host, namespace, workloads, outside, trust_domain)
            for port in ports
        }
        services.append(
            Service(
                host=host.lower(),
                namespace=namespace,
                name=host.lower(),
                ports=ports,
                addresses=addresses,
                endpoints=endpoints,
                resolution=spec.get("resolution") or "NONE",
                external=external,
                exported_to=tuple(spec.get("exportTo") or ()),
                subject_alt_names=tuple(spec.get("subjectAltNames") or []),
                nearest=nearest_places(entry, legacy=legacy),
                allocated=() if addresses else tuple(allocated(entry, host)),
            )
        )
    return services


def _address(text: str) -> str:
    network = ipaddress.ip_network(text, strict=False)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _entry_endpoints(
    spec: ServiceEntrySpec,
    port: Port,
    host: str,
    namespace: str,
    workloads: list[Workload],
    outside: Sequence[Machine],
    trust_domain: str,
) -> tuple[Endpoint, ...]:
    number = port.target or port.number
    selector = (spec.get("workloadSelector") or {}).get("labels")
    if selector:
        pods = [w for w in workloads if w.namespace == namespace and w.ip and selects(selector, w.labels)]
        by_name = (spec.get("resolution") or "").startswith("DNS")
        meant = chosen(selector, namespace, outside, by_name=by_name)
        found = {(e.address, e.port): e for e in (machine.endpoint(port.name, number) for machine in meant)}
        # What is a pod is known as such.
        found |= {(w.ip, number): Endpoint.at(w.ip, number, w) for w in pods}
        return tuple(in_order(found.values()))
    inline = [
        Machine.of(endpoint, namespace, host, trust_domain).endpoint(port.name, number, named=False)
        for endpoint in spec.get("endpoints") or []
        if endpoint.get("address")
    ]
    if not inline and (spec.get("resolution") or "").startswith("DNS") and not host.startswith("*"):
        return (Endpoint(host, number),)
    return tuple(inline)
