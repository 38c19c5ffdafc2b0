# SPDX-License-Identifier: Apache-2.0
"""Listeners of a sidecar for what its application calls; `inbound` has those for what calls its application.

Nothing is redirected by iptables here. The application's calls arrive at a Unix socket in the pod's own folder, which
nobody else can open, with the address that was called told in a PROXY protocol header, and are handed to the virtual
listener of that address as after a redirect. Programs that know of HTTP proxies only find one at the pod's own
localhost:15001.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from meshbox.doors import CAPTURE_SOCKET, peer_check
from meshbox.mesh import clusters
from meshbox.mesh.envoy import BLACK_HOLE, PASSTHROUGH, Json, address, cidr, encode, extension, typed
from meshbox.mesh.http_routes import Site
from meshbox.mesh.managers import Proxy, http_manager, tcp_proxy
from meshbox.mesh.model import TLS_PROTOCOLS, Port, Service
from meshbox.mesh.original import WHERE
from meshbox.mesh.scope import Scope
from meshbox.mesh.tcp_routes import TcpRoute, chain, tcp_routes, untaken
from meshbox.mesh.virtual_hosts import HTTP_PROXY, elsewhere

__all__ = ["CAPTURE_PORT", "HTTP_INSPECTOR", "PROXY_PROTOCOL", "TLS_INSPECTOR", "listener", "outbound"]


CAPTURE_PORT = 15001

_LISTENER = "envoy.config.listener.v3.Listener"
TLS_INSPECTOR = extension(
    "envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
)
HTTP_INSPECTOR = extension(
    "envoy.filters.listener.http_inspector", "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
)
PROXY_PROTOCOL = extension(
    "envoy.filters.listener.proxy_protocol",
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
)


def listener(name: str, host: str, port: int, direction: str, chains: list[Json], **fields: Any) -> Json:
    """A listener."""
    return typed(
        _LISTENER, name=name, address=address(host, port), traffic_direction=direction, filter_chains=chains, **fields
    )


def outbound(proxy: Proxy, scope: Scope) -> dict[str, bytes]:
    """The listeners for what the application calls, by name."""
    same, snapshot = proxy.same, proxy.snapshot
    key = ("outbound", same, scope.key, snapshot.capturing, scope.inside_tcp)
    made: dict[str, bytes] = snapshot.memo(key, lambda: _outbound(proxy, scope))
    return made


def _outbound(proxy: Proxy, scope: Scope) -> dict[str, bytes]:
    memo = proxy.snapshot.memo
    same = proxy.same
    found = {
        "virtualOutbound": memo(
            ("capture", same, _nowhere(scope), tuple(scope.shifted.items())), lambda: encode(_capture(proxy, scope))
        ),
        HTTP_PROXY: memo(
            (HTTP_PROXY, same, bool(scope.beyond)), lambda: encode(_http_proxy(proxy, told=bool(scope.beyond)))
        ),
        "0.0.0.0_80": _shared_listener(proxy, scope, 80),
    }
    for service in scope.services:
        for port in service.ports:
            if port.protocol == "UDP" or port.number == CAPTURE_PORT:
                continue
            if port.http or _by_name_only(service, port):
                # HTTP ports are shared by all their hosts.
                name = f"0.0.0.0_{port.number}"
                if name not in found:
                    found[name] = _shared_listener(proxy, scope, port.number)
                continue
            for name, plan in _tcp_plans(proxy, scope, service, port):
                # Of two TCP Services at one address the first is served.
                if name not in found:
                    found[name] = _tcp_listener(proxy, name, plan())
    return found


# Most listeners of a sidecar are alike but for names and a number, and each is long: one of a kind is made, the others
# are copies of its bytes with these replaced.
_NAME, _HOST, _CLUSTER, _PORT, _NUMBER = "@name@", "@host@", "@cluster@", "@port@", "@number@"


def _filled(template: bytes, name: str, cluster: str = "") -> bytes:
    host, _, number = name.rpartition("_")
    for token, value in ((_NAME, name), (_HOST, host), (_CLUSTER, cluster), (_PORT, number)):
        template = template.replace(token.encode(), value.encode())
    return template.replace(f'"{_NUMBER}"'.encode(), number.encode())


def _http_listener(proxy: Proxy, port: int) -> bytes:
    def build() -> bytes:
        return encode(_virtual(_NAME, [{"filters": [_http(proxy, _PORT)]}]))

    key, memo = ("http", proxy.same), proxy.snapshot.memo
    return bytes(memo((key, port), lambda: _filled(memo(key, build), f"0.0.0.0_{port}")))


def _shared_listener(proxy: Proxy, scope: Scope, port: int) -> bytes:
    """The listener of a port of HTTP at every address; where hosts that are for bytes have the port, theirs as well."""
    if "for bytes" not in scope.cache:
        found = (one.number for service in scope.services for one in service.ports if _shares(service, one))
        scope.cache["for bytes"] = frozenset(found)
    # In Istio 1.2 a port was for what came first.
    if proxy.legacy or port not in scope.cache["for bytes"]:
        return _http_listener(proxy, port)
    return _tcp_listener(proxy, f"0.0.0.0_{port}", _shared_plan(Site(scope, port, proxy.workload.labels)))


def _tcp_listener(proxy: Proxy, name: str, plan: _TcpPlan) -> bytes:
    if not plan.routes and not plan.unsure:
        # Those for bytes speak first, and leave the port to HTTP.
        return _http_listener(proxy, int(name.rpartition("_")[2]))
    same = proxy.same
    memo = proxy.snapshot.memo
    plain = plan.only_cluster
    if not plain:
        return bytes(memo(("tcp", same, name, plan), lambda: _filled(encode(plan.listener(proxy)), name)))
    like = plan.leading_to(_CLUSTER)
    template = memo(("tcp", same, like), lambda: encode(like.listener(proxy)))
    return bytes(memo(("tcp", same, name, plan), lambda: _filled(template, name, plain)))


def _nowhere(scope: Scope) -> str:
    """The cluster for connections to what is no host of the mesh."""
    return BLACK_HOLE if scope.registry_only else elsewhere(scope, PASSTHROUGH)


def _to(proxy: Proxy, cluster: str, stat_prefix: str = "") -> Json:
    """The filter that leads all to one cluster; `stat_prefix`: how it is counted, where not by that name."""
    return tcp_proxy(proxy, stat_prefix or cluster, [(cluster, 1)])


def _capture(proxy: Proxy, scope: Scope) -> Json:
    nowhere = _nowhere(scope)
    chains: list[Json] = [
        {
            "name": "virtualOutbound-blackhole",
            "filter_chain_match": {"destination_port": CAPTURE_PORT},
            "filters": [_to(proxy, BLACK_HOLE)],
        },
        *(
            {
                "name": f"virtualOutbound-{number}",
                "filter_chain_match": {"destination_port": number, "prefix_ranges": [cidr(one) for one in addresses]},
                "filters": [_to(proxy, clusters.passthrough_name(number), PASSTHROUGH)],
            }
            for number, (_, addresses) in scope.shifted.items()
        ),
        {"name": "virtualOutbound-catchall-tcp", "filters": [_to(proxy, nowhere)]},
    ]
    return typed(
        _LISTENER,
        name="virtualOutbound",
        # Relative to Envoy's working directory: a path from the root could be too long for a socket.
        address={"pipe": {"path": CAPTURE_SOCKET, "mode": 0o600}},
        traffic_direction="OUTBOUND",
        filter_chains=chains,
        use_original_dst=True,
        listener_filters=[PROXY_PROTOCOL],
    )


def _http_proxy(proxy: Proxy, *, told: bool) -> Json:
    """For programs that only know how to ask an HTTP proxy, such as curl; `told`: routes may say an address."""
    by_name = extension(
        "envoy.filters.http.dynamic_forward_proxy",
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
        dns_cache_config=clusters.DNS_CACHE,
    )
    filters = [*([WHERE] if told else []), by_name]
    manager = http_manager(proxy, "outbound", HTTP_PROXY, HTTP_PROXY, filters=filters, tunnels=True)
    chain: Json = {
        "name": HTTP_PROXY,
        # An application calls from 127.0.0.1, this Envoy from the pod IP: so it can never call itself in a circle.
        "filter_chain_match": {"source_prefix_ranges": [cidr("127.0.0.1")]},
        "filters": [*peer_check(), manager],
    }
    return listener(HTTP_PROXY, proxy.local, CAPTURE_PORT, "OUTBOUND", [chain])


def _virtual(name: str, chains: list[Json], **fields: Any) -> Json:
    """A listener that binds nothing: connections are handed to it by the address they were meant for."""
    where = {"socket_address": {"address": _HOST, "port_value": _NUMBER}}
    direction = {"traffic_direction": "OUTBOUND", "bind_to_port": False}
    return typed(_LISTENER, name=name, address=where, filter_chains=chains, **direction, **fields)


def _http(proxy: Proxy, table: str) -> Json:
    return http_manager(proxy, "outbound", f"outbound_0.0.0.0_{table}", table)


class _TcpPlan(Struct, frozen=True):
    """A virtual listener for bytes.

    Args:
        routes: Its chains.
        unsure: More of them, for what turns out to be no HTTP: that is routed by the port's table.
        ranges: The addresses for which there are such, on a port that others share; empty for all.
        nowhere: Where the rest goes on a port that hosts without an address share; empty where there is no rest.
        http: Whether hosts of HTTP have the port too: it is looked for at every address that no chain has.
    """

    routes: tuple[TcpRoute, ...]
    unsure: tuple[TcpRoute, ...] = ()
    ranges: tuple[str, ...] = ()
    nowhere: str = ""
    http: bool = False

    @property
    def only_cluster(self) -> str:
        """The cluster of a plan with one route to one cluster; empty otherwise."""
        found = [name for route in (*self.routes, *self.unsure) for name, _ in route.clusters]
        return found[0] if len(found) == 1 else ""

    def leading_to(self, cluster: str) -> _TcpPlan:
        """The same with another cluster in the place of its only one."""
        routes, unsure = (
            tuple(replace(route, clusters=((cluster, 1),)) for route in each) for each in (self.routes, self.unsure)
        )
        return replace(self, routes=routes, unsure=unsure)

    def listener(self, proxy: Proxy) -> Json:
        """The listener, its name and address still to be filled in."""
        unsure = [replace(route, unsure=True) for route in self.unsure]
        chains = [chain(proxy, route) for route in (*unsure, *self.routes)]
        if self.nowhere:
            chains.append({"filters": [_to(proxy, self.nowhere)]})
        inspectors = []
        if any(route.server_names or route.tls for route in (*self.unsure, *self.routes)):
            inspectors.append(TLS_INSPECTOR)
        # Envoy looks at addresses first: where a chain has some, HTTP needs one that has them too.
        looked_at = [self.ranges] if self.unsure else []
        looked_at += [()] if self.http and () not in looked_at else []
        for ranges in looked_at:
            match: Json = {"application_protocols": proxy.spoken}
            match |= {"prefix_ranges": [cidr(one) for one in ranges]} if ranges else {}
            chains.insert(0, {"name": "http", "filter_chain_match": match, "filters": [_http(proxy, _PORT)]})
        if looked_at:
            inspectors.append(HTTP_INSPECTOR)
        extra: Json = {}
        if inspectors:
            # A server that speaks first must not be kept waiting for a client that waits as well.
            extra = {"listener_filters": inspectors, "listener_filters_timeout": "0.1s"}
            extra["continue_on_listener_filters_timeout"] = True
        return _virtual(_NAME, chains, **extra)


def _tcp_plans(
    proxy: Proxy, scope: Scope, service: Service, port: Port
) -> Iterator[tuple[str, Callable[[], _TcpPlan]]]:
    """The virtual listeners that a port needs which is no HTTP: their names, and how each comes to be."""
    site = Site(scope, port.number, proxy.workload.labels, legacy=proxy.legacy)
    if service.headless:
        # The name of a headless Service stands for its pods: each is an address of its own.
        hosts = [endpoint.address for endpoint in service.endpoints.get(port.number, ())]
    else:
        hosts = [one for one in service.addresses if "/" not in one]
        hosts += [one for one in service.allocated if ":" not in one]

    def alone() -> _TcpPlan:
        routes = tcp_routes(site, service, port)
        if port.protocol == "AUTO":
            return _TcpPlan((), routes)
        # Where rules are only for some server names, the rest is nobody's.
        named = not proxy.legacy and all(route.match for route in routes)
        return _TcpPlan(routes, nowhere=_nowhere(scope) if named else "")

    for host in hosts:
        yield f"{host}_{port.number}", alone
    if not service.headless and (not service.addresses or _ranges(service)):
        yield f"0.0.0.0_{port.number}", lambda: _shared_plan(site)


def _by_name_only(service: Service, port: Port) -> bool:
    """Whether a port that may speak anything has no address at which it could be told from others."""
    return port.protocol == "AUTO" and not (service.addresses or service.headless)


def _shares(service: Service, port: Port) -> bool:
    """Whether a port is for bytes, at no address that is its Service's alone: that has a listener of its own."""
    if port.http or port.protocol == "UDP" or service.headless or _by_name_only(service, port):
        return False
    return not service.addresses or bool(_ranges(service))


