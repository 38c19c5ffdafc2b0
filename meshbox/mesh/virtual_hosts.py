# SPDX-License-Identifier: Apache-2.0
"""Route tables of sidecars: for each port of the mesh which host goes where, and what becomes of unknown hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from labkit.ground.hosts import DOMAIN, names_of_service, specificity, within
from labkit.ground.names import is_ip
from labkit.ground.routing import MESH
from meshbox.mesh.clusters import BLACK_HOLE_TUNNEL, HTTP_PROXY_PASSTHROUGH, outbound_name, passthrough_name
from meshbox.mesh.envoy import BLACK_HOLE, PASSTHROUGH, Json
from meshbox.mesh.http_routes import Site, default_route, destination, http_routes
from meshbox.mesh.model import Port, Service
from meshbox.mesh.original import meant
from meshbox.mesh.scope import Scope
from meshbox.mesh.semantics import of_gateway_api
from meshbox.mesh.tcp_routes import TcpRoute, tcp_routes

__all__ = ["HTTP_PROXY", "elsewhere", "outbound_tables", "service_domains", "unique_domains"]


_GRPC = {"max_grpc_timeout": "0s"}

HTTP_PROXY = "http_proxy"
"""The route table of the HTTP proxy port, which serves every port of every host."""


def service_domains(service: Service, namespace: str) -> list[str]:
    """The names under which proxies in `namespace` know a Service, without ports."""
    names = [service.host]
    # A ServiceEntry may add a port to a Service: what counts is the host's form, whoever says it.
    name, _, rest = service.host.partition(".")
    where = rest.removesuffix(f".{DOMAIN}")
    if where != rest and "." not in where and name != "*":
        names = names_of_service(name, where)
        if where == namespace:
            names.insert(1, name)
    return [*names, *(a for a in (*service.addresses, *service.allocated) if "/" not in a and ":" not in a)]


def unique_domains(hosts: Iterable[Json]) -> list[Json]:
    """The virtual hosts, each domain kept where it comes first: Envoy refuses a table that names one twice.

    They are by name, as Istio has them in both releases, and what no rule takes is last.
    """
    seen: set[str] = set()
    kept = []
    for host in hosts:
        domains = [d for d in dict.fromkeys(host["domains"]) if d.lower() not in seen]
        seen.update(d.lower() for d in domains)
        if domains:
            kept.append({**host, "domains": domains})
    return sorted(kept, key=lambda host: (host["name"] in ("allow_any", "block_all"), host["name"]))


def outbound_tables(scope: Scope, labels: Mapping[str, str], *, legacy: bool) -> dict[str, list[Json]]:
    """Route table name → virtual hosts: one table a port that HTTP is spoken on, and one for the HTTP proxy port."""
    ports = sorted({p.number for s in scope.services for p in s.ports if p.http or p.protocol == "AUTO"} | {80})
    tables: dict[str, list[Json]] = {}
    everything: list[Json] = []
    for number in ports:
        site = Site(scope, number, labels, legacy=legacy, same_port=not legacy)
        hosts = _hosts_of_port(site)
        unknown = _unknown(scope, elsewhere(scope, PASSTHROUGH), legacy=legacy)
        more = _shifted(scope, number, legacy=legacy) if number in scope.shifted else ()
        tables[str(number)] = unique_domains([*(_with_ports(h, number) for h in (*hosts, *more)), unknown])
        everything += [_only_with_port(h, number) for h in hosts]
    by_name = elsewhere(scope, HTTP_PROXY_PASSTHROUGH)
    unknown = _unknown(scope, by_name, legacy=legacy)
    # `CONNECT host:443`, with which a client asks an HTTP proxy for a connection it then speaks TLS on. Where it must
    # not go, it ends as any captured connection does: once it is there.
    unknown["routes"] = [_tunnel(_to(BLACK_HOLE_TUNNEL if scope.registry_only else by_name)), *unknown["routes"]]
    tunnels = _tunnels(scope, labels, legacy=legacy)
    tables[HTTP_PROXY] = unique_domains([*everything, *tunnels, *_beyond(scope, legacy=legacy), unknown])
    return tables


def elsewhere(scope: Scope, passthrough: str) -> str:
    """The cluster for what is no host of the mesh: a Sidecar's `egressProxy`, else `passthrough`."""
    if scope.egress_proxy is None:
        return passthrough
    return destination(Site(scope, 0), scope.egress_proxy)[0]


def _beyond(scope: Scope, *, legacy: bool) -> list[Json]:
    """What the cluster serves though the mesh does not tell the proxy of it: passed on to where its name leads."""
    return [
        _only_with_port(
            {
                **_unknown(scope, PASSTHROUGH, meant(where), legacy=legacy),
                "name": f"allow_any|{service.host}:{port.number}",
                "domains": service_domains(service, scope.namespace),
            },
            port.number,
        )
        for service, port, where in scope.beyond
        if port.http or port.protocol == "AUTO"
    ]


