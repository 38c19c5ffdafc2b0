# SPDX-License-Identifier: Apache-2.0
"""Pod addresses: handed out in turn, so that one that was just freed is not at once another pod's."""

from __future__ import annotations

import ipaddress

from labkit.ground.errors import SandboxError

__all__ = ["PodAddresses"]


class PodAddresses:
    """The addresses of a network that pods have.

    Args:
        network: Where they come from.
    """

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self._first = int(network.network_address)
        self._size = network.num_addresses
        self._next = 1
        self._owners: dict[str, str] = {}

    def reserve(self, address: str, owner: str) -> bool:
        """Keep `address` for the pod with uid `owner`; False if it is another's or not of this network."""
        try:
            offset = int(ipaddress.IPv4Address(address)) - self._first
        except ValueError:
            return False
        if not 0 < offset < self._size or self._owners.get(address, owner) != owner:
            return False
        self._owners[address] = owner
        self._next = max(self._next, offset + 1)
        return True

    def take(self, owner: str) -> str:
        """An address for the pod with uid `owner`.

        Raises:
            SandboxError: all are in use.
        """
        for step in range(self._size):
            offset = (self._next + step) % self._size
            address = str(ipaddress.IPv4Address(self._first + offset))
            # .0 and .255 look like networks to readers, and to some programs.
            if offset % 256 not in (0, 255) and address not in self._owners:
                self._owners[address] = owner
                self._next = offset + 1
                return address
        raise SandboxError("all pod addresses of this sandbox are in use", next_step="delete some pods")

    def free(self, owner: str) -> None:
        """The pod with uid `owner` is gone."""
        self._owners = {address: uid for address, uid in self._owners.items() if uid != owner}
