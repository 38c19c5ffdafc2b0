# SPDX-License-Identifier: Apache-2.0
"""Gateways: the servers of Gateway objects that select a proxy, and the VirtualServices bound to them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.ground.hosts import fqdn, scoped, within
from labkit.ground.labels import selects
from labkit.ground.routing import VirtualService
from meshbox.doors import peer_check
from meshbox.mesh.envoy import BLACK_HOLE, Json, extension
from meshbox.mesh.gateway_api.binding import chosen
from meshbox.mesh.http_routes import Site, http_routes
from meshbox.mesh.kinds import GATEWAYS
from meshbox.mesh.listeners import listener
from meshbox.mesh.managers import Proxy, http_manager, tcp_proxy
from meshbox.mesh.matches import catches_all
from meshbox.mesh.snapshot import Scope
from meshbox.mesh.tcp_routes import chain, tcp_rules, tls_rules
from meshbox.mesh.transport import gateway_tls
from meshbox.mesh.virtual_hosts import unique_domains

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import Gateway, Server, ServerTLS

__all__ = ["gateway"]


_TLS_INSPECTOR = extension(
    "envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
)
_HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})


@dataclass(frozen=True)
class _Server:
    gateway: Gateway
    server: Server

    @property
    def number(self) -> int:
        return int(self.server["port"]["number"])

    @property
    def protocol(self) -> str:
        return str(self.server["port"].get("protocol") or "HTTP").upper()

    @property
    def key(self) -> str:
        meta = self.gateway["metadata"]
        return f"{meta['namespace']}/{meta['name']}"

    @property
    def terminates(self) -> bool:
        """Whether HTTP is spoken to the client, over TLS or not."""
        return self.protocol in _HTTP or (self.protocol == "HTTPS" and gateway_tls(self.tls, http=True) is not None)

    @property
    def tls(self) -> ServerTLS:
        return self.server.get("tls") or {}

    def hosts(self) -> list[tuple[str, str]]:
        """Its hosts, each with the namespace whose VirtualServices may claim it ("*" for any)."""
        found = []
        for host in self.server.get("hosts") or []:
            own = self.gateway["metadata"]["namespace"]
            namespace, name = scoped(host, own)
            found.append((namespace, fqdn(name, own)))
        return found


def gateway(proxy: Proxy, scope: Scope) -> tuple[dict[str, Json], dict[str, list[Json]]]:
    """The listeners of a gateway's proxy by name, and its route tables (name → virtual hosts)."""
    listeners: dict[str, Json] = {}
    tables: dict[str, list[Json]] = {}
    by_port: dict[int, list[_Server]] = defaultdict(list)
    for obj in proxy.snapshot.all(GATEWAYS):
        if not selects(obj["spec"].get("selector"), proxy.workload.labels) or not chosen(obj, proxy.workload):
            continue
        for server in obj["spec"].get("servers") or []:
            number = int(server["port"]["number"])
            if not (number < 1024 and proxy.workload.unprivileged):
                by_port[number].append(_Server(obj, server))
    for number, servers in sorted(by_port.items()):
        plain = [s for s in servers if s.protocol in _HTTP]
        if plain:
            # Plain HTTP cannot share a port with anything else; the older objects came first.
            table = f"http.{number}"
            chains = [{"filters": [_manager(proxy, number, table)]}]
            tables[table] = _virtual_hosts(proxy, scope, number, plain)
        else:
            chains = _chains(proxy, scope, number, servers, tables)
        if chains:
            chains = [{**made, "filters": [*peer_check(), *made["filters"]]} for made in chains]
            name = f"0.0.0.0_{number}"
            secure = any("filter_chain_match" in made for made in chains)
            extra: Json = {"listener_filters": [_TLS_INSPECTOR]} if secure else {}
            port = proxy.snapshot.plan.port(number)
            listeners[name] = listener(name, proxy.workload.ip, port, "OUTBOUND", chains, **extra)
    return listeners, tables


def _manager(proxy: Proxy, number: int, table: str) -> Json:
    return http_manager(proxy, "gateway", f"outbound_0.0.0.0_{number}", table)


def _chains(
    proxy: Proxy, scope: Scope, number: int, servers: list[_Server], tables: dict[str, list[Json]]
) -> list[Json]:
    chains: list[Json] = []
    seen: set[str] = set()
    for server in servers:
        for made in _server_chains(proxy, scope, number, server, tables):
            key = repr(sorted(made.get("filter_chain_match", {}).items()))
            if key not in seen:
                seen.add(key)
                chains.append(made)
    return chains


