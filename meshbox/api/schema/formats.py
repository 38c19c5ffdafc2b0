# SPDX-License-Identifier: Apache-2.0
"""The string formats that the API server checks in custom resources."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable

from labkit.ground import duration
from meshbox.api.builtin.decoding import base64_error

__all__ = ["FORMATS", "fits"]

_HOSTNAME = re.compile(
    r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\.?"
)
_MAC = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|([0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}")
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:?[0-9]{2})", re.ASCII
)


def _duration(text: str) -> bool:
    try:
        duration.from_go(text)
    except ValueError:
        return False
    return True


def _date(text: str) -> bool:
    if len(text) != 10:
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _date_time(text: str) -> bool:
    return _DATE_TIME.fullmatch(text) is not None and _date(text[:10]) and text[11:13] < "24" and text[14:16] < "60"


def _address(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            kind(text)
        except ValueError:
            return False
        return True

    return check


def _cidr(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _email(text: str) -> bool:
    name, at, host = text.rpartition("@")
    return bool(name and at and host) and not re.search(r"[\s<>]", text)


def _uri(text: str) -> bool:
    return re.match(r"[A-Za-z][-+.A-Za-z0-9]*:\S|/", text) is not None and not re.search(r"[\s\x00-\x1f]", text)


FORMATS: dict[str, Callable[[str], bool]] = {
    "byte": lambda text: not base64_error(text),
    "cidr": _cidr,
    "date": _date,
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": _duration,
    "email": _email,
    "hostname": lambda text: _HOSTNAME.fullmatch(text) is not None,
    "ipv4": _address(ipaddress.IPv4Address),
    "ipv6": _address(ipaddress.IPv6Address),
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "uri": _uri,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
}


def fits(name: str, text: str) -> bool:
    """Whether `text` has the format `name`; one that is not known fits everything."""
    check = FORMATS.get(name)
    return check is None or check(text)
