"""Listeners of a sidecar: what its application calls, and what calls its application.

Nothing is redirected by iptables here. The application's calls arrive at the pod's own localhost:15001, with the
address that was called told in a PROXY protocol header, and are handed to the virtual listener of that address as after
a redirect. Calls to the pod arrive at the pod IP, where only the sidecar listens: the application itself binds the
pod's localhost.
"""

from __future__ import annotations

from typing import Any

from labkit.sandbox.mesh import clusters, transport
from labkit.sandbox.mesh.envoy import BLACK_HOLE, PASSTHROUGH, address, cidr, extension, typed
from labkit.sandbox.mesh.managers import Proxy, http_manager, tcp_proxy
from labkit.sandbox.mesh.model import TLS_PROTOCOLS, Port, Service
from labkit.sandbox.mesh.security import mtls_mode
from labkit.sandbox.mesh.snapshot import Scope
from labkit.sandbox.mesh.tcp_routes import chains_of
from labkit.sandbox.mesh.telemetry import Inbound
from labkit.sandbox.mesh.virtual_hosts import HTTP_PROXY

__all__ = ["CAPTURE_PORT", "application_ports", "inbound", "outbound"]

Json = dict[str, Any]

CAPTURE_PORT = 15001

_LISTENER = "envoy.config.listener.v3.Listener"
_TLS_INSPECTOR = extension(
    "envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
)
_HTTP_INSPECTOR = extension(
    "envoy.filters.listener.http_inspector", "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
)
_PROXY_PROTOCOL = extension(
    "envoy.filters.listener.proxy_protocol",
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    allow_requests_without_proxy_protocol=True,
)

_RESERVED = frozenset({15000, 15001, 15006, 15008, 15020, 15021, 15053, 15090})
"""The proxy's own ports, which no application may have."""


def listener(name: str, host: str, port: int, direction: str, chains: list[Json], **fields: Any) -> Json:
    """A listener."""
    return typed(
        _LISTENER, name=name, address=address(host, port), traffic_direction=direction, filter_chains=chains, **fields
    )


def outbound(proxy: Proxy, scope: Scope) -> dict[str, Json]:
    """The listeners for what the application calls, by name."""
    found = {"virtualOutbound": _capture(proxy, scope)}
    for service in scope.services:
        for port in service.ports:
            if port.protocol == "UDP" or port.number == CAPTURE_PORT:
                continue
            for made in _for_port(proxy, scope, service, port):
                # HTTP ports are shared by all their hosts; of two TCP Services at one address the first is served.
                found.setdefault(made["name"], made)
    name = "0.0.0.0_80"
    if name not in found:
        found[name] = _virtual(name, "0.0.0.0", 80, [{"filters": [_http(proxy, 80)]}])
    return found


def _capture(proxy: Proxy, scope: Scope) -> Json:
    nowhere = BLACK_HOLE if scope.registry_only else PASSTHROUGH
    by_proxy = http_manager(proxy, "outbound", HTTP_PROXY, HTTP_PROXY)
    chains: list[Json] = [
        {
            "name": HTTP_PROXY,
            # An application calls from 127.0.0.1, this Envoy from the pod IP: so it can never call itself in a circle.
            "filter_chain_match": {"destination_port": CAPTURE_PORT, "source_prefix_ranges": [cidr("127.0.0.1")]},
            "filters": [by_proxy],
        },
        {
            "name": "virtualOutbound-blackhole",
            "filter_chain_match": {"destination_port": CAPTURE_PORT},
            "filters": [tcp_proxy(proxy, BLACK_HOLE, [(BLACK_HOLE, 1)])],
        },
        {"name": "virtualOutbound-catchall-tcp", "filters": [tcp_proxy(proxy, nowhere, [(nowhere, 1)])]},
    ]
    return listener(
        "virtualOutbound",
        proxy.local,
        CAPTURE_PORT,
        "OUTBOUND",
        chains,
        use_original_dst=True,
        listener_filters=[_PROXY_PROTOCOL],
    )


def _virtual(name: str, host: str, port: int, chains: list[Json], **fields: Any) -> Json:
    return listener(name, host, port, "OUTBOUND", chains, bind_to_port=False, **fields)


def _http(proxy: Proxy, port: int) -> Json:
    return http_manager(proxy, "outbound", f"outbound_0.0.0.0_{port}", str(port))


def _for_port(proxy: Proxy, scope: Scope, service: Service, port: Port) -> list[Json]:
    if port.http:
        name = f"0.0.0.0_{port.number}"
        return [_virtual(name, "0.0.0.0", port.number, [{"filters": [_http(proxy, port.number)]}])]
    hosts = [a for a in service.addresses if "/" not in a]
    if service.headless:
        # The name of a headless Service stands for its pods: each is an address of its own.
        hosts = [endpoint.address for endpoint in service.endpoints.get(port.number, ())]
    if not hosts:
        if port.protocol == "AUTO":
            name = f"0.0.0.0_{port.number}"
            return [_virtual(name, "0.0.0.0", port.number, [{"filters": [_http(proxy, port.number)]}])]
        return [_shared_tcp(proxy, scope, port)]
    chains = chains_of(proxy, scope, service, port)
    inspectors = [_TLS_INSPECTOR] if any("server_names" in c.get("filter_chain_match", {}) for c in chains) else []
    if port.protocol == "AUTO":
        match = {"application_protocols": ["http/1.0", "http/1.1", "h2c"]}
        chains = [{"name": "http", "filter_chain_match": match, "filters": [_http(proxy, port.number)]}, *chains]
        inspectors.append(_HTTP_INSPECTOR)
    extra: Json = {}
    if inspectors:
        # A server that speaks first must not be kept waiting for a client that waits as well.
        extra = {
            "listener_filters": inspectors,
            "listener_filters_timeout": "0.1s",
            "continue_on_listener_filters_timeout": True,
        }
    return [_virtual(f"{host}_{port.number}", host, port.number, chains, **extra) for host in hosts]


