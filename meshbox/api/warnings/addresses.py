# SPDX-License-Identifier: Apache-2.0
"""IP addresses and CIDRs that are still read, and that Kubernetes would like to be written otherwise."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from meshbox.ip_texts import mapped, read_ip, read_network

__all__ = ["of_cidr", "of_ip"]

_LATER = "will be considered invalid in a future Kubernetes release"


def of_ip(path: str, value: Any) -> list[str]:
    """Warnings of an address at a path; none where it is none."""
    ip = read_ip(value)
    if ip is None:
        return []
    if _of_old(value):
        return [f'{path}: non-standard IP address {json.dumps(value)} {_LATER}: use "{ip}"']
    if ip.version == 6 and str(ip) != value:
        return [f'{path}: IPv6 address {json.dumps(value)} should be in RFC 5952 canonical format ("{ip}")']
    return []


def of_cidr(path: str, value: Any) -> list[str]:
    """Warnings of a block of addresses at a path; none where it is none."""
    if (read := read_network(value)) is None:
        return []
    ip, network = read
    found = []
    if network.network_address != ip:
        either = f'should be "{network}" or "{ip}/{ip.max_prefixlen}"?'
        found.append(f"{path}: CIDR value {json.dumps(value)} is ambiguous in this context ({either})")
    address, _, bits = value.partition("/")
    if _of_old(address) or (bits != "0" and bits.startswith("0")):
        found.append(f'{path}: non-standard CIDR value {json.dumps(value)} {_LATER}: use "{network}"')
    if not found and ip.version == 6 and str(network) != value:
        found.append(
            f'{path}: IPv6 CIDR value {json.dumps(value)} should be in RFC 5952 canonical format ("{network}")'
        )
    return found


def _of_old(address: str) -> bool:
    """Whether only Kubernetes reads it: zeros before a number, or IPv4 written as IPv6."""
    try:
        return mapped(ipaddress.ip_address(address)) is not None
    except ValueError:
        return True
