# SPDX-License-Identifier: Apache-2.0
"""Envoy's rules for which listener takes a connection, and which of its filter chains."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.cluster import Obj
from labkit.istio.envoy.differences import short
from labkit.istio.envoy.dump import Dump, Resource, address_of

__all__ = ["Connection", "Taken", "chain_for", "inbound", "outbound"]


@dataclass(frozen=True)
class Connection:
    """A connection as a listener sees it.

    Args:
        address: The address that the client meant; "" where it is not known.
        port: The port that it meant.
        tls: Whether it begins with TLS.
        protocols: What the client says it speaks inside TLS, or what its first bytes are ("http/1.1").
        server_name: The server name that TLS begins with.
        source: The client's address; "" where it is not known.
    """

    address: str
    port: int
    tls: bool = False
    protocols: tuple[str, ...] = ()
    server_name: str = ""
    source: str = ""


@dataclass(frozen=True)
class Taken:
    """The listener that takes a connection.

    Args:
        listener: It.
        how: How the connection came to it, in words.
    """

    listener: Resource
    how: str


def _direction(one: Resource, wanted: str) -> bool:
    return bool(one.body.get("traffic_direction", wanted) == wanted)


def _at(dump: Dump, where: str, direction: str) -> Resource | None:
    every = (one for one in dump.listeners.values() if _direction(one, direction))
    return next((one for one in every if address_of(one.body.get("address") or {}) == where), None)


def _redirecting(dump: Dump, direction: str) -> Resource | None:
    """The listener that captured connections come to."""
    names = ("virtualOutbound", "virtual") if direction == "OUTBOUND" else ("virtualInbound", "virtual")
    return next((dump.listeners[name] for name in names if name in dump.listeners), None)


def outbound(dump: Dump, connection: Connection) -> Taken | None:
    """The listener of a client's sidecar for a connection to where its application meant to go.

    All such connections are led to one listener, which hands them to that of the address and port that were meant, else
    to that of the port, else keeps them.
    """
    first = _redirecting(dump, "OUTBOUND")
    led = f"{first.name} gets all that the application sends, and hands it" if first else "it is handed"
    if connection.address and (one := _at(dump, f"{connection.address}:{connection.port}", "OUTBOUND")):
        return Taken(
            one, f"{led} to the listener of the address that was meant, {connection.address}:{connection.port}"
        )
    if one := _at(dump, f"0.0.0.0:{connection.port}", "OUTBOUND"):
        return Taken(one, f"{led} to the listener for port {connection.port} of any address")
    if first is None:
        return None
    return Taken(first, f"no listener is there for port {connection.port}: {first.name}, which gets all, keeps it")


def inbound(dump: Dump, connection: Connection, *, gateway: bool = False) -> Taken | None:
    """The listener of a server's proxy for a connection to its pod; for a gateway's, one that its port opened."""
    direction = "OUTBOUND" if gateway else "INBOUND"
    for where in (f"{connection.address}:{connection.port}", f"0.0.0.0:{connection.port}"):
        if one := _at(dump, where, direction):
            return Taken(one, f"it listens at port {connection.port}")
    # Where another port is listened at in its stead, the name still tells.
    named = (one for name, one in dump.listeners.items() if name.endswith(f"_{connection.port}"))
    if one := next((one for one in named if _direction(one, direction)), None):
        return Taken(one, f"it stands for port {connection.port}")
    if not gateway and (one := _redirecting(dump, "INBOUND")):
        return Taken(one, "it gets all that comes to the pod")
    return None


_Rank = Callable[[Mapping[str, Any], Connection], int | None]
"""How well a condition fits: None if it does not, 0 where nothing is asked, more where more is."""


def _port(match: Mapping[str, Any], connection: Connection) -> int | None:
    wanted = match.get("destination_port")
    return 0 if wanted is None else 1 if int(wanted) == connection.port else None


def _ranges(ranges: list[Obj], address: str) -> int | None:
    if not ranges:
        return 0
    best = None
    for one in ranges:
        length = one.get("prefix_len", 0)
        length = int(length.get("value", 0) if isinstance(length, dict) else length)
        try:
            inside = ipaddress.ip_address(address) in ipaddress.ip_network(f"{one['address_prefix']}/{length}", False)
        except ValueError:
            continue
        best = max(best or 0, length + 1) if inside else best
    return best


def _destination(match: Mapping[str, Any], connection: Connection) -> int | None:
    return _ranges(match.get("prefix_ranges") or [], connection.address)


def _source(match: Mapping[str, Any], connection: Connection) -> int | None:
    return _ranges(match.get("source_prefix_ranges") or [], connection.source)


def _server_name(match: Mapping[str, Any], connection: Connection) -> int | None:
    wanted, name = match.get("server_names") or [], connection.server_name.lower()
    if not wanted:
        return 0
    found = [1000 for one in wanted if one.lower() == name and name]
    found += [len(one) for one in wanted if one.startswith("*.") and name.endswith(one[1:].lower())]
    return max(found, default=None)


def _transport(match: Mapping[str, Any], connection: Connection) -> int | None:
    wanted = match.get("transport_protocol", "")
    return 0 if not wanted else 1 if wanted == ("tls" if connection.tls else "raw_buffer") else None


def _protocols(match: Mapping[str, Any], connection: Connection) -> int | None:
    wanted = match.get("application_protocols") or []
    return 0 if not wanted else 1 if set(wanted) & set(connection.protocols) else None


def _source_type(match: Mapping[str, Any], connection: Connection) -> int | None:
    wanted = match.get("source_type", "ANY")
    return 0 if wanted == "ANY" else None if wanted == "SAME_IP_OR_LOOPBACK" else 1


_STAGES: tuple[tuple[str, _Rank], ...] = (
    ("port", _port),
    ("address", _destination),
    ("server name", _server_name),
    ("transport", _transport),
    ("protocol", _protocols),
    ("kind of source", _source_type),
    ("source address", _source),
)
"""In Envoy's order. At each, only the chains that fit most closely stay."""


def chain_for(listener: Obj, connection: Connection) -> tuple[Obj | None, tuple[str, ...]]:
    """The filter chain that takes a connection, and why each other one does not."""
    staying = list(listener.get("filter_chains") or [])
    passed = []
    for what, rank in _STAGES:
        ranked = [(rank(one.get("filter_chain_match") or {}, connection), one) for one in staying]
        best = max((found for found, _ in ranked if found is not None), default=None)
        for found, one in ranked:
            if found is None or found != best:
                why = f"its {what} does not fit" if found is None else f"another fits the {what} more closely"
                passed.append(f"{_name(one)}: {why}")
        staying = [one for found, one in ranked if found is not None and found == best]
    if staying:
        return staying[0], tuple(passed)
    return listener.get("default_filter_chain"), tuple(passed)


def _name(chain: Obj) -> str:
    return str(chain.get("name") or "") or f"chain for {short(chain.get('filter_chain_match')) or 'the rest'}"
