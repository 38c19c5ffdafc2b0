# SPDX-License-Identifier: Apache-2.0
"""The registry of hosts: Kubernetes Services and ServiceEntries, each with the addresses behind its ports."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from labkit.ground.hosts import fqdn
from labkit.ground.labels import selects
from meshbox.mesh.memo import Identity, Memo
from meshbox.mesh.model import Endpoint, Port, Service, Workload, annotations_of, labels, protocol_of

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
    memo: Memo,
    *,
    legacy: bool,
) -> list[Service]:
    """The hosts that Kubernetes Services give, `workloads` being keyed by namespace and pod name."""
    by_service = _from_endpoints(endpoints, workloads)
    # A Kubernetes that has slices is believed; Endpoints are the mirror it keeps for old clients.
    by_service.update(_from_slices(slices, workloads))
    found = []
    for obj in services:
        addresses = by_service.get((obj["metadata"]["namespace"], obj["metadata"]["name"]), {})
        key = ("service", Identity((obj,)), tuple(addresses.items()))
        service: Service = memo(key, partial(_service, obj, addresses, legacy=legacy))
        found.append(service)
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
        exported_to=tuple(part.strip() for part in exported.split(",")) if exported else ("*",),
        headless=cluster_ip == "None",
        selector=spec.get("selector") or {},
    )


def _from_slices(
    slices: Iterable[api.EndpointSlice], workloads: Mapping[tuple[str, str], Workload]
) -> dict[tuple[str, str], _Addresses]:
    found: dict[tuple[str, str], dict[str, list[Endpoint]]] = defaultdict(lambda: defaultdict(list))
    for obj in slices:
        service = labels(obj).get("kubernetes.io/service-name")
        if not service:
            continue
        namespace = obj["metadata"]["namespace"]
        ports = found[namespace, service]
        for port in obj.get("ports") or []:
            if port.get("port") is None:
                continue
            for entry in obj.get("endpoints") or []:
                if (entry.get("conditions") or {}).get("ready") is False:
                    continue
                pod = (entry.get("targetRef") or {}).get("name", "")
                workload = workloads.get((namespace, pod))
                for address in entry.get("addresses") or []:
                    ports[port.get("name") or ""].append(_endpoint(address, port["port"], workload))
    return {key: {name: tuple(_sorted(entries)) for name, entries in ports.items()} for key, ports in found.items()}


def _from_endpoints(
    endpoints: Iterable[api.Endpoints], workloads: Mapping[tuple[str, str], Workload]
) -> dict[tuple[str, str], _Addresses]:
    found: dict[tuple[str, str], _Addresses] = {}
    for obj in endpoints:
        namespace = obj["metadata"]["namespace"]
        ports: dict[str, list[Endpoint]] = defaultdict(list)
        for subset in obj.get("subsets") or []:
            for port in subset.get("ports") or []:
                for entry in subset.get("addresses") or []:
                    pod = (entry.get("targetRef") or {}).get("name", "")
                    workload = workloads.get((namespace, pod))
                    ports[port.get("name") or ""].append(_endpoint(entry["ip"], port["port"], workload))
        found[namespace, obj["metadata"]["name"]] = {name: tuple(_sorted(entries)) for name, entries in ports.items()}
    return found


def _endpoint(address: str, port: int, workload: Workload | None) -> Endpoint:
    return Endpoint(address, port, workload.labels if workload else {}, workload)


def _sorted(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    # A stable order keeps a cluster's bytes the same, so that proxies are not woken for nothing.
    return sorted(endpoints, key=lambda endpoint: (endpoint.address, endpoint.port))


def service_entries(entries: Iterable[ServiceEntry], workloads: Iterable[Workload], *, legacy: bool) -> list[Service]:
    """The hosts that ServiceEntries give."""
    pods = list(workloads)
    return [service for entry in entries for service in _entry(entry, pods, legacy=legacy)]


def _entry(entry: ServiceEntry, workloads: list[Workload], *, legacy: bool) -> list[Service]:
    spec, namespace = entry.get("spec") or {}, entry["metadata"]["namespace"]
    resolution = spec.get("resolution") or "NONE"
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
        endpoints = {port.number: _entry_endpoints(spec, port, host, namespace, workloads) for port in ports}
        services.append(
            Service(
                host=host.lower(),
                namespace=namespace,
                name=host.lower(),
                ports=ports,
                addresses=addresses,
                endpoints=endpoints,
                resolution="DNS" if resolution.startswith("DNS") or resolution == "DYNAMIC_DNS" else resolution,
                external=external,
                exported_to=tuple(spec.get("exportTo") or ["*"]),
                subject_alt_names=tuple(spec.get("subjectAltNames") or []),
            )
        )
    return services


def _address(text: str) -> str:
    network = ipaddress.ip_network(text, strict=False)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _entry_endpoints(
    spec: ServiceEntrySpec, port: Port, host: str, namespace: str, workloads: list[Workload]
) -> tuple[Endpoint, ...]:
    selector = (spec.get("workloadSelector") or {}).get("labels")
    if selector:
        return tuple(
            _sorted(
                Endpoint(w.ip, port.target or port.number, w.labels, w)
                for w in workloads
                if w.namespace == namespace and w.ip and selects(selector, w.labels)
            )
        )
    found = [
        Endpoint(
            e["address"],
            (e.get("ports") or {}).get(port.name) or port.target or port.number,
            e.get("labels") or {},
            None,
            e.get("weight") or 1,
        )
        for e in spec.get("endpoints") or []
        # (One that names only its network is behind that network's gateway.)
        if e.get("address")
    ]
    if not found and (spec.get("resolution") or "").startswith("DNS") and not host.startswith("*"):
        found = [Endpoint(host, port.target or port.number)]
    return tuple(found)
