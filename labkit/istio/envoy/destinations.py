# SPDX-License-Identifier: Apache-2.0
"""Whom a client means by a name: a Service, a host of a ServiceEntry, or a server somewhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from labkit import cluster
from labkit.cluster import Obj
from labkit.ground.errors import SettingError
from labkit.ground.hosts import DOMAIN, fqdn, within
from labkit.istio.envoy.admin import nearest

__all__ = ["Destination", "resolve"]

_ENTRIES = "serviceentries.networking.istio.io"
_TLS = ("https", "tls")


@dataclass(frozen=True)
class Destination:
    """Whom a client means.

    Args:
        host: The whole name.
        authority: What the client writes as Host.
        address: Where its connection goes; "" where that is not known.
        port: The port.
        tls: Whether the client itself begins TLS there.
        namespace: That of its pods; "" where they are none of this cluster.
    """

    host: str
    authority: str
    address: str
    port: int
    tls: bool
    namespace: str


def resolve(name: str, namespace: str, port: int | None) -> Destination:
    """Whom a client in `namespace` means.

    Args:
        name: "reviews", "reviews.bookinfo", "httpbin.example.com", each with ":port" if need be.
        namespace: The client's.
        port: The port; None for the name's own, else the Service's first that speaks HTTP.

    Raises:
        SettingError: There is no such Service, or it has no such port; says what there is.
        ClusterError: The cluster does not answer.
    """
    host, colon, number = name.partition(":")
    if colon and number.isdigit():
        port = int(number) if port is None else port
    whole = fqdn(host, namespace)
    parts = host.split(".")
    if len(parts) == 1 or whole.endswith(f".{DOMAIN}") or (len(parts) in (2, 3) and parts[2:] in ([], ["svc"])):
        where = parts[1] if len(parts) > 1 else namespace
        if found := cluster.get("services", parts[0], namespace=where):
            return _of_service(found[0], host, port)
        if len(parts) == 1 or whole.endswith(f".{DOMAIN}"):
            there = [str(one["metadata"]["name"]) for one in cluster.get("services", namespace=where)]
            raise SettingError(
                f"there is no Service {parts[0]!r} in namespace {where}",
                next_step=f"{nearest(parts[0], there)}There are {', '.join(sorted(there)) or 'none'}.",
            )
    return _outside(whole, port)


def _authority(host: str, port: int, *, tls: bool) -> str:
    return host if port == (443 if tls else 80) else f"{host}:{port}"


def _of_service(service: Obj, typed: str, port: int | None) -> Destination:
    spec, meta = service["spec"], service["metadata"]
    ports = spec.get("ports") or []
    spoken = next((one for one in ports if str(one.get("name", "")).startswith("http")), None)
    first = spoken or (ports[0] if ports else None)
    chosen = first if port is None else next((one for one in ports if one["port"] == port), None)
    host = f"{meta['name']}.{meta['namespace']}.{DOMAIN}"
    if chosen is None and port is not None and (added := _in_entries(host, port)):
        return replace(added, namespace=meta["namespace"])
    if chosen is None:
        there = ", ".join(str(one["port"]) for one in ports) or "none"
        raise SettingError(f"Service {meta['name']} has no port {port}", next_step=f"It has {there}.")
    tls = _begins_tls(str(chosen.get("name", "")), str(chosen.get("appProtocol", "")))
    address = spec.get("clusterIP", "")
    number = int(chosen["port"])
    authority = _authority(typed, number, tls=tls)
    return Destination(host, authority, "" if address in ("None", "") else address, number, tls, meta["namespace"])


def _begins_tls(*names: str) -> bool:
    return any(name.lower().split("-")[0] in _TLS for name in names)


def _outside(host: str, port: int | None) -> Destination:
    number = port or 80
    return _in_entries(host, port) or Destination(
        host, _authority(host, number, tls=number == 443), "", number, number == 443, ""
    )


def _in_entries(host: str, port: int | None) -> Destination | None:
    """What ServiceEntries say of a host and a port, the first if it is None; they may also add a port to a Service."""
    for entry in _entries():
        spec = entry["spec"]
        if not any(within(host, known) for known in spec.get("hosts") or []):
            continue
        ports = spec.get("ports") or []
        chosen = next((one for one in ports if port in (None, one["number"])), None)
        if chosen is None:
            continue
        number = int(chosen["number"])
        tls = _begins_tls(str(chosen.get("protocol", "")))
        given = [one.get("value", "") for one in (entry.get("status") or {}).get("addresses") or []]
        address = next(
            (one for one in [*(spec.get("addresses") or []), *given] if "/" not in one and ":" not in one), ""
        )
        return Destination(host, _authority(host, number, tls=tls), address, number, tls, "")
    return None


def _entries() -> Iterator[Obj]:
    if any(one.name == _ENTRIES for one in cluster.served()):
        yield from cluster.get(_ENTRIES, all_namespaces=True)