def _shifted(scope: Scope, number: int, *, legacy: bool) -> Iterator[Json]:
    """The same for captured calls, where a port is really another than the one that was called."""
    for service, port, _ in scope.beyond:
        if port.number == number:
            host = _unknown(scope, passthrough_name(number), legacy=legacy)
            domains = service_domains(service, scope.namespace)
            yield {**host, "name": f"allow_any|{service.host}:{number}", "domains": domains}


def _tunnels(scope: Scope, labels: Mapping[str, str], *, legacy: bool) -> Iterator[Json]:
    """Ports that are no HTTP can be asked of the HTTP proxy port as well: as tunnels.

    Whoever asks for one says its name to the server too: so the rules for server names, and for bytes, are for tunnels
    as they are for the connections that are captured.
    """
    beside: dict[str, Json] = {}
    for service in scope.services:
        own = service_domains(service, scope.namespace)
        # At an address that is its own no other name is looked for.
        shared = not service.headless and (not service.addresses or any("/" in one for one in service.addresses))
        for port in service.ports:
            if port.http or port.protocol in ("AUTO", "UDP"):
                continue
            at = f"{service.host}:{port.number}"
            plain = _to(BLACK_HOLE_TUNNEL if scope.registry_only else outbound_name(service.host, port.number))
            site = Site(scope, port.number, labels, legacy=legacy)
            # An address that a rule asks for is not known of a name.
            routes = [one for one in tcp_routes(site, service, port) if not one.subnets]
            ways: dict[TcpRoute, list[str]] = {}
            for name in own:
                ways.setdefault(_by_server_name(routes, name) or plain, []).append(f"{name}:{port.number}")
            for way, domains in ways.items():
                name = at if domains[0] == at else f"{domains[0]}|{at}"
                yield {"name": name, "domains": domains, "routes": [_tunnel(way)]}
            for name in dict.fromkeys(name for one in routes for name in one.server_names if name not in own):
                if (shared or within(name, service.host)) and (route := _by_server_name(routes, name)):
                    domain = f"{name}:{port.number}"
                    host = {"name": f"{domain}|{at}", "domains": [domain], "routes": [_tunnel(route)]}
                    beside.setdefault(domain, host)
    yield from beside.values()


def _to(cluster: str) -> TcpRoute:
    return TcpRoute(((cluster, 1),))


def _by_server_name(routes: list[TcpRoute], name: str) -> TcpRoute | None:
    """The route that a listener takes for a server name: that of the most specific one, else the one for any."""
    found = [(one, route) for route in routes for one in route.server_names or ("*",) if within(name, one)]
    return max(found, key=lambda each: specificity(each[0]))[1] if found else None


def _tunnel(route: TcpRoute) -> Json:
    # A DestinationRule's `tunnel` asks what is there for one in turn, as for a connection that is captured: by CONNECT,
    # since Envoy cannot make a POST of one.
    onward = route.tunnel and not route.posted
    upgrade = {"upgrade_type": "CONNECT", **({} if onward else {"connect_config": {}})}
    shares = [{"name": name, "weight": weight} for name, weight in route.clusters]
    target: Json = {"weighted_clusters": {"clusters": shares}} if shares[1:] else {"cluster": shares[0]["name"]}
    action: Json = {**target, "timeout": "0s", "upgrade_configs": [upgrade]}
    if onward:
        action["host_rewrite_literal"] = route.tunnel
    found: Json = {"name": "tunnel", "match": {"connect_matcher": {}}, "route": action}
    return {**found, "metadata": {"filter_metadata": {"istio": {"config": route.origin}}}} if route.origin else found


def _hosts_of_port(site: Site) -> list[Json]:
    scope = site.scope
    found: list[Json] = []
    # Today another name of a Service is routed as the Service is, on all of its ports; Istio 1.2 knew it as a host.
    aliases = {} if site.legacy else scope.aliases
    others = {id(alias) for each in aliases.values() for alias in each}
    for service in scope.at_port.get(site.port, ()):
        port = service.port(site.port)
        if port is None or not (port.http or port.protocol == "AUTO"):
            continue
        if id(service) in others:
            if _ruled(site, service.host):
                # A VirtualService for another name speaks for that name alone.
                found.insert(0, _service_host(site, service, port))
            continue
        host = _service_host(site, service, port)
        for alias in aliases.get(service.host, ()):
            host["domains"] += service_domains(alias, scope.namespace)
        found.append(host)
        if service.headless:
            found += _pods(site, service, port)
    if site.legacy:
        return found + (_on_port_80(site) if site.port == 80 else [])
    return [*map(_absolute, found), *_hosts_without_service(site)]


def _absolute(host: Json) -> Json:
    """Whoever asks for the whole name, with a dot at its end, means the same host."""
    name = host["domains"][0]
    return host if name == "*" or is_ip(name) else {**host, "domains": [name, f"{name}.", *host["domains"][1:]]}


