# SPDX-License-Identifier: Apache-2.0
"""IP addresses and CIDRs as Kubernetes reads them: with zeros before decimal numbers too, which nobody else takes."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

__all__ = ["Address", "Network", "mapped", "read_ip", "read_network"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
_DIGITS = re.compile("[0-9]+")


def read_ip(text: Any) -> Address | None:
    """The address that a text is, IPv4 written as IPv6 (`::ffff:1.2.3.4`) as what it is; None for no address."""
    if not isinstance(text, str) or "%" in text:
        return None
    # In IPv6 numbers may begin with zeros, but for those of an IPv4 address at its end.
    head, colon, tail = text.rpartition(":")
    try:
        ip = ipaddress.ip_address(head + colon + (_ZEROS.sub("", tail) if "." in tail else tail))
    except ValueError:
        return None
    return mapped(ip) or ip


def mapped(ip: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address in one of IPv6, if there is one."""
    return ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None


def read_network(text: Any) -> tuple[Address, Network] | None:
    """An address with the length of its network, and that network; None where it is none."""
    if not isinstance(text, str):
        return None
    address, _, bits = text.partition("/")
    ip = read_ip(address)
    if ip is None or not _DIGITS.fullmatch(bits) or len(bits) > 9:
        return None
    size = int(bits) - (96 if ip.version == 4 and ":" in address else 0)
    if not 0 <= size <= ip.max_prefixlen:
        return None
    return ip, ipaddress.ip_network((ip, size), strict=False)
