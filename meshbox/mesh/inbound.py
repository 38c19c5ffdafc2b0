# SPDX-License-Identifier: Apache-2.0
"""Listeners of a sidecar for what calls its application, and the clusters and route tables behind them.

Calls to the pod arrive at the pod IP, where only the sidecar listens: the application itself binds the pod's localhost.
What asks for no certificate takes connections of this user's processes only.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from msgspec import Struct

from meshbox.doors import peer_check
from meshbox.mesh import clusters, policies, transport
from meshbox.mesh.authorization import network_filters
from meshbox.mesh.envoy import Json, encode
from meshbox.mesh.listeners import HTTP_INSPECTOR, TLS_INSPECTOR, listener
from meshbox.mesh.managers import Proxy, bytes_proxy, filters_of, http_manager, inbound_rules, tcp_proxy
from meshbox.mesh.memo import Identity
from meshbox.mesh.model import Port, Service
from meshbox.mesh.peers import Inbound, peer_reader
from meshbox.mesh.scope import Scope
from meshbox.mesh.security import mtls_mode
from meshbox.mesh.sidecars import Entrance, entrances
from meshbox.port_protocols import is_raw

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import ConnectionPool

__all__ = ["Entry", "entries", "inbound", "made_of"]

_RESERVED = frozenset({15000, 15001, 15006, 15008, 15020, 15021, 15053, 15090})
"""The proxy's own ports, which no application may have."""

_Owner = tuple[Service, Port] | None
"""The Service and port that a port of the application belongs to."""


class Entry(Struct, frozen=True):
    """A port at the pod's address.

    Args:
        port: The port.
        owner: Whose it is, where a Service has it.
        protocol: What is spoken there.
        behind: The application's own port.
        cluster: The name of the cluster for that one.
        pool: The limits of connections to it, where a Sidecar has them.
        bare: Whether nobody looks at what comes, as the port is not captured: in Istio 1.2 no port that a pod does not
            declare.
    """

    port: int
    owner: _Owner
    protocol: str
    behind: int
    cluster: str
    pool: ConnectionPool | None = None
    bare: bool = False


def entries(proxy: Proxy, scope: Scope) -> list[Entry]:
    """The application's ports: those that its containers declare, that Services name, and that it listens on besides.

    What the `ingress` of a Sidecar names is let in as that says.
    """
    found: dict[int, _Owner] = dict.fromkeys((*proxy.workload.ports, *proxy.workload.open_ports))
    key = (proxy.workload.namespace, proxy.workload.pod)
    for service in proxy.snapshot.services_of.get(key, ()):
        for port in service.ports:
            for target in proxy.snapshot.target_ports(service, port, key):
                if found.get(target) is None:
                    found[target] = (service, port)
    spec = scope.sidecar["spec"] if scope.sidecar is not None else {}
    let_in = {one.port: one for one in entrances(spec, legacy=proxy.legacy)}
    pool = spec.get("inboundConnectionPool")
    if let_in and not proxy.legacy:
        # What such a Sidecar does not name belongs to no Service for its proxy.
        found = {port: owner if port in let_in else None for port, owner in found.items()}
    made = [_entry(proxy, number, found.get(number), let_in.get(number), pool) for number in sorted({*found, *let_in})]
    # What nobody captures its application serves at the pod's address by itself, unless it is one that cannot.
    taken = proxy.workload.interception.takes_inbound
    reached = {port for port in found if taken(port) or port in proxy.workload.open_ports} | let_in.keys()
    return [one for one in made if one.port in reached and one.port not in _RESERVED and one.protocol != "UDP"]


def _entry(proxy: Proxy, number: int, owner: _Owner, let_in: Entrance | None, pool: ConnectionPool | None) -> Entry:
    raw = number in proxy.snapshot.raw_entries.get((proxy.workload.namespace, proxy.workload.pod), ())
    protocol = owner[1].protocol if owner else ("TCP" if proxy.legacy or raw else "AUTO")
    name = clusters.inbound_name(number, owner, legacy=proxy.legacy)
    if let_in is None:
        undeclared = owner is None and number not in proxy.workload.ports
        bare = (undeclared and proxy.legacy) or not proxy.workload.interception.takes_inbound(number)
        return Entry(number, owner, protocol, number, name, pool if owner or proxy.legacy else None, bare=bare)
    return Entry(number, owner, let_in.protocol, let_in.behind, name, let_in.spec.get("connectionPool") or pool)


