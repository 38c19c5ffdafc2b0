# SPDX-License-Identifier: Apache-2.0
"""Which servers of Gateways a proxy plays: where each listens, and which are left out because of older ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from labkit.ground.hosts import fqdn, scoped
from labkit.ground.int_or_string import target_port
from labkit.ground.labels import selects
from meshbox.contracts import View
from meshbox.mesh.gateway_api.binding import chosen
from meshbox.mesh.kinds import GATEWAYS, SERVICES
from meshbox.mesh.model import Workload, annotations_of, labels
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import Gateway, Server, ServerTLS
    from meshbox.typed.services import Service

__all__ = [
    "PRIVILEGED",
    "LeftOut",
    "Served",
    "ServedGateways",
    "listening_port",
    "served_gateways",
    "services_before",
    "unserved",
]


_HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
_PASSES = ("", "PASSTHROUGH", "AUTO_PASSTHROUGH")
PRIVILEGED = 1024
"""Ports below it are for the privileged."""

_AS_WRITTEN = "experimental.istio.io/disable-gateway-port-translation"
"""The label of a Service whose ports mean nothing to Gateways."""

_BOUND = "internal.istio.io/gateway-service"
"""The annotation of a Gateway that was made for one Deployment: its servers name the ports of the pods themselves."""


class Served(Struct, frozen=True):
    """One server of a Gateway, at a proxy.

    Args:
        gateway: The Gateway.
        index: Which of its servers.
        server: The server.
        address: Where it listens.
        port: The port there, which need not be the one that the Gateway names.
    """

    gateway: Gateway
    index: int
    server: Server
    address: str
    port: int

    @property
    def number(self) -> int:
        """The port as the Gateway names it: what VirtualServices ask for."""
        return int(self.server["port"]["number"])

    @property
    def protocol(self) -> str:
        """Its protocol, in capitals."""
        return str(self.server["port"].get("protocol") or "HTTP").upper()

    @property
    def key(self) -> str:
        """Its Gateway, "namespace/name"."""
        meta = self.gateway["metadata"]
        return f"{meta['namespace']}/{meta['name']}"

    @property
    def tls(self) -> ServerTLS:
        """Its `tls`, empty without."""
        return self.server.get("tls") or {}

    @property
    def plain_http(self) -> bool:
        """Whether it speaks HTTP without TLS."""
        return self.protocol in _HTTP

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken to it, ended here or not."""
        return bool(self.tls) and not self.plain_http

    @property
    def ends_tls(self) -> bool:
        """Whether TLS is ended here."""
        return self.secure and (self.tls.get("mode") or "") not in _PASSES

    @property
    def speaks_http(self) -> bool:
        """Whether requests, not only bytes, are seen here."""
        return self.plain_http or (self.protocol == "HTTPS" and self.ends_tls)

    @property
    def bind(self) -> str:
        """Its `bind`, empty without."""
        return self.server.get("bind") or ""

    @property
    def listener(self) -> str:
        """The name of its listener."""
        return f"{self.bind or '0.0.0.0'}_{self.port}"

    @property
    def table(self) -> str:
        """The name of its route table; those of plain HTTP at one port have one together."""
        suffix = f".{self.bind}" if self.bind else ""
        if self.plain_http:
            return f"http.{self.port}{suffix}"
        meta = self.gateway["metadata"]
        name = self.server["port"].get("name", "")
        return f"https.{self.number}.{name}.{meta['name']}.{meta['namespace']}{suffix}"

    @property
    def hosts(self) -> list[tuple[str, str]]:
        """Its hosts, each with the namespace whose VirtualServices may claim it ("*" for any)."""
        own = self.gateway["metadata"]["namespace"]
        pairs = [scoped(host, own) for host in self.server.get("hosts") or []]
        return [(namespace, fqdn(name, own)) for namespace, name in pairs]

    @property
    def names(self) -> list[str]:
        """The TLS server names that lead to it; empty for all."""
        names = sorted({name for _, name in self.hosts})
        return [] if "*" in names else names

    def claims(self) -> set[str]:
        """What no second server with TLS settings may have at the same port."""
        found = {f"{namespace}/{name}" for namespace, name in self.hosts}
        # Of two chains for one server name Envoy would refuse the whole listener.
        return found | {name for _, name in self.hosts} if self.ends_tls else found

    def __str__(self) -> str:
        return f"servers[{self.index}] of Gateway {self.key}"


class LeftOut(Struct, frozen=True):
    """A server that a proxy does not play.

    Args:
        gateway: The Gateway.
        reason: In one word, as Istio's analyzers call it.
        why: In words, with what to do.
    """

    gateway: Gateway
    reason: str
    why: str


