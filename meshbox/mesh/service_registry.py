# SPDX-License-Identifier: Apache-2.0
"""The registry of hosts: Kubernetes Services and ServiceEntries, each with the addresses behind its ports."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from labkit.ground.hosts import fqdn
from labkit.ground.labels import selects
from meshbox.contracts import View
from meshbox.mesh.allocation import allocated
from meshbox.mesh.locality import HOSTNAME, NETWORK, REGION, SUBZONE, ZONE
from meshbox.mesh.memo import Identity, Memo
from meshbox.mesh.model import Endpoint, Port, Service, Workload, annotations_of, labels, protocol_of
from meshbox.mesh.workload_entries import Machine

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import ServiceEntry, ServiceEntrySpec
    from meshbox.typed import services as api

__all__ = ["kubernetes_services", "service_entries"]

_Addresses = dict[str, tuple[Endpoint, ...]]
"""Port name → ready addresses."""


def kubernetes_services(
    services: Iterable[api.Service],
    slices: Iterable[api.EndpointSlice],
    endpoints: Iterable[api.Endpoints],
    workloads: Mapping[tuple[str, str], Workload],
    outside: Sequence[Machine],
    memo: Memo,
    *,
    legacy: bool,
) -> list[Service]:
    """The hosts that Kubernetes Services give.

    Args:
        services: They.
        slices: Their EndpointSlices.
        endpoints: Their Endpoints.
        workloads: Pods by namespace and name.
        outside: What WorkloadEntries tell of; Services choose among them as among pods.
        memo: Keeps what snapshots have in common.
        legacy: Whether Istio 1.2's rules apply.
    """
    all_services, all_slices, all_endpoints = tuple(services), tuple(slices), tuple(endpoints)

    def made() -> list[Service]:
        by_service = _from_endpoints(all_endpoints, workloads, memo)
        # A Kubernetes that has slices is believed; Endpoints are the mirror it keeps for old clients.
        by_service.update(_from_slices(all_slices, workloads, memo))

        def behind(obj: api.Service) -> _Addresses:
            addresses = by_service.get((obj["metadata"]["namespace"], obj["metadata"]["name"]), {})
            return _with_machines(obj, addresses, outside) if outside else addresses

        return memo.each("services", all_services, partial(_service, legacy=legacy), behind)

    if outside:
        # Machines are few, and hold what cannot be hashed.
        return made()
    seen = Identity(all_services), Identity(all_slices), Identity(all_endpoints), Identity(workloads.values())
    found: list[Service] = memo(("kubernetes", seen, legacy), made)
    return found


def _with_machines(obj: api.Service, known: _Addresses, outside: Sequence[Machine]) -> _Addresses:
    spec, namespace = obj.get("spec", {}), obj["metadata"]["namespace"]
    selector = spec.get("selector")
    if not selector or spec.get("type") == "ExternalName":
        return known
    chosen = [m for m in outside if m.workload.namespace == namespace and selects(selector, m.workload.labels)]
    if not chosen:
        return known
    found = dict(known)
    for port in spec.get("ports") or []:
        name, target = port.get("name") or "", port.get("targetPort") or port["port"]
        behind = [
            # A port that is only named has to be one of its own.
            machine.endpoint(name, target) if isinstance(target, int) else machine.endpoint(target, 0)
            for machine in chosen
            if isinstance(target, int) or target in machine.ports
        ]
        pods = {(endpoint.address, endpoint.port) for endpoint in known.get(name, ())}
        more = [one for one in behind if (one.address, one.port) not in pods]
        found[name] = tuple(_sorted([*known.get(name, ()), *more]))
    return found


_NEAREST = {
    "preferclose": (NETWORK, REGION, ZONE),
    "prefersamezone": (NETWORK, REGION, ZONE),
    "prefersamenode": (NETWORK, REGION, ZONE, SUBZONE, HOSTNAME),
}
"""Where clients prefer a Service, by its `trafficDistribution`."""


def _nearest(obj: View, distribution: str = "", *, legacy: bool = False) -> tuple[str, ...]:
    """The places that clients prefer a Service or ServiceEntry in: as its annotation says, else its own field."""
    asked = annotations_of(obj).get("networking.istio.io/traffic-distribution") or distribution
    return () if legacy else _NEAREST.get(asked.lower(), ())


def _service(obj: api.Service, known: _Addresses, *, legacy: bool) -> Service:
    meta, spec = obj["metadata"], obj.get("spec", {})
    name, namespace = meta["name"], meta["namespace"]
    ports = []
    endpoints = {}
    for port in spec.get("ports") or []:
        protocol = protocol_of(
            port.get("name") or "",
            port["port"],
            port.get("appProtocol") or "",
            transport=port.get("protocol", "TCP"),
            legacy=legacy,
        )
        ports.append(Port(port["port"], port.get("name") or "", protocol))
        endpoints[port["port"]] = known.get(port.get("name") or "", ())
    external = spec.get("type") == "ExternalName"
    if external:
        target = spec.get("externalName", "")
        ports = ports or [Port(80, "http", "HTTP")]
        endpoints = {port.number: (Endpoint(target, port.number),) for port in ports}
    cluster_ip = spec.get("clusterIP") or ""
    exported = annotations_of(obj).get("networking.istio.io/exportTo", "")
    return Service(
        host=fqdn(name, namespace),
        namespace=namespace,
        name=name,
        ports=tuple(ports),
        addresses=(cluster_ip,) if cluster_ip not in ("", "None") and not external else (),
        endpoints=endpoints,
        resolution="DNS" if external else "STATIC",
        external=external,
        exported_to=tuple(part.strip() for part in exported.split(",")) if exported else (),
        headless=cluster_ip == "None",
        selector=spec.get("selector") or {},
        nearest=_nearest(obj, spec.get("trafficDistribution") or "", legacy=legacy),
    )


_Workloads = Mapping[tuple[str, str], Workload]


def _named(obj: View, entries: Iterable[View], workloads: _Workloads) -> tuple[Workload | None, ...]:
    """The pods that entries of an object name, in their order."""
    namespace = obj["metadata"]["namespace"]
    return tuple(workloads.get((namespace, (entry.get("targetRef") or {}).get("name", ""))) for entry in entries)


def _from_slices(
    slices: Iterable[api.EndpointSlice], workloads: _Workloads, memo: Memo
) -> dict[tuple[str, str], _Addresses]:
    owned = [obj for obj in slices if labels(obj).get("kubernetes.io/service-name")]
    made = memo.each("slices", owned, _of_slice, lambda obj: _named(obj, obj.get("endpoints") or (), workloads))
    found: dict[tuple[str, str], list[_Addresses]] = defaultdict(list)
    for obj, addresses in zip(owned, made, strict=True):
        found[obj["metadata"]["namespace"], labels(obj)["kubernetes.io/service-name"]].append(addresses)
    return {key: parts[0] if len(parts) == 1 else _together(parts) for key, parts in found.items()}


def _of_slice(obj: api.EndpointSlice, behind: tuple[Workload | None, ...]) -> _Addresses:
    ports: dict[str, list[Endpoint]] = defaultdict(list)
    for port in obj.get("ports") or []:
        if port.get("port") is None:
            continue
        for entry, workload in zip(obj.get("endpoints") or [], behind, strict=True):
            if (entry.get("conditions") or {}).get("ready") is False:
                continue
            for address in entry.get("addresses") or []:
                ports[port.get("name") or ""].append(_endpoint(address, port["port"], workload, entry.get("hostname")))
    return {name: tuple(_sorted(entries)) for name, entries in ports.items()}


def _together(parts: Iterable[_Addresses]) -> _Addresses:
    """What several slices of one Service say."""
    ports: dict[str, list[Endpoint]] = defaultdict(list)
    for part in parts:
        for name, entries in part.items():
            ports[name] += entries
    return {name: tuple(_sorted(entries)) for name, entries in ports.items()}


def _from_endpoints(
    endpoints: Iterable[api.Endpoints], workloads: _Workloads, memo: Memo
) -> dict[tuple[str, str], _Addresses]:
    def behind(obj: api.Endpoints) -> tuple[Workload | None, ...]:
        return _named(
            obj, (one for subset in obj.get("subsets") or [] for one in subset.get("addresses") or []), workloads
        )

    objects = list(endpoints)
    made = memo.each("endpoints", objects, _of_endpoints, behind)
    return {(o["metadata"]["namespace"], o["metadata"]["name"]): a for o, a in zip(objects, made, strict=True)}


def _of_endpoints(obj: api.Endpoints, behind: tuple[Workload | None, ...]) -> _Addresses:
    ports: dict[str, list[Endpoint]] = defaultdict(list)
    pods = iter(behind)
    for subset in obj.get("subsets") or []:
        addresses = [(entry, next(pods)) for entry in subset.get("addresses") or []]
        for port in subset.get("ports") or []:
            ports[port.get("name") or ""] += [
                _endpoint(entry["ip"], port["port"], workload, entry.get("hostname")) for entry, workload in addresses
            ]
    return {name: tuple(_sorted(entries)) for name, entries in ports.items()}


def _endpoint(address: str, port: int, workload: Workload | None, hostname: str | None = None) -> Endpoint:
    name = hostname or ""
    if workload is None:
        return Endpoint(address, port, hostname=name)
    return Endpoint(address, port, workload.labels, workload, hostname=name, locality=workload.locality)


def _sorted(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    # A stable order keeps a cluster's bytes the same, so that proxies are not woken for nothing.
    return sorted(endpoints, key=lambda endpoint: (endpoint.address, endpoint.port))


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
                nearest=_nearest(entry, legacy=legacy),
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
        chosen = [m for m in outside if m.workload.namespace == namespace and selects(selector, m.workload.labels)]
        found = {(e.address, e.port): e for e in (machine.endpoint(port.name, number) for machine in chosen)}
        # What is a pod is known as such.
        found |= {(w.ip, number): _endpoint(w.ip, number, w) for w in pods}
        return tuple(_sorted(found.values()))
    inline = [
        Machine.of(endpoint, namespace, host, trust_domain).endpoint(port.name, number, named=False)
        for endpoint in spec.get("endpoints") or []
        if endpoint.get("address")
    ]
    if not inline and (spec.get("resolution") or "").startswith("DNS") and not host.startswith("*"):
        return (Endpoint(host, number),)
    return tuple(inline)
