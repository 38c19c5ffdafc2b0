# SPDX-License-Identifier: Apache-2.0
"""Where a cluster leads: its endpoints, as proxies are told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labkit.ground.names import is_ip
from meshbox.mesh.envoy import Json, address
from meshbox.mesh.locality import Group, envoy_locality
from meshbox.mesh.model import Endpoint, Port, Service, Workload
from meshbox.mesh.peers import said_of
from meshbox.mesh.security import mtls_mode
from meshbox.mesh.snapshot import Snapshot

__all__ = ["UNIX", "lb_endpoint", "locality_endpoints", "peer_metadata", "resolved"]

UNIX = "unix://"
"""What the address of an endpoint at a Unix socket begins with."""


def resolved(snapshot: Snapshot, service: Service, port: Port) -> Iterable[Endpoint]:
    """The endpoints of a port; a DNS name that is a Service of this cluster is answered by its endpoints.

    The machine's resolver, which Envoy asks, does not know the cluster's names.
    """
    for endpoint in service.endpoints.get(port.number, ()):
        inside = None if is_ip(endpoint.address) else snapshot.by_host.get(endpoint.address.rstrip("."))
        # A ServiceEntry may have a Service's own name, where that one is not told of.
        if inside is None or not inside.kubernetes or (inside.host == service.host and service.kubernetes):
            yield endpoint
        elif service.kubernetes:
            yield from inside.endpoints.get(endpoint.port, ())
        else:
            # Of what a name leads to a proxy knows the address, and nothing else.
            yield from (Endpoint(one.address, one.port) for one in inside.endpoints.get(endpoint.port, ()))


def locality_endpoints(snapshot: Snapshot, group: Group, *, raw: bool) -> Json:
    """The endpoints at one place; those of `raw` ports also say whether a proxy takes what is sent there."""
    found: Json = {"lb_endpoints": [lb_endpoint(snapshot, endpoint, raw=raw) for endpoint in group.endpoints]}
    if where := envoy_locality(group.locality):
        found["locality"] = where
    if group.priority:
        found["priority"] = group.priority
    if group.weight:
        found["load_balancing_weight"] = group.weight
    return found


def lb_endpoint(snapshot: Snapshot, endpoint: Endpoint, *, raw: bool = False) -> Json:
    """One endpoint, with what its clients must know of it."""
    workload = endpoint.workload
    metadata: Json = {}
    if workload is not None:
        metadata["istio"] = peer_metadata(workload)
        if workload.proxy == "sidecar":
            match = {"tlsMode": "istio"} if mtls_mode(snapshot, workload, endpoint.port) != "DISABLE" else {}
            if raw:
                match["proxy"] = "sidecar"
            if match:
                metadata["envoy.transport_socket_match"] = match
    if endpoint.hostname:
        metadata["envoy.lb"] = {"hostname": endpoint.hostname}
    return {
        "endpoint": {"address": _where(snapshot, endpoint)},
        "load_balancing_weight": max(endpoint.weight, 1),
        **({"metadata": {"filter_metadata": metadata}} if metadata else {}),
    }


def _where(snapshot: Snapshot, endpoint: Endpoint) -> Json:
    if endpoint.address.startswith(UNIX):
        return {"pipe": {"path": endpoint.address.removeprefix(UNIX)}}
    own = endpoint.workload is not None or snapshot.plan.of_pods(endpoint.address)
    return address(endpoint.address, snapshot.plan.port(endpoint.port) if own else endpoint.port)


def peer_metadata(workload: Workload) -> Mapping[str, str]:
    """What telemetry says of a workload, as metadata of its endpoints."""
    return {**said_of(workload), "principal": workload.principal}
