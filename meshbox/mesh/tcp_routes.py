# SPDX-License-Identifier: Apache-2.0
"""The `tcp` and `tls` sections of VirtualServices as filter chains."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from labkit.ground.hosts import within
from labkit.ground.routing import MESH, VirtualService, shares
from meshbox.mesh import policies
from meshbox.mesh.clusters import by_name, outbound_name
from meshbox.mesh.envoy import Json, cidr, extension, made_by
from meshbox.mesh.field_values import duration
from meshbox.mesh.http_routes import Site, destination
from meshbox.mesh.managers import Proxy, tcp_proxy
from meshbox.mesh.model import TLS_PROTOCOLS, Port, Service
from meshbox.mesh.transport import RAW_FIRST

if TYPE_CHECKING:
    from labkit.ground.typed.virtual_services import TCPRoute, TLSRoute

__all__ = ["TcpRoute", "chain", "tcp_routes", "tcp_rules", "tls_rules", "untaken"]


_BY_SERVER_NAME = (
    "envoy.filters.network.sni_dynamic_forward_proxy",
    "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
)


# The other side's port speaks HTTP as well, and cannot look for it behind mTLS.
_RAW_BYTES = extension(
    "istio.raw_bytes",
    "envoy.extensions.filters.network.set_filter_state.v3.Config",
    on_new_connection=[
        {
            "object_key": "envoy.network.application_protocols",
            "format_string": {"text_format_source": {"inline_string": ",".join(RAW_FIRST)}},
            "shared_with_upstream": "ONCE",
        }
    ],
)


class TcpRoute(Struct, frozen=True):
    """Where the connections of one filter chain go.

    Args:
        clusters: Names with weights.
        server_names: TLS server names that choose the chain; empty for any.
        subnets: Destination addresses that choose it; empty for any.
        tls: Whether only TLS is meant.
        idle: After how long without a byte a connection is closed; empty for never.
        longest: After how long it is closed in any case; empty for never.
        tunnel: What a forward proxy is asked for, "host:port"; empty where bytes are sent as they are.
        posted: Whether it is asked by POST and not by CONNECT.
        by_source: Whether one client's connections stay with one endpoint.
        resolving: The wildcard host whose server names are resolved as clients ask for them; empty for fixed servers.
        port: The port there.
        unsure: Whether its target's port may speak HTTP as well.
        origin: The VirtualService that says so, as Istio's metadata names it; empty for none.
    """

    clusters: tuple[tuple[str, int], ...]
    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    tls: bool = False
    idle: str = ""
    longest: str = ""
    tunnel: str = ""
    posted: bool = False
    by_source: bool = False
    resolving: str = ""
    port: int = 0
    unsure: bool = False
    origin: str = ""

    @property
    def way(self) -> Json:
        """How its TCP proxy passes connections on, as fields of that."""
        found: Json = {"idle_timeout": self.idle} if self.idle else {}
        if self.longest:
            found["max_downstream_connection_duration"] = self.longest
        if self.tunnel:
            found["tunneling_config"] = {"hostname": self.tunnel, **({"use_post": True} if self.posted else {})}
        if self.by_source:
            found["hash_policy"] = [{"source_ip": {}}]
        return found

    @property
    def match(self) -> Json:
        """The filter chain's match; empty for everything."""
        found: Json = {}
        if self.server_names:
            found["server_names"] = list(self.server_names)
        elif self.tls:
            found["transport_protocol"] = "tls"
        if self.subnets:
            found["prefix_ranges"] = [cidr(subnet) for subnet in self.subnets]
        return found


def chain(proxy: Proxy, route: TcpRoute) -> Json:
    """The filter chain of a route."""
    found: Json = {"filters": [tcp_proxy(proxy, route.clusters[0][0], list(route.clusters), way=route.way)]}
    if route.resolving:
        found["filters"].insert(
            0, extension(*_BY_SERVER_NAME, port_value=route.port, dns_cache_config=by_name(route.resolving))
        )
    if route.unsure:
        found["filters"].insert(0, _RAW_BYTES)
    if route.match:
        found["filter_chain_match"] = route.match
    if route.origin:
        found["metadata"] = {"filter_metadata": {"istio": {"config": route.origin}}}
    return found