def _server_chains(
    proxy: Proxy, scope: Scope, number: int, server: _Server, tables: dict[str, list[Json]]
) -> list[Json]:
    meta = server.gateway["metadata"]
    names = [host for _, host in server.hosts() if host != "*"]
    match: Json = {"server_names": names} if names else {}
    if server.terminates:
        table = f"https.{number}.{server.server['port'].get('name', '')}.{meta['name']}.{meta['namespace']}"
        tables[table] = _virtual_hosts(proxy, scope, number, [server])
        if not _secrets_there(proxy, server):
            return []
        made: Json = {"filters": [_manager(proxy, number, table)]}
        made["transport_socket"] = gateway_tls(server.tls, http=True)
        # Without server names a chain takes all of TLS; it still must not take plain text.
        made["filter_chain_match"] = match or {"transport_protocol": "tls"}
        return [made]
    found: list[Json] = []
    site = _site(proxy, scope, number, server)
    for virtual_service in _bound(scope, server):
        routes = [*tls_rules(site, virtual_service), *tcp_rules(site, virtual_service)]
        found += [chain(proxy, route) for route in routes]
    if server.protocol == "TLS" and (socket := gateway_tls(server.tls, http=False)) is not None:
        if not _secrets_there(proxy, server):
            return []
        for made in found:
            made["transport_socket"] = socket
            made.setdefault("filter_chain_match", match or {"transport_protocol": "tls"})
    elif not found and server.protocol == "TCP":
        found.append({"filters": [tcp_proxy(proxy, BLACK_HOLE, [(BLACK_HOLE, 1)])]})
    return found


def _secrets_there(proxy: Proxy, server: _Server) -> bool:
    """Whether the credential that a server names exists: without it Istio leaves that server out."""
    name = server.tls.get("credentialName")
    # What the Gateway API names with its scheme was looked at when its listener was read.
    return not name or "://" in name or (proxy.workload.namespace, name) in proxy.snapshot.secrets


def _site(proxy: Proxy, scope: Scope, number: int, server: _Server) -> Site:
    return Site(scope, number, proxy.workload.labels, server.key, proxy.legacy)


def _bound(scope: Scope, server: _Server) -> list[VirtualService]:
    """The VirtualServices that name the server's Gateway and share a host with it."""
    return [one for one in scope.virtual_services if server.key in one.gateways and _common_hosts(one, server)]


def _common_hosts(virtual_service: VirtualService, server: _Server) -> list[str]:
    """The hosts that a VirtualService and a server agree on: of each pair the more specific."""
    found: list[str] = []
    for host in virtual_service.hosts:
        for owner, offered in server.hosts():
            if owner not in ("*", virtual_service.namespace):
                continue
            if within(host, offered):
                found.append(host)
            elif within(offered, host):
                found.append(offered)
    return list(dict.fromkeys(found))


def _virtual_hosts(proxy: Proxy, scope: Scope, number: int, servers: list[_Server]) -> list[Json]:
    hosts: dict[str, Json] = {}
    for server in servers:
        redirect = bool(server.tls.get("httpsRedirect"))
        for virtual_service in _bound(scope, server):
            site = _site(proxy, scope, number, server)
            routes = http_routes(site, virtual_service)
            if not routes:
                continue
            for host in _common_hosts(virtual_service, server):
                entry = hosts.setdefault(host, _virtual_host(proxy, host, number))
                entry["routes"] = _in_order([*entry["routes"], *routes])
                if redirect:
                    entry["require_tls"] = "ALL"
        if redirect:
            for _, host in server.hosts():
                entry = hosts.setdefault(host, _virtual_host(proxy, host, number))
                entry["require_tls"] = "ALL"
    if not hosts:
        missing: Json = {"match": {"prefix": "/"}, "direct_response": {"status": 404}}
        return [{"name": f"blackhole:{number}", "domains": ["*"], "routes": [missing]}]
    return unique_domains(hosts.values())


def _virtual_host(proxy: Proxy, host: str, number: int) -> Json:
    domains = ["*"] if host == "*" else [host, f"{host}:{number}"]
    if host != "*" and not proxy.legacy:
        # Today the port in a Host header does not matter; a node port would otherwise never match.
        domains = [host, f"{host}:*"] if not host.startswith("*") else [host]
    return {"name": f"{host}:{number}", "domains": domains, "routes": [], "include_request_attempt_count": True}


def _in_order(routes: list[Json]) -> list[Json]:
    """Routes of several VirtualServices for one host: what takes everything goes last."""
    return [r for r in routes if not catches_all(r["match"])] + [r for r in routes if catches_all(r["match"])]