def _raw_ports(proxy: Proxy) -> set[int]:
    """The application's ports to which other sidecars may send a PROXY header first."""
    key = (proxy.workload.namespace, proxy.workload.pod)
    found = {
        target
        for service in proxy.snapshot.services_of.get(key, ())
        for port in service.ports
        if is_raw(port.protocol)
        for target in proxy.snapshot.target_ports(service, port, key)
    }
    return found | proxy.snapshot.raw_entries.get(key, set())


def made_of(proxy: Proxy, scope: Scope) -> Hashable:
    """All that the listeners, clusters and tables of what calls an application are made of, but for Istio 1.2, where
    policies are for Services' endpoints.
    """
    snapshot, key = proxy.snapshot, (proxy.workload.namespace, proxy.workload.pod)
    services = snapshot.services_of.get(key, ())
    behind = tuple(tuple(snapshot.target_ports(service, port, key)) for service in services for port in service.ports)
    sidecar = Identity((scope.sidecar,)) if scope.sidecar is not None else None
    raw = frozenset(snapshot.raw_entries.get(key, ()))
    return proxy.same, Identity((snapshot.pods[key],)), snapshot.judging, Identity(services), behind, sidecar, raw


def inbound(proxy: Proxy, scope: Scope) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The listeners for what calls the application, and the clusters behind them, by name."""
    listeners: dict[str, bytes] = {}
    found: dict[str, bytes] = {}
    memo = proxy.snapshot.memo
    rules = "" if proxy.legacy else inbound_rules(proxy, 0, None)
    raw = _raw_ports(proxy)
    for entry in entries(proxy, scope):
        port, owner = entry.port, entry.owner
        mode = "DISABLE" if entry.bare else mtls_mode(proxy.snapshot, proxy.workload, port)
        known = (owner[0].host, owner[0].namespace, owner[1]) if owner else None
        same = (proxy.same, entry.protocol, entry.bare)
        looked_at = inbound_rules(proxy, port, owner) if proxy.legacy else rules
        key = ("inbound", *same, port, known, mode, looked_at, port in raw)

        def build(entry: Entry = entry, mode: str = mode) -> bytes:
            return encode(_listener(proxy, entry, mode, introduced=entry.port in raw))

        listeners[_name(proxy, port)] = memo(key, build)
        found[entry.cluster] = encode(_cluster(proxy, entry))
    return listeners, found


def _name(proxy: Proxy, port: int) -> str:
    return f"{proxy.workload.ip}_{port}" if proxy.legacy else f"virtualInbound_{port}"


def _cluster(proxy: Proxy, entry: Entry) -> Json:
    behind = proxy.snapshot.plan.port(entry.behind)
    service = entry.owner[0] if entry.owner and not proxy.legacy else None
    made = clusters.inbound_cluster(entry.cluster, proxy.local, behind, entry.protocol, service, legacy=proxy.legacy)
    if entry.pool is None and proxy.legacy:
        return made
    port = Port(entry.port, "", entry.protocol)
    pool = _asked_of(entry.pool or {}, legacy=proxy.legacy)
    policy = policies.cluster_fields({"connectionPool": pool}, port, proxy.snapshot.mesh, legacy=proxy.legacy)
    said = _OF_MESH if entry.pool is None else (*_OF_MESH, *_OF_POOL)
    return {**made, **{key: policy[key] for key in said if key in policy}}


def _asked_of(pool: ConnectionPool, *, legacy: bool) -> ConnectionPool:
    """A pool as it counts towards the application: today nobody speaks HTTP/2 to it that it was not said to speak."""
    http = pool.get("http")
    return pool if legacy or not http else {**pool, "http": {**http, "h2UpgradePolicy": "DO_NOT_UPGRADE"}}


_OF_MESH = ("connect_timeout", "upstream_connection_options")
"""What of a cluster the mesh's settings say, unless a pool of connections does."""