def tcp_routes(site: Site, service: Service, port: Port, *, by_name: bool = False) -> tuple[TcpRoute, ...]:
    """The routes for a TCP or TLS port of a Service inside the mesh.

    Args:
        site: Where.
        service: The Service.
        port: Its port.
        by_name: Whether the port is shared, so that only the TLS server name tells the Service.
    """
    found: list[TcpRoute] = []
    tls = port.protocol in TLS_PROTOCOLS
    for virtual_service in site.scope.virtual_services:
        if MESH not in virtual_service.gateways or not (virtual_service.tcp or virtual_service.tls):
            continue
        if not any(within(service.host, host) for host in virtual_service.hosts):
            continue
        # Today a port is for one or the other: on one for TLS a `tcp` rule says nothing, and the other way round.
        found += tls_rules(site, virtual_service) if tls or site.legacy else []
        found += tcp_rules(site, virtual_service) if not tls or (site.legacy and not by_name) else []
    if not found or ((site.legacy or not tls) and all(route.match for route in found)):
        cluster = outbound_name(service.host, port.number)
        names = (service.host,) if by_name else ()
        found.append(_on_its_way(site, TcpRoute(((cluster, 1),), names), service, port))
    taken: set[Hashable] = set()
    return tuple(left for route in found if (left := untaken(route, taken)) is not None)


def untaken(route: TcpRoute, taken: set[Hashable], ranges: tuple[str, ...] = ()) -> TcpRoute | None:
    """The route for what none before it has: Envoy refuses two chains with one match, and what stands first is meant.

    Args:
        route: The route.
        taken: Who and where others before it are for; this one's are added.
        ranges: The addresses that it is for where it names none itself; empty for any.

    Returns:
        It with the addresses that are left; None where all that it is for is taken.
    """
    who = route.server_names or route.tls
    asked = {(who, *cidr(one).values()): one for one in route.subnets or ranges} or {(who,): ""}
    left = tuple(one for key, one in asked.items() if key not in taken)
    taken.update(asked)
    return replace(route, subnets=tuple(filter(None, left))) if left else None


def _on_its_way(site: Site, route: TcpRoute, service: Service | None, port: Port | None, subset: str = "") -> TcpRoute:
    """The route, with what the DestinationRule for its target says about connections as a whole."""
    if service is None or port is None:
        return route
    rule = site.scope.destination_rule(service)
    policy = policies.merged_policy(rule, subset, port, legacy=site.legacy)
    pool = (policy.get("connectionPool") or {}).get("tcp") or {}
    idle, longest = (duration(pool[key]) if pool.get(key) else "" for key in ("idleTimeout", "maxConnectionDuration"))
    longest = "" if site.legacy else longest
    unsure = port.protocol == "AUTO" and not service.external
    route = replace(route, idle=idle, longest=longest, by_source=policies.source_hashed(policy), unsure=unsure)
    if service.resolution == "DYNAMIC_DNS":
        route = replace(route, resolving=service.host, port=port.number)
    tunnel = policy.get("tunnel")
    if not tunnel:
        return route
    host = tunnel.get("targetHost") or ""
    target = f"[{host}]" if ":" in host else host
    posted = (tunnel.get("protocol") or "CONNECT").upper() == "POST"
    return replace(route, tunnel=f"{target}:{tunnel.get('targetPort')}", posted=posted)


def _routed(
    site: Site,
    virtual_service: VirtualService,
    rule: TCPRoute | TLSRoute,
    *,
    names: tuple[str, ...] = (),
    subnets: tuple[str, ...] = (),
    tls: bool = False,
) -> TcpRoute:
    """The route to a rule's targets; on what is said of connections as a whole, the first of several decides."""
    targets = shares(rule.get("route") or [])
    ways = [(destination(site, target["destination"]), target["destination"], weight) for target, weight in targets]
    origin = made_by("virtual-service", virtual_service.namespace, virtual_service.name, legacy=site.legacy)
    clusters = tuple((found[0], weight) for found, _, weight in ways)
    route = TcpRoute(clusters, names, subnets, tls, origin=origin)
    (_, service, port), first, _ = ways[0]
    # A tunnel is the listener's, not the cluster's: among several targets no subset's own counts.
    return _on_its_way(site, route, service, port, first.get("subset") or "" if len(ways) == 1 else "")


def tcp_rules(site: Site, virtual_service: VirtualService) -> list[TcpRoute]:
    """The routes of a VirtualService's `tcp`; the first that catches all is the last."""
    found: list[TcpRoute] = []
    for rule in virtual_service.tcp:
        for match in rule.get("match") or [{}]:
            if not site.takes(match):
                continue
            route = _routed(site, virtual_service, rule, subnets=tuple(match.get("destinationSubnets") or ()))
            found.append(route)
            if not route.match:
                return found
    return found


def tls_rules(site: Site, virtual_service: VirtualService) -> list[TcpRoute]:
    """The routes of a VirtualService's `tls`, chosen by server name."""
    found: list[TcpRoute] = []
    for rule in virtual_service.tls:
        for match in rule.get("match") or []:
            if not site.takes(match):
                continue
            names = tuple(name for name in match.get("sniHosts") or [] if name != "*")
            subnets = tuple(match.get("destinationSubnets") or ())
            found.append(_routed(site, virtual_service, rule, names=names, subnets=subnets, tls=True))
    return found
