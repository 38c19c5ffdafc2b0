# SPDX-License-Identifier: Apache-2.0
"""Gateways: the servers of Gateway objects that select a proxy, and the VirtualServices bound to them."""

from __future__ import annotations

from msgspec.structs import replace

from labkit.ground.hosts import within
from labkit.ground.routing import VirtualService
from meshbox.doors import peer_check
from meshbox.mesh.authorization import network_filters
from meshbox.mesh.auto_passthrough import passing_chains
from meshbox.mesh.envoy import Json
from meshbox.mesh.gateway_servers import Served, served_gateways
from meshbox.mesh.http_routes import Site, http_routes
from meshbox.mesh.listeners import PROXY_PROTOCOL, TLS_INSPECTOR, listener
from meshbox.mesh.managers import Proxy, filters_of, fronted, http_manager
from meshbox.mesh.matches import catches_all
from meshbox.mesh.scope import Scope
from meshbox.mesh.tcp_routes import TcpRoute, chain, tcp_rules, tls_rules
from meshbox.mesh.transport import gateway_tls
from meshbox.mesh.virtual_hosts import unique_domains

__all__ = ["gateway"]


def gateway(proxy: Proxy, scope: Scope) -> tuple[dict[str, Json], dict[str, list[Json]]]:
    """The listeners of a gateway's proxy by name, and its route tables (name → virtual hosts)."""
    listeners: dict[str, Json] = {}
    tables: dict[str, list[Json]] = {}
    # How long a client may take over its handshake.
    patience = {} if proxy.legacy else {"transport_socket_connect_timeout": "15s"}
    for (address, port), servers in sorted(served_gateways(proxy.snapshot, proxy.workload).listeners.items()):
        name, table = servers[0].listener, servers[0].table
        if servers[0].plain_http:
            chains: list[Json] = [{"filters": [_manager(proxy, port, table, protocol=servers[0].protocol)]}]
            tables[table] = _virtual_hosts(proxy, scope, servers)
        else:
            chains = _chains(proxy, scope, servers, tables)
        if chains:
            chains = [{**made, **patience, "filters": [*peer_check(), *made["filters"]]} for made in chains]
            secure = any("filter_chain_match" in made for made in chains)
            first = [*([PROXY_PROTOCOL] if fronted(proxy) else []), *([TLS_INSPECTOR] if secure else [])]
            extra: Json = {"listener_filters": first} if first else {}
            bound = proxy.snapshot.plan.port(port)
            listeners[name] = listener(name, address, bound, "OUTBOUND", chains, **extra)
    return listeners, tables


def _manager(proxy: Proxy, port: int, table: str, name: str = "", protocol: str = "") -> Json:
    more = filters_of(proxy, protocol)
    return http_manager(proxy, "gateway", name or f"outbound_0.0.0.0_{port}", table, filters=more)


def _chains(proxy: Proxy, scope: Scope, servers: list[Served], tables: dict[str, list[Json]]) -> list[Json]:
    chains: list[Json] = []
    taken: set[str] = set()
    for server in servers:
        for made in _server_chains(proxy, scope, server, tables):
            match = made.get("filter_chain_match", {})
            # Envoy refuses a listener of which two chains could mean one connection: what stands first is meant.
            names = set(match.get("server_names", [match.get("transport_protocol", "")]))
            if not names & taken:
                taken |= names
                chains.append(made)
    return chains


def _server_chains(proxy: Proxy, scope: Scope, server: Served, tables: dict[str, list[Json]]) -> list[Json]:
    # Without server names a chain takes all of TLS; it still must not take plain text.
    match: Json = {"server_names": server.names} if server.names else {"transport_protocol": "tls"}
    site = _site(proxy, scope, server)
    bound = _bound(scope, server)
    if server.tls.get("mode") == "AUTO_PASSTHROUGH":
        return list(passing_chains(proxy, scope, server))
    if not server.ends_tls:
        rules = tls_rules if server.secure else tcp_rules
        routes = [route for one in bound for route in rules(site, one)]
        return [_raw(proxy, route) for route in (routes if server.secure else routes[:1])]
    socket = gateway_tls(server.tls, proxy.snapshot.mesh, http=server.speaks_http)
    if server.speaks_http:
        tables[server.table] = _virtual_hosts(proxy, scope, [server])
        manager = _manager(proxy, server.port, server.table, server.server.get("name") or "")
        return [{"filters": [manager], "filter_chain_match": match, "transport_socket": socket}]
    first = next((route for one in bound for route in tcp_rules(site, one)), None)
    if first is None:
        return []
    return [{**_raw(proxy, first), "filter_chain_match": match, "transport_socket": socket}]


