# SPDX-License-Identifier: Apache-2.0
"""ClusterIPs and NodePorts: given out from the objects that hold them, so that they are the same after a restart."""

from __future__ import annotations

import hashlib
import ipaddress

from meshbox.api.refusals import cause, invalid
from meshbox.api.resources import Resource
from meshbox.api.store import Store
from meshbox.contracts import ApiError, Obj
from meshbox.settings import SandboxSettings

__all__ = ["NODE_PORTS", "ServiceAllocator"]

NODE_PORTS = range(30000, 32768)
"""Kubernetes' default range."""


class ServiceAllocator:
    """Gives Services what they must have, and refuses what is taken.

    Args:
        store: Where the Services are.
        settings: For the range of ClusterIPs.
    """

    def __init__(self, store: Store, settings: SandboxSettings) -> None:
        self._store = store
        self._cidr = settings.plan.service_cidr
        self._legacy = settings.legacy

    def allocate(self, resource: Resource, obj: Obj, old: Obj | None) -> None:
        """Fill in `clusterIP` and `nodePort` of a Service, in place.

        Raises:
            ApiError: 422 where an address or a port asked for cannot be had.
        """
        spec = obj.setdefault("spec", {})
        name = obj["metadata"]["name"]
        others = [e.obj for e in self._store.entries("services") if e.obj["metadata"]["uid"] != obj["metadata"]["uid"]]
        kind = spec.get("type", "ClusterIP")
        if kind == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
                spec.pop(field, None)
        else:
            self._check_families(resource, name, spec)
            self._cluster_ip(resource, name, spec, (old or {}).get("spec", {}), others)
        wanted = kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
        if kind == "NodePort" or wanted:
            self._node_ports(resource, name, spec, others)
        elif kind != "LoadBalancer":
            for port in spec.get("ports") or []:
                port.pop("nodePort", None)
        self._health_check(resource, name, spec, others)

    def _check_families(self, resource: Resource, name: str, spec: Obj) -> None:
        """Refuse what asks for addresses of IPv6, of which there are none; whoever lists endpoints himself may."""
        address = spec.get("clusterIP") or ""
        if self._legacy or (address == "None" and not spec.get("selector")):
            return
        families = spec.get("ipFamilies") or []
        causes = [
            cause(f"spec.ipFamilies[{index}]", f'Invalid value: "{one}": not configured on this cluster')
            for index, one in enumerate(families)
            if one != "IPv4"
        ]
        if (policy := spec.get("ipFamilyPolicy")) == "RequireDualStack":
            why = f'Invalid value: "{policy}": this cluster is not configured for dual-stack services'
            causes.insert(0, cause("spec.ipFamilyPolicy", why))
        if ":" in address and families == ["IPv4"]:
            why = f'Invalid value: ["{address}"]: IPv6 is not configured on this cluster'
            causes = [cause("spec.clusterIPs[0]", why)]
        if causes:
            raise invalid(resource, name, causes)

    def _cluster_ip(self, resource: Resource, name: str, spec: Obj, before: Obj, others: list[Obj]) -> None:
        asked = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0] or before.get("clusterIP", "")
        held = before.get("clusterIP", "")
        if asked and held and asked != held:
            # A Service that had an ExternalName may get an address; any other keeps what it has.
            raise invalid(
                resource, name, [cause("spec.clusterIPs[0]", f'Invalid value: ["{asked}"]: may not change once set')]
            )
        if asked != "None":
            taken = {other["spec"].get("clusterIP") for other in others}
            if not asked:
                asked = self._free_address(f"{name}", taken)
            elif asked != held:
                self._check_address(resource, name, asked, taken)
        spec["clusterIP"] = asked
        spec["clusterIPs"] = [asked]
        spec["ipFamilies"] = spec.get("ipFamilies") or ["IPv4"]
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _check_address(self, resource: Resource, name: str, asked: str, taken: set[str]) -> None:
        try:
            inside = ipaddress.ip_address(asked) in self._cidr
        except ValueError:
            words = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            raise invalid(resource, name, [cause("spec.clusterIPs[0]", f'Invalid value: "{asked}": {words}')]) from None
        problem = ""
        if not inside:
            why = "the provided network does not match the current range"
            if self._legacy:
                why = f"provided IP is not in the valid range. The range of valid IPs is {self._cidr}"
            problem = f"failed to allocate IP {asked}: {why}"
        elif asked in taken:
            problem = f"failed to allocate IP {asked}: provided IP is already allocated"
        if problem:
            raise invalid(resource, name, [cause("spec.clusterIPs", f'Invalid value: ["{asked}"]: {problem}')])

    def _free_address(self, name: str, taken: set[str]) -> str:
        first = int(self._cidr.network_address)
        size = self._cidr.num_addresses
        # Spread by name, so that a Service made again has its old address where that is free; the first 16 are left
        # to Services that ask for one (the API server's own has .1).
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        usable = size - 17
        for step in range(usable):
            address = str(ipaddress.IPv4Address(first + 16 + (start + step) % usable))
            if address not in taken:
                return address
        raise ApiError(500, "InternalError", "failed to allocate a serviceIP: range is full")

    def _node_ports(self, resource: Resource, name: str, spec: Obj, others: list[Obj]) -> None:
        taken = _taken(others)
        mine: set[tuple[int, str]] = set()
        ports = spec.get("ports") or []
        for index, port in enumerate(ports):
            if not port.get("nodePort"):
                continue
            asked, protocol = port["nodePort"], port.get("protocol", "TCP")
            field = f"spec.ports[{index}].nodePort"
            if asked not in NODE_PORTS:
                said = "provided port is not in the valid range. The range of valid ports is 30000-32767"
                words = f"Invalid value: {asked}: {said}"
                raise invalid(resource, name, [cause(field, words)])
            if (asked, protocol) in taken:
                raise invalid(
                    resource, name, [cause(field, f"Invalid value: {asked}: provided port is already allocated")]
                )
            mine.add((asked, protocol))
        for port in ports:
            if port.get("nodePort"):
                continue
            protocol = port.get("protocol", "TCP")
            port["nodePort"] = self._free_port(f"{name}:{port.get('port')}", protocol, taken | mine)
            mine.add((port["nodePort"], protocol))

    def _health_check(self, resource: Resource, name: str, spec: Obj, others: list[Obj]) -> None:
        """The port at which a balancer of traffic that stays on its node is told whether a pod is there."""
        if spec.get("type") != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
            return
        taken = _taken(others)
        asked = spec.get("healthCheckNodePort")
        if not asked:
            mine = {(port.get("nodePort"), port.get("protocol", "TCP")) for port in spec.get("ports") or []}
            spec["healthCheckNodePort"] = self._free_port(f"{name}:health", "TCP", taken | mine)
        elif (asked, "TCP") in taken:
            why = f"failed to allocate requested HealthCheck NodePort {asked}: provided port is already allocated"
            raise invalid(resource, name, [cause("spec.healthCheckNodePort", f"Invalid value: {asked}: {why}")])

    def _free_port(self, seed: str, protocol: str, taken: set[tuple[int, str]]) -> int:
        start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
        # The lower half, Istio's own 31380 to 31400 in it, is left to Services that ask for a port.
        usable = NODE_PORTS[1500:]
        for step in range(len(usable)):
            port = usable[(start + step) % len(usable)]
            if (port, protocol) not in taken:
                return port
        raise ApiError(500, "InternalError", "failed to allocate a nodePort: range is full")


def _taken(services: list[Obj]) -> set[tuple[int, str]]:
    """The ports of the node that Services hold, with their protocols."""
    ports = {
        (port["nodePort"], port.get("protocol", "TCP"))
        for one in services
        for port in one["spec"].get("ports") or []
        if port.get("nodePort")
    }
    return ports | {
        (one["spec"]["healthCheckNodePort"], "TCP") for one in services if one["spec"].get("healthCheckNodePort")
    }
