# SPDX-License-Identifier: Apache-2.0
"""Which loopback addresses a sandbox uses, and for what.

A sandbox owns 127.X.0.0/16. Inside it (third octet):

    0          the node: API server, NodePorts, xDS
    8          addresses of the load balancer (``labkit up --loadbalancer``)
    16 – 63    ClusterIPs of Services
    64 – 127   pod IPs
    128 – 191  each pod's own "localhost": the pod IP with 64 added to the third octet

Linux lets an unprivileged process bind all of 127.0.0.0/8 with no set-up; other loopback addresses than
127.0.0.1 exist on Linux only.
"""

from __future__ import annotations

import ipaddress
import socket

from msgspec import Struct

__all__ = ["LOW_PORT_SHIFT", "AddressPlan"]

LOW_PORT_SHIFT = 20000
"""Added to a port below 1024 where this user may not bind it."""


def _can_bind_low_ports(address: str) -> bool:
    with socket.socket() as probe:
        try:
            # 1023 is not assigned to any service, so "in use" is not what fails here.
            probe.bind((address, 1023))
        except PermissionError:
            return False
        except OSError:
            return True
    return True


class AddressPlan(Struct, frozen=True):
    """The addresses of one sandbox.

    Args:
        number: X in 127.X.0.0/16, 1 to 254.
        low_ports: Whether ports below 1024 can be bound as they are.
    """

    number: int
    low_ports: bool = True

    @classmethod
    def of(cls, number: int) -> AddressPlan:
        """The plan for 127.`number`.0.0/16 on this machine, for this user."""
        return cls(number, _can_bind_low_ports(f"127.{number}.0.1"))

    @property
    def node(self) -> str:
        """The node's address (``status.hostIP`` of every pod)."""
        return f"127.{self.number}.0.1"

    @property
    def service_cidr(self) -> ipaddress.IPv4Network:
        """Where the first ClusterIPs come from: 127.X.16.0/20 (4094 Services)."""
        return ipaddress.IPv4Network(f"127.{self.number}.16.0/20")

    @property
    def pod_cidr(self) -> ipaddress.IPv4Network:
        """Where pod IPs come from: 127.X.64.0/18 (16382 pods)."""
        return ipaddress.IPv4Network(f"127.{self.number}.64.0/18")

    @property
    def loadbalancer_cidr(self) -> ipaddress.IPv4Network:
        """Where load balancer addresses come from: 127.X.8.0/24."""
        return ipaddress.IPv4Network(f"127.{self.number}.8.0/24")

    def local(self, pod_ip: str) -> str:
        """The address that stands for "localhost" inside the pod at `pod_ip`."""
        a, b, c, d = pod_ip.split(".")
        return f"{a}.{b}.{int(c) + 64}.{d}"

    def of_pods(self, address: str) -> bool:
        """Whether an address is one that pods may have."""
        a, b, c, *_ = [*address.split("."), "", ""]
        return (a, b) == ("127", str(self.number)) and c.isdigit() and 64 <= int(c) < 128

    def port(self, port: int) -> int:
        """The real port behind `port`: the same, or shifted where privilege lacks; 0 stays "any free one"."""
        return port + LOW_PORT_SHIFT if 0 < port < 1024 and not self.low_ports else port
