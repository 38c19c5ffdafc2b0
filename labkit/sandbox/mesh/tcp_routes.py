"""The `tcp` and `tls` sections of VirtualServices as filter chains."""

from __future__ import annotations

from typing import Any

from labkit.sandbox.mesh import clusters, policies
from labkit.sandbox.mesh.envoy import cidr
from labkit.sandbox.mesh.http_routes import Site, destination
from labkit.sandbox.mesh.managers import Proxy, tcp_proxy
from labkit.sandbox.mesh.model import Port, Service, selects
from labkit.sandbox.mesh.snapshot import Scope
from labkit.sandbox.mesh.values import duration, fqdn, host_matches

__all__ = ["chains_of", "tcp_chains", "tls_chains"]

Json = dict[str, Any]


def chains_of(proxy: Proxy, scope: Scope, service: Service, port: Port, *, by_name: bool = False) -> list[Json]:
    """The filter chains for a TCP or TLS port of a Service inside the mesh.

    Args:
        proxy: Whose.
        scope: What it sees.
        service: The Service.
        port: Its port.
        by_name: Whether the port is shared, so that only the TLS server name tells the Service.
    """
    site = Site(scope, port.number, proxy.workload.labels, legacy=proxy.legacy)
    found: list[Json] = []
    for virtual_service in scope.virtual_services:
        spec, namespace = virtual_service["spec"], virtual_service["metadata"]["namespace"]
        if "mesh" not in (spec.get("gateways") or ["mesh"]):
            continue
        hosts = [fqdn(host, namespace) for host in spec.get("hosts") or []]
        if not any(host_matches(host, service.host) for host in hosts):
            continue
        found += tls_chains(proxy, site, virtual_service)
        found += [] if by_name else tcp_chains(proxy, site, virtual_service)
    if not any("filter_chain_match" not in chain for chain in found):
        cluster = clusters.outbound_name(service.host, port.number)
        chain: Json = {"filters": [tcp_proxy(proxy, cluster, [(cluster, 1)], idle=_idle(scope, service, port))]}
        if by_name:
            chain["filter_chain_match"] = {"server_names": [service.host]}
        found.append(chain)
    return found


def _idle(scope: Scope, service: Service, port: Port) -> str:
    policy = policies.merged_policy(scope.destination_rule(service), "", port)
    idle = ((policy.get("connectionPool") or {}).get("tcp") or {}).get("idleTimeout")
    return duration(idle) if idle else ""


def _weighted(site: Site, rule: Json, namespace: str) -> list[tuple[str, int]]:
    targets = rule.get("route") or []
    found = []
    for target in targets:
        name, _, _ = destination(site, target["destination"], namespace)
        weight = target.get("weight")
        found.append((name, 100 if weight is None and len(targets) == 1 else weight or 0))
    return [entry for entry in found if entry[1] > 0] or found[:1]


def _applies(site: Site, match: Json) -> bool:
    if match.get("port") and match["port"] != site.port:
        return False
    if match.get("sourceNamespace") and match["sourceNamespace"] != site.scope.namespace:
        return False
    if match.get("sourceLabels") and not selects(match["sourceLabels"], site.labels):
        return False
    return not match.get("gateways") or bool(site.gateways.intersection(match["gateways"]))


def tcp_chains(proxy: Proxy, site: Site, virtual_service: Json) -> list[Json]:
    """The chains of a VirtualService's `tcp`; the first that catches all is the last."""
    found: list[Json] = []
    namespace = virtual_service["metadata"]["namespace"]
    for rule in virtual_service["spec"].get("tcp") or []:
        for match in rule.get("match") or [{}]:
            if not _applies(site, match):
                continue
            targets = _weighted(site, rule, namespace)
            chain: Json = {"filters": [tcp_proxy(proxy, targets[0][0], targets)]}
            if match.get("destinationSubnets"):
                chain["filter_chain_match"] = {"prefix_ranges": [cidr(s) for s in match["destinationSubnets"]]}
            found.append(chain)
            if "filter_chain_match" not in chain:
                return found
    return found


def tls_chains(proxy: Proxy, site: Site, virtual_service: Json) -> list[Json]:
    """The chains of a VirtualService's `tls`, chosen by server name."""
    found: list[Json] = []
    namespace = virtual_service["metadata"]["namespace"]
    for rule in virtual_service["spec"].get("tls") or []:
        for match in rule.get("match") or []:
            if not _applies(site, match):
                continue
            targets = _weighted(site, rule, namespace)
            names = [name for name in match.get("sniHosts") or [] if name != "*"]
            where: Json = {"server_names": names} if names else {"transport_protocol": "tls"}
            if match.get("destinationSubnets"):
                where["prefix_ranges"] = [cidr(s) for s in match["destinationSubnets"]]
            found.append({"filter_chain_match": where, "filters": [tcp_proxy(proxy, targets[0][0], targets)]})
    return found