_OF_POOL = ("circuit_breakers", "typed_extension_protocol_options")
"""What else such a pool says."""


def _listener(proxy: Proxy, entry: Entry, mode: str, *, introduced: bool) -> Json:
    port, owner, cluster = entry.port, entry.owner, entry.cluster
    # Nobody looks into what no sidecar would take.
    protocol = "TCP" if entry.bare else entry.protocol
    http = protocol in ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "AUTO")
    # Today nobody looks for TLS where none is ended: it is passed on, or no HTTP.
    looks = proxy.legacy or entry.bare or mode != "DISABLE"

    def filters(*, mtls: bool, force_tcp: bool = False) -> list[Json]:
        inbound = Inbound(owner, mtls, port)
        # In plain text a caller shows nothing that says who it is.
        door = [] if mtls else peer_check()
        more = filters_of(proxy, entry.protocol)
        if proxy.legacy:
            prefix = f"inbound_{proxy.workload.ip}_{port}"
        else:
            # For istiod all of a pod's ports come in at one listener, whose address is none.
            prefix = f"inbound_0.0.0.0_{port}" if owner else "InboundPassthroughCluster"
        if http and not force_tcp:
            return [*door, http_manager(proxy, "inbound", prefix, cluster, inbound=inbound, filters=more)]
        if entry.bare:
            return [*door, bytes_proxy(cluster)]
        rules = network_filters(proxy.snapshot, proxy.workload, owner)
        return [*door, *rules, tcp_proxy(proxy, cluster, [(cluster, 1)], inbound=inbound)]

    chains: list[Json] = []
    if mode != "DISABLE":
        match: Json = {"transport_protocol": "tls"}
        if mode == "PERMISSIVE":
            match["application_protocols"] = list(transport.ISTIO_ALPN)
        mesh = proxy.snapshot.mesh
        socket = transport.downstream_mutual(http=http, trust_domains=mesh.trust_domains, limits=mesh.mutual_tls)
        chains.append(
            {
                "name": f"{port}_mtls",
                "filter_chain_match": match,
                "transport_socket": socket,
                "filters": filters(mtls=True),
            }
        )
        if protocol == "AUTO":
            bytes_only = {"transport_protocol": "tls", "application_protocols": [transport.RAW_ALPN]}
            chains.append(
                {
                    "name": f"{port}_mtls_tcp",
                    "filter_chain_match": bytes_only,
                    "transport_socket": socket,
                    "filters": filters(mtls=True, force_tcp=True),
                }
            )
    if mode != "STRICT":
        plain = {"transport_protocol": "raw_buffer"}
        if protocol == "AUTO":
            # Bytes that are not HTTP are passed on as they are.
            sniffed = {**plain, "application_protocols": proxy.spoken}
            chains.append({"name": f"{port}_http", "filter_chain_match": sniffed, "filters": filters(mtls=False)})
            chains.append(
                {"name": f"{port}_tcp", "filter_chain_match": plain, "filters": filters(mtls=False, force_tcp=True)}
            )
        else:
            chains.append({"name": f"{port}_plain", "filter_chain_match": plain, "filters": filters(mtls=False)})
        if looks and (proxy.legacy or not http or protocol == "AUTO"):
            # The application's own TLS, which nobody takes where only HTTP is spoken.
            tls = {"transport_protocol": "tls"}
            chains.append(
                {"name": f"{port}_tls", "filter_chain_match": tls, "filters": filters(mtls=False, force_tcp=True)}
            )
    inspectors = [
        *([peer_reader()] if introduced else []),
        *([TLS_INSPECTOR] if looks else []),
        *([HTTP_INSPECTOR] if protocol == "AUTO" else []),
    ]
    return listener(
        _name(proxy, port),
        proxy.workload.ip,
        proxy.snapshot.plan.port(port),
        "INBOUND",
        chains,
        listener_filters=inspectors,
        listener_filters_timeout="5s" if http and protocol != "AUTO" else "0.1s",
        continue_on_listener_filters_timeout=True,
    )
