# SPDX-License-Identifier: Apache-2.0
"""The hosts that Kubernetes Services give, each with the addresses behind its ports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from labkit.ground.hosts import fqdn
from meshbox.contracts import View
from meshbox.mesh.locality import nearest_places
from meshbox.mesh.memo import Identity, Memo
from meshbox.mesh.model import Endpoint, Port, Service, Workload, annotations_of, in_order, labels, protocol_of
from meshbox.mesh.workload_entries import Machine, chosen

if TYPE_CHECKING:
    from meshbox.typed import services as api

__all__ = ["kubernetes_services"]

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
    meant = chosen(selector, namespace, outside)
    if not meant:
        return known
    found = dict(known)
    for port in spec.get("ports") or []:
        name, target = port.get("name") or "", port.get("targetPort") or port["port"]
        behind = [
            # A port that is only named has to be one of its own.
            machine.endpoint(name, target) if isinstance(target, int) else machine.endpoint(target, 0)
            for machine in meant
            if isinstance(target, int) or target in machine.ports
        ]
        pods = {(endpoint.address, endpoint.port) for endpoint in known.get(name, ())}
        more = [one for one in behind if (one.address, one.port) not in pods]
        found[name] = tuple(in_order([*known.get(name, ()), *more]))
    return found


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
        nearest=nearest_places(obj, spec.get("trafficDistribution") or "", legacy=legacy),
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
                ports[port.get("name") or ""].append(
                    Endpoint.at(address, port["port"], workload, entry.get("hostname"))
                )
    return {name: tuple(in_order(entries)) for name, entries in ports.items()}


def _together(parts: Iterable[_Addresses]) -> _Addresses:
    """What several slices of one Service say."""
    ports: dict[str, list[Endpoint]] = defaultdict(list)
    for part in parts:
        for name, entries in part.items():
            ports[name] += entries
    return {name: tuple(in_order(entries)) for name, entries in ports.items()}


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
                Endpoint.at(entry["ip"], port["port"], workload, entry.get("hostname")) for entry, workload in addresses
            ]
    return {name: tuple(in_order(entries)) for name, entries in ports.items()}