def _shared_tcp(proxy: Proxy, scope: Scope, port: Port) -> Json:
    """Hosts without an address of their own share a port: TLS tells them apart by server name, plain TCP cannot."""
    chains: list[Json] = []
    seen: set[str] = set()
    for service in scope.services:
        own = service.port(port.number)
        if own is None or own.http or own.protocol == "AUTO" or service.addresses or service.headless:
            continue
        for chain in chains_of(proxy, scope, service, own, by_name=own.protocol in TLS_PROTOCOLS):
            key = repr(chain.get("filter_chain_match"))
            if key not in seen:
                seen.add(key)
                chains.append(chain)
    nowhere = BLACK_HOLE if scope.registry_only else PASSTHROUGH
    if repr(None) not in seen:
        chains.append({"filters": [tcp_proxy(proxy, nowhere, [(nowhere, 1)])]})
    return _virtual(
        f"0.0.0.0_{port.number}",
        "0.0.0.0",
        port.number,
        chains,
        listener_filters=[_TLS_INSPECTOR],
        listener_filters_timeout="0.1s",
        continue_on_listener_filters_timeout=True,
    )


def application_ports(proxy: Proxy) -> dict[int, tuple[Service, Port] | None]:
    """The application's ports, declared by its containers or by Services, with the Service each belongs to."""
    found: dict[int, tuple[Service, Port] | None] = dict.fromkeys(proxy.workload.ports)
    key = (proxy.workload.namespace, proxy.workload.pod)
    for service in proxy.snapshot.services_of.get(key, ()):
        for port in service.ports:
            for target in proxy.snapshot.target_ports(service, port, key):
                if found.get(target) is None:
                    found[target] = (service, port)
    return {port: owner for port, owner in sorted(found.items()) if port not in _RESERVED}


def inbound(proxy: Proxy) -> tuple[dict[str, Json], dict[str, Json]]:
    """The listeners for what calls the application, and the clusters behind them, by name."""
    listeners: dict[str, Json] = {}
    found: dict[str, Json] = {}
    plan = proxy.snapshot.plan
    for port, owner in application_ports(proxy).items():
        if owner and owner[1].protocol == "UDP":
            continue
        name = clusters.inbound_name(port, owner, legacy=proxy.legacy)
        made = _inbound_listener(proxy, port, owner, name)
        listeners[made["name"]] = made
        found[name] = clusters.inbound_cluster(name, proxy.local, plan.port(port), owner)
    return listeners, found


def _inbound_listener(proxy: Proxy, port: int, owner: tuple[Service, Port] | None, cluster: str) -> Json:
    mode = mtls_mode(proxy.snapshot, proxy.workload, port)
    protocol = owner[1].protocol if owner else ("TCP" if proxy.legacy else "AUTO")
    http = protocol in ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "AUTO")

    def filters(*, mtls: bool, force_tcp: bool = False) -> list[Json]:
        inbound = Inbound(owner, mtls)
        prefix = f"inbound_{proxy.workload.ip}_{port}"
        if http and not force_tcp:
            return [http_manager(proxy, "inbound", prefix, cluster, inbound=inbound, filters=_jwt(proxy, port))]
        return [*_network_rbac(proxy, port), tcp_proxy(proxy, cluster, [(cluster, 1)], inbound=inbound)]

    chains: list[Json] = []
    if mode != "DISABLE":
        match: Json = {"transport_protocol": "tls"}
        if mode == "PERMISSIVE":
            match["application_protocols"] = list(transport.ISTIO_ALPN)
        socket = transport.downstream_mutual(http=http)
        chains.append(
            {
                "name": f"{port}_mtls",
                "filter_chain_match": match,
                "transport_socket": socket,
                "filters": filters(mtls=True),
            }
        )
    if mode != "STRICT":
        plain = {"transport_protocol": "raw_buffer"}
        if protocol == "AUTO":
            # Bytes that are not HTTP are passed on as they are.
            sniffed = {**plain, "application_protocols": ["http/1.0", "http/1.1", "h2c"]}
            chains.append({"name": f"{port}_http", "filter_chain_match": sniffed, "filters": filters(mtls=False)})
            chains.append(
                {"name": f"{port}_tcp", "filter_chain_match": plain, "filters": filters(mtls=False, force_tcp=True)}
            )
        else:
            chains.append({"name": f"{port}_plain", "filter_chain_match": plain, "filters": filters(mtls=False)})
        # The application's own TLS.
        tls = {"transport_protocol": "tls"}
        chains.append(
            {"name": f"{port}_tls", "filter_chain_match": tls, "filters": filters(mtls=False, force_tcp=True)}
        )
    inspectors = [_TLS_INSPECTOR, *([_HTTP_INSPECTOR] if protocol == "AUTO" else [])]
    name = f"{proxy.workload.ip}_{port}" if proxy.legacy else f"virtualInbound_{port}"
    return listener(
        name,
        proxy.workload.ip,
        proxy.snapshot.plan.port(port),
        "INBOUND",
        chains,
        listener_filters=inspectors,
        listener_filters_timeout="5s" if http and protocol != "AUTO" else "0.1s",
        continue_on_listener_filters_timeout=True,
    )


def _jwt(proxy: Proxy, port: int) -> list[Json]:
    return []


def _network_rbac(proxy: Proxy, port: int) -> list[Json]:
    return []
