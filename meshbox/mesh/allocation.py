# SPDX-License-Identifier: Apache-2.0
"""Addresses for hosts that have none: what istiod writes into the status of ServiceEntries.

A name that no DNS server knows, or that shares its port with others, gets an address of its own by which a proxy tells
what was called. Programs meet it where their sidecar answers their DNS (`ISTIO_META_DNS_CAPTURE`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from meshbox.contracts import Obj, Objects, View
from meshbox.mesh.kinds import SERVICE_ENTRIES
from meshbox.mesh.model import labels
from meshbox.reconcile import Key, Reconciler, object_key

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import ServiceEntrySpec

__all__ = ["Allocator", "allocated"]

_PREFIXES = (ipaddress.ip_network("240.240.0.0/16"), ipaddress.ip_network("2001:2::/48"))
_SWITCH = "networking.istio.io/enable-autoallocate-ip"

_AGAIN = 1.0
"""Seconds until it is looked again for a control plane that could do this."""


def allocated(obj: View, host: str = "") -> list[str]:
    """The addresses that a ServiceEntry was given, for one of its hosts or for all."""
    found = (obj.get("status") or {}).get("addresses") or []
    return [str(one.get("value")) for one in found if isinstance(one, dict) and host in ("", one.get("host"))]


def _hosts(obj: Obj) -> list[str]:
    """The hosts of a ServiceEntry that are given addresses."""
    spec = cast("ServiceEntrySpec", obj.get("spec") or {})
    resolution = spec.get("resolution") or "NONE"
    if labels(obj).get(_SWITCH) == "false" or spec.get("addresses") or resolution == "NONE":
        return []
    hosts = spec.get("hosts") or []
    return [host for host in dict.fromkeys(hosts) if "*" not in host or resolution == "DYNAMIC_DNS"]


class Allocator:
    """Gives each host an address of each family that no other has.

    Args:
        objects: The cluster's objects.
        ready: Whether there is a control plane that does this.
    """

    def __init__(self, objects: Objects, ready: Callable[[], bool]) -> None:
        self._objects = objects
        self._ready = ready
        self._next = [int(prefix.network_address) + 1 for prefix in _PREFIXES]
        self._reconciler = Reconciler("ip-autoallocate", objects, self._allocate).watches(SERVICE_ENTRIES)

    def start(self) -> None:
        """Begin."""
        self._reconciler.start()

    async def stop(self) -> None:
        """End."""
        await self._reconciler.stop()

    async def _allocate(self, key: Key) -> float | None:
        obj = self._objects.find(SERVICE_ENTRIES, key[1], key[0])
        if obj is None:
            return None
        hosts = _hosts(obj)
        known = {host: allocated(obj, host) for host in hosts}
        if not hosts or all(known.values()):
            return None
        if not self._ready():
            return _AGAIN
        used: set[str] = set()
        for one in self._objects.view(SERVICE_ENTRIES):
            if object_key(one) != key:
                used.update(allocated(one), (one.get("spec") or {}).get("addresses") or [])
        used.update(*known.values())
        given = [
            {"value": address, "host": host} for host in hosts for address in known[host] or list(self._fresh(used))
        ]
        status = {**(obj.get("status") or {}), "addresses": given}
        self._objects.update(
            SERVICE_ENTRIES, {**obj, "status": status}, subresource="status", manager="pilot-discovery"
        )
        return None

    def _fresh(self, used: set[str]) -> Iterator[str]:
        """One address of each family, marked as used."""
        for index, prefix in enumerate(_PREFIXES):
            number = self._next[index]
            while str(prefix[number - int(prefix.network_address)]) in used:
                number = self._after(prefix, number)
            self._next[index] = self._after(prefix, number)
            address = str(prefix[number - int(prefix.network_address)])
            used.add(address)
            yield address

    @staticmethod
    def _after(prefix: ipaddress.IPv4Network | ipaddress.IPv6Network, number: int) -> int:
        first = int(prefix.network_address)
        return first + 1 if number + 1 >= first + prefix.num_addresses else number + 1
