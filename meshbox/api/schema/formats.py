"""The string formats that the API server checks in custom resources."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable

from meshbox.api.builtin.decoding import base64_error

__all__ = ["fits", "go_duration"]

_HOSTNAME = re.compile(
    r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\.?"
)
_MAC = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|([0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}")
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:?[0-9]{2})", re.ASCII
)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def go_duration(text: str) -> int | None:
    """A duration as Go writes it ("1h30m", "1.5s", "-2ms") in nanoseconds; None where `text` is none."""
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0
    total, position = 0, 0
    while position < len(body):
        part = _DURATION_PART.match(body, position)
        if part is None:
            return None
        whole, _, fraction = part[1].partition(".")
        unit = _NANOSECONDS[part[2]]
        total += int(whole or 0) * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        position = part.end()
    if not body or total >= 2**63:
        return None
    return -total if text[0] == "-" else total


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


_CHECKS: dict[str, Callable[[str], bool]] = {
    "byte": lambda text: not base64_error(text),
    "cidr": _cidr,
    "date": _date,
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": lambda text: go_duration(text) is not None,
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
    check = _CHECKS.get(name)
    return check is None or check(text)
