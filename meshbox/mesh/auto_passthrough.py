# SPDX-License-Identifier: Apache-2.0
"""Servers with AUTO_PASSTHROUGH: what names a Service as sidecars do goes on to it, still encrypted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from labkit.ground.hosts import within
from meshbox.images.proxy.constants import named
from meshbox.mesh.authorization import network_filters
from meshbox.mesh.clusters import Outbound, outbound_name
from meshbox.mesh.envoy import Json, encode
from meshbox.mesh.gateway_servers import Served
from meshbox.mesh.managers import Proxy, tcp_proxy
from meshbox.mesh.scope import Scope
from meshbox.mesh.transport import ISTIO_ALPN, sni

__all__ = ["passing_chains", "passing_clusters"]


def passing_chains(proxy: Proxy, scope: Scope, server: Served) -> Iterator[Json]:
    """A chain for each port and subset of the mesh's Services that the server's hosts allow.

    Only what sidecars offer is let in, so that on the other side only a sidecar's mTLS can take it.
    """
    rules = network_filters(proxy.snapshot, proxy.workload)
    for service in scope.services:
        if service.external or not any(within(service.host, host) for _, host in server.hosts):
            continue
        rule = scope.destination_rule(service)
        subsets = ["", *(subset["name"] for subset in (rule or {}).get("subsets") or [])]
        for port in service.ports:
            for subset in subsets if port.protocol != "UDP" else ():
                name = sni(service, port, subset)
                yield {
                    "filters": [*rules, tcp_proxy(proxy, name, [(name, 1)])],
                    "filter_chain_match": {"server_names": [name], "application_protocols": list(ISTIO_ALPN)},
                }


def passing_clusters(found: Outbound, listeners: Mapping[str, Json]) -> None:
    """Add the clusters of such chains by name: as they are in `found`, with no TLS of their own, and only sidecars in
    them.
    """
    wanted = {
        made["filter_chain_match"]["server_names"][0]
        for one in listeners.values()
        for made in one["filter_chains"]
        if made.get("filter_chain_match", {}).get("application_protocols")
    }
    for name in sorted(wanted):
        _add_plain(name, found)


def _add_plain(name: str, found: Outbound) -> None:
    _, port, subset, host = (part.strip(".") for part in name.split("_", 3))
    like = outbound_name(host, int(port), subset)
    made: Json = json.loads(found.clusters[like])
    mutual = "transport_socket_matches" in made
    for key in ("transport_socket", "transport_socket_matches"):
        made.pop(key, None)
    made |= {"name": name, **named(name, legacy="alt_stat_name" not in made)}
    told = like in found.endpoints
    assignment: Json | None = json.loads(found.endpoints[like]) if told else made.get("load_assignment")
    if assignment is not None:
        assignment["cluster_name"] = name
        for group in assignment["endpoints"] if mutual else ():
            group["lb_endpoints"] = [one for one in group["lb_endpoints"] if _is_sidecar(one)]
    if told:
        made["eds_cluster_config"]["service_name"] = name
        found.endpoints[name] = encode(assignment or {})
    found.clusters[name] = encode(made)


def _is_sidecar(endpoint: Json) -> bool:
    metadata: Json = endpoint.get("metadata", {}).get("filter_metadata", {})
    return bool(metadata.get("envoy.transport_socket_match", {}).get("tlsMode") == "istio")
