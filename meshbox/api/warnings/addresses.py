# SPDX-License-Identifier: Apache-2.0
"""IP addresses and CIDRs that are still read, and that Kubernetes would like to be written otherwise."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

__all__ = ["of_cidr", "of_ip"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ZEROS = re.compile(r"(?<![0-9a-fA-F:])0+(?=[0-9])")
"""What stands before a decimal number: Kubernetes goes on reading it as one, Go and Python do not."""


def of_ip(path: str, value: Any) -> list[str]:
    """Warnings of an address at a path; none where it is none."""
    ip = _read(value)
    if ip is None:
        return []
    if _old_form(value):
        told = f"non-standard IP address {json.dumps(value)} will be considered invalid in a future Kubernetes release"
        return [f'{path}: {told}: use "{_plain(ip)}"']
    if ip.version == 6 and str(ip) != value:
        return [f'{path}: IPv6 address {json.dumps(value)} should be in RFC 5952 canonical format ("{ip}")']
    return []


def of_cidr(path: str, value: Any) -> list[str]:
    """Warnings of a block of addresses at a path; none where it is none."""
    address, slash, bits = str(value).partition("/")
    ip = _read(address)
    if ip is None or not slash or not bits.isdecimal():
        return []
    mapped = _mapped(ip)
    size = int(bits) - (96 if mapped is not None else 0)
    ip = mapped or ip
    if not 0 <= size <= ip.max_prefixlen:
        return []
    network = ipaddress.ip_network((ip, size), strict=False)
    found = []
    if network.network_address != ip:
        either = f'should be "{network}" or "{ip}/{ip.max_prefixlen}"?'
        found.append(f"{path}: CIDR value {json.dumps(value)} is ambiguous in this context ({either})")
    if _old_form(address):
        told = f"non-standard CIDR value {json.dumps(value)} will be considered invalid in a future Kubernetes release"
        found.append(f'{path}: {told}: use "{network}"')
    if not found and ip.version == 6 and f"{ip}/{size}" != value:
        found.append(
            f'{path}: IPv6 CIDR value {json.dumps(value)} should be in RFC 5952 canonical format ("{network}")'
        )
    return found


def _read(value: Any) -> _Address | None:
    try:
        return ipaddress.ip_address(_ZEROS.sub("", str(value)) if ":" not in str(value) else str(value))
    except ValueError:
        return None


def _old_form(value: str) -> bool:
    """Whether only Kubernetes reads it: zeros before a number, or IPv4 written as IPv6."""
    try:
        return _mapped(ipaddress.ip_address(value)) is not None
    except ValueError:
        return True


def _mapped(ip: _Address) -> ipaddress.IPv4Address | None:
    return ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None


def _plain(ip: _Address) -> _Address:
    return _mapped(ip) or ip