def _raw(proxy: Proxy, route: TcpRoute) -> Json:
    """The chain of a route for bytes, behind the rules for whoever may come."""
    # A gateway's connections come to its own address: where else they were going means nothing here.
    made = chain(proxy, replace(route, subnets=()))
    rules = network_filters(proxy.snapshot, proxy.workload)
    return {**made, "filters": [*rules, *made["filters"]]}


def _site(proxy: Proxy, scope: Scope, server: Served) -> Site:
    return Site(scope, server.number, proxy.workload.labels, server.key, proxy.legacy, server.protocol == "HTTPS")


def _bound(scope: Scope, server: Served) -> list[VirtualService]:
    """The VirtualServices that name the server's Gateway and share a host with it."""
    return [one for one in scope.virtual_services if server.key in one.gateways and _common_hosts(one, server)]


def _common_hosts(virtual_service: VirtualService, server: Served) -> list[str]:
    """The hosts that a VirtualService and a server agree on: of each pair the more specific."""
    found: list[str] = []
    for host in virtual_service.hosts:
        for owner, offered in server.hosts:
            if owner not in ("*", virtual_service.namespace):
                continue
            if within(host, offered):
                found.append(host)
            elif within(offered, host):
                found.append(offered)
    return list(dict.fromkeys(found))


def _virtual_hosts(proxy: Proxy, scope: Scope, servers: list[Served]) -> list[Json]:
    hosts: dict[str, Json] = {}
    said: set[tuple[str, str, VirtualService]] = set()
    for server in servers:
        redirect = bool(server.tls.get("httpsRedirect"))
        for virtual_service in _bound(scope, server):
            routes = http_routes(_site(proxy, scope, server), virtual_service)
            if not routes:
                continue
            for host in _common_hosts(virtual_service, server):
                entry = hosts.setdefault(host, _virtual_host(proxy, host, server.number))
                if (host, server.key, virtual_service) not in said:
                    # Two servers of one Gateway may lead to one port.
                    said.add((host, server.key, virtual_service))
                    entry["routes"] = _in_order([*entry["routes"], *routes])
                if redirect:
                    entry["require_tls"] = "ALL"
        if redirect:
            for (_, host), written in zip(server.hosts, server.server.get("hosts") or (), strict=True):
                if "/" in written and host not in hosts and not proxy.legacy:
                    # As in Istio, where such a host with no VirtualService is looked for as it is written.
                    continue
                entry = hosts.setdefault(host, _virtual_host(proxy, host, server.number))
                entry["require_tls"] = "ALL"
    if not hosts:
        # In 2019 this was an answer of the route's; today there is no route, so that Envoy logs NR.
        missing: list[Json] = [{"match": {"prefix": "/"}, "direct_response": {"status": 404}}] if proxy.legacy else []
        return [{"name": f"blackhole:{servers[0].number}", "domains": ["*"], "routes": missing}]
    return unique_domains(hosts.values())


def _virtual_host(proxy: Proxy, host: str, number: int) -> Json:
    # Today the port in a Host header does not matter, as the table says.
    domains = [host, f"{host}:{number}"] if proxy.legacy and host != "*" else [host]
    return {"name": f"{host}:{number}", "domains": domains, "routes": [], "include_request_attempt_count": True}


def _in_order(routes: list[Json]) -> list[Json]:
    """Routes of several VirtualServices for one host: what takes everything goes last."""
    return [r for r in routes if not catches_all(r["match"])] + [r for r in routes if catches_all(r["match"])]