def _ruled(site: Site, host: str) -> list[Json]:
    """The routes that VirtualServices have for a host; empty for none."""
    # One of which nothing applies here (other gateways, callers, ports) leaves it to the next one.
    return next((found for one in site.scope.routed.of(host) if (found := http_routes(site, one))), [])


def _service_host(site: Site, service: Service, port: Port) -> Json:
    return {
        "name": f"{service.host}:{port.number}",
        "domains": service_domains(service, site.scope.namespace),
        "routes": _ruled(site, service.host) or [default_route(site, service, port)],
        "include_request_attempt_count": True,
    }


def _pods(site: Site, service: Service, port: Port) -> Iterator[Json]:
    """The pods of a headless Service that have names of their own, such as a StatefulSet's."""
    for name in sorted({e.hostname for e in service.endpoints.get(port.number, ()) if e.hostname}):
        route = default_route(site, service, port)
        only = {"filter_metadata": {"envoy.lb": {"hostname": name}}}
        yield {
            "name": f"{name}.{service.host}:{port.number}",
            "domains": [f"{name}.{domain}" for domain in service_domains(service, site.scope.namespace)],
            "routes": [{**route, "route": {**route["route"], "metadata_match": only}}],
            "include_request_attempt_count": True,
        }


def _hosts_without_service(site: Site) -> Iterator[Json]:
    """The other hosts of VirtualServices: where one of its hosts has the port, and on port 80, by just the name that is
    written. A host that only has other ports is one of them.
    """
    scope = site.scope
    here = [one for one in scope.at_port.get(site.port, ()) if one.port(site.port)]
    speaking = [one for one in here if (port := one.port(site.port)) and (port.http or port.protocol == "AUTO")]
    # Where nobody has port 80, only hosts that no Service has are served there.
    known = here if speaking or site.port != 80 else scope.services
    ruling = {id(rule) for one in speaking for rule in scope.routed.of(one.host)}
    for rule in scope.virtual_services:
        if not rule.http or MESH not in rule.gateways or of_gateway_api(rule):
            continue
        if site.port != 80 and id(rule) not in ruling:
            continue
        others = [host for host in dict.fromkeys(rule.hosts) if not any(within(one.host, host) for one in known)]
        if others and (routes := http_routes(site, rule)):
            for host in others:
                yield {
                    "name": f"{host}:{site.port}",
                    "domains": [host],
                    "routes": routes,
                    "include_request_attempt_count": True,
                }


def _on_port_80(site: Site) -> list[Json]:
    """Hosts that only a VirtualService knows, as Istio 1.2 serves them."""
    found = []
    known = site.scope.by_host
    for virtual_service in site.scope.virtual_services:
        if not virtual_service.http or MESH not in virtual_service.gateways:
            continue
        namespace = virtual_service.namespace
        for host in virtual_service.hosts:
            if host in known or host == "*" or of_gateway_api(virtual_service):
                continue
            domains = [host]
            if host.endswith(f".{namespace}.{DOMAIN}") and namespace == site.scope.namespace:
                domains.append(host.removesuffix(f".{namespace}.{DOMAIN}"))
            found.append(
                {
                    "name": f"{host}:80",
                    "domains": domains,
                    "routes": http_routes(site, virtual_service),
                    "include_request_attempt_count": True,
                }
            )
    return found


def _with_ports(host: Json, number: int) -> Json:
    return {**host, "domains": [name for d in host["domains"] for name in _forms(d, number)]}


def _only_with_port(host: Json, number: int) -> Json:
    # A request through an HTTP proxy names its port unless it is 80.
    domains = [name for d in host["domains"] for name in (_forms(d, number) if number == 80 else [f"{d}:{number}"])]
    return {**host, "domains": domains}


def _forms(domain: str, number: int) -> list[str]:
    return [domain, f"{domain}:{number}"]


def _unknown(scope: Scope, cluster: str, filters: Json | None = None, *, legacy: bool) -> Json:
    if scope.registry_only:
        # Telemetry finds the word here, as there is no cluster.
        told = {"filter_metadata": {"istio": {"service_name": BLACK_HOLE}}}
        route: Json = {
            "name": "block_all",
            "match": {"prefix": "/"},
            "direct_response": {"status": 502},
            "metadata": told,
        }
        return {"name": "block_all", "domains": ["*"], "routes": [route]}
    return {
        "name": "allow_any",
        "domains": ["*"],
        "routes": [
            {
                "name": "allow_any",
                "match": {"prefix": "/"},
                "route": {
                    "cluster": cluster,
                    "timeout": "0s",
                    **({"max_stream_duration": {"grpc_timeout_header_max": "0s"}} if legacy else _GRPC),
                },
                **({"typed_per_filter_config": filters} if filters else {}),
            }
        ],
        "include_request_attempt_count": True,
    }