class ServedGateways(Struct):
    """All that Gateways ask of one proxy.

    Args:
        listeners: Address and port → the servers there, the oldest Gateway's first.
        left_out: What is not played.
    """

    listeners: dict[tuple[str, int], list[Served]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def __iter__(self) -> Iterator[Served]:
        return (one for servers in self.listeners.values() for one in servers)


def services_before(services: Iterable[Service], namespace: str, pod_labels: Mapping[str, str]) -> list[Service]:
    """Of `services` those that choose a pod with these labels."""
    return [
        one
        for one in services
        if one["metadata"]["namespace"] == namespace
        and (wanted := (one.get("spec") or {}).get("selector"))
        and selects(wanted, pod_labels)
    ]


def listening_port(number: int, services: Iterable[Service], pod_spec: View, *, direct: bool = False) -> int:
    """Where a gateway's pod listens for the port that a Gateway names.

    Gateways name the ports of the Services before the pods, as clients do; where none has that port the number is
    meant as it is.

    Args:
        number: The port in the Gateway.
        services: The Services before the pod, the oldest first.
        pod_spec: The pod's spec.
        direct: Whether the number is the pod's own port in any case.
    """
    for service in () if direct else services:
        if _AS_WRITTEN in labels(service):
            continue
        for port in service["spec"].get("ports") or []:
            if port["port"] == number and port.get("protocol", "TCP") == "TCP":
                found = target_port(port, pod_spec)
                if found is not None:
                    return found
    return number


def served_gateways(snapshot: Snapshot, workload: Workload) -> ServedGateways:
    """What Gateways ask of the proxy of `workload`, and what of it is played."""
    found = ServedGateways()
    claimed: dict[tuple[str, int], dict[str, Served]] = {}
    selected = [
        one
        for one in snapshot.all(GATEWAYS)
        if selects(one["spec"].get("selector"), workload.labels) and chosen(one, workload)
    ]
    if not selected:
        return found
    services = services_before(snapshot.all(SERVICES), workload.namespace, workload.labels)
    pod_spec: View = snapshot.pods[workload.namespace, workload.pod]["spec"]
    for obj in selected:
        direct = snapshot.legacy or _BOUND in annotations_of(obj)
        for index, server in enumerate(obj["spec"].get("servers") or []):
            number = int(server["port"]["number"])
            port = listening_port(number, services, pod_spec, direct=direct)
            address = _address(snapshot, workload, server.get("bind") or "")
            one = Served(obj, index, server, address, port)
            problem = _unplayable(one, workload, services) or _conflict(one, found, claimed)
            if problem:
                found.left_out.append(LeftOut(obj, *problem))
                continue
            found.listeners.setdefault((address, port), []).append(one)
            if one.tls:
                claimed.setdefault((address, port), {}).update(dict.fromkeys(one.claims(), one))
    return found


def _address(snapshot: Snapshot, workload: Workload, bind: str) -> str:
    """Where a server listens that asks for `bind`; empty where that is no address of the pod."""
    if bind in ("", "0.0.0.0", "::", workload.ip):
        return workload.ip
    return snapshot.plan.local(workload.ip) if bind in ("127.0.0.1", "::1") else ""


def _unplayable(one: Served, workload: Workload, services: list[Service]) -> tuple[str, str] | None:
    if not one.address:
        words = f"servers[{one.index}].bind {one.bind} is no address of pod {workload.namespace}/{workload.pod}"
        return "ConfigRejected", f"{words}, so it is not served: leave bind out, or give 0.0.0.0 or 127.0.0.1"
    if workload.unprivileged and one.port < PRIVILEGED:
        where = f"servers[{one.index}] (port {one.number})"
        return "GatewayPortNotDefinedOnService", unserved(where, one.number, services, workload.namespace, one.port)
    return None


def unserved(where: str, number: int, services: Iterable[Service], namespace: str, port: int) -> str:
    """That a server's port is not served, since the pods may not listen there, and what to do.

    Args:
        where: The server.
        number: The port as the Gateway names it.
        services: The Services before the pods.
        namespace: Theirs.
        port: Where the pods would have to listen.
    """
    said = "the gateway's pods run without privilege and may not listen on ports below 1024"
    if port != number or any(p["port"] == number for s in services for p in s["spec"].get("ports") or []):
        to_do = f"give that port of the Service a targetPort above {PRIVILEGED - 1}"
        return f"{where} is not served: its Service leads to port {port} of the pods, but {said}; {to_do}"
    names = ", ".join(f"{namespace}/{s['metadata']['name']}" for s in services)
    offered = sorted({p["port"] for s in services for p in s["spec"].get("ports") or []})
    has = f"no Service of its pods ({names}) has port {number}" if names else "its pods have no Service"
    to_do = f"name one of the Service's ports ({', '.join(map(str, offered))})" if offered else "add a Service"
    return f"{where} is not served: {has}, and {said}; {to_do}, or a port above {PRIVILEGED - 1}"


def _conflict(
    one: Served, found: ServedGateways, claimed: dict[tuple[str, int], dict[str, Served]]
) -> tuple[str, str] | None:
    """Why a server cannot stand beside those that came before it."""
    place = one.address, one.port
    holders = claimed.get(place, {}) if one.tls else {}
    if taken := sorted(one.claims() & holders.keys()):
        holder = holders[taken[0]]
        names = ", ".join(sorted({name.rpartition("/")[2] for name in taken}))
        return "ConflictingGateways", (
            f"servers[{one.index}] is not served: at port {one.port} {names} belongs to {holder}, which came first; "
            "take the host out of one of the two"
        )
    before = found.listeners.get(place)
    if not before:
        return None
    first = before[0]
    together = one.secure if first.secure else one.plain_http and first.plain_http
    if together:
        return None
    return "ConflictingGateways", (
        f"servers[{one.index}] ({one.protocol}) is not served: port {one.port} belongs to {first} "
        f"({first.protocol}), which came first; only plain HTTP with plain HTTP, and TLS with TLS, share a port: "
        "take another port"
    )