def _ranges(service: Service) -> tuple[str, ...]:
    return tuple(one for one in service.addresses if "/" in one)


def _shared_plan(site: Site) -> _TcpPlan:
    """Hosts without an address of their own share a port: the ranges that ServiceEntries name tell them apart, and TLS
    does by server name; plain TCP cannot.
    """
    routes: list[TcpRoute] = []
    unsure: list[TcpRoute] = []
    taken: set[Hashable] = set()
    ports = [(one, own) for one in site.scope.at_port.get(site.port, ()) if (own := one.port(site.port)) is not None]
    http = not site.legacy and (site.port == 80 or any(own.http or _by_name_only(one, own) for one, own in ports))
    for service, own in ports:
        ranges = _ranges(service)
        # Such servers speak first, and wait for nobody to look for HTTP.
        if not _shares(service, own) or (http and own.protocol in ("MONGO", "MYSQL")):
            continue
        for route in tcp_routes(site, service, own, by_name=own.protocol in TLS_PROTOCOLS):
            if (left := untaken(route, taken, ranges)) is not None:
                # A rule's own addresses are for all that is sent there.
                (unsure if own.protocol == "AUTO" and not route.subnets else routes).append(left)
    nowhere = _nowhere(site.scope) if all(route.match for route in routes) else ""
    # A range may have a chain a server name, and is looked into once.
    looked_into = {tuple(cidr(one).values()): one for route in unsure for one in route.subnets}
    return _TcpPlan(tuple(routes), tuple(unsure), tuple(looked_into.values()), nowhere, http)
