# SPDX-License-Identifier: Apache-2.0
"""The string formats that the API server checks in custom resources."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable

from labkit.ground import duration
from meshbox.api.builtin.decoding import base64_error

__all__ = ["FORMATS", "checked", "fits"]

_HOSTNAME = re.compile(
    r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\.?"
)
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


def _digits(text: str) -> list[int]:
    return [int(sign) for sign in re.sub(r"[\s-]", "", text) if sign in "0123456789"]


def _isbn10(text: str) -> bool:
    plain = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9]{9}[0-9X]", plain):
        return False
    return sum(place * (10 if sign == "X" else int(sign)) for place, sign in enumerate(plain, 1)) % 11 == 0


def _isbn13(text: str) -> bool:
    if not re.fullmatch(r"[0-9]{13}", re.sub(r"[\s-]", "", text)):
        return False
    return sum(digit * (3 if place % 2 else 1) for place, digit in enumerate(_digits(text))) % 10 == 0


def _card(text: str) -> bool:
    """Of one of the great companies, with the last digit that its others ask for."""
    plain = re.sub(r"[^0-9]+", "", text)
    known = (
        r"4\d{12}(\d{3})?|5[1-5]\d{14}|6(011|5\d\d)\d{12}|3[47]\d{13}|3(0[0-5]|[68]\d)\d{11}|(2131|1800|35\d{3})\d{11}"
    )
    doubled = [digit * 2 if place % 2 else digit for place, digit in enumerate(reversed(_digits(plain)))]
    return re.fullmatch(known, plain) is not None and sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0


def _like(pattern: str, most: int | None = None) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None and (most is None or len(text) <= most)


def _uuid(third: str = "[0-9a-f]", fourth: str = "[0-9a-f]") -> Callable[[str], bool]:
    return _like(rf"(?i)[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}[0-9a-f]{{3}}-?{fourth}[0-9a-f]{{3}}-?[0-9a-f]{{12}}")


_SHORT = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_COLOR = r"(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])"

FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _like(r"[0-9A-Fa-f]{24}"),
    "byte": lambda text: bool(text) and not base64_error(text),
    "cidr": _cidr,
    "creditcard": _card,
    "date": _date,
    "datetime": _date_time,
    "duration": _duration,
    "email": _email,
    "hexcolor": _like(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "hostname": lambda text: _HOSTNAME.fullmatch(text) is not None,
    "ipv4": _address(ipaddress.IPv4Address),
    "ipv6": _address(ipaddress.IPv6Address),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "k8slongname": _like(rf"{_SHORT}(\.{_SHORT})*", 253),
    "k8sshortname": _like(_SHORT, 63),
    "mac": _like(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|([0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}"),
    "password": lambda _: True,
    "rgbcolor": _like(rf"rgb\(\s*{_COLOR}\s*,\s*{_COLOR}\s*,\s*{_COLOR}\s*\)"),
    "ssn": _like(r"\d{3}[- ]\d{2}[- ]\d{4}"),
    "uri": _uri,
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", "[89ab]"),
    "uuid5": _uuid("5", "[89ab]"),
}
"""By their names without dashes."""


def checked(name: object) -> bool:
    """Whether the server looks at a format; of others (int32, double …) it says nothing."""
    return isinstance(name, str) and name.replace("-", "") in FORMATS


def fits(name: str, text: str) -> bool:
    """Whether `text` has the format `name`; one that is not known fits everything."""
    check = FORMATS.get(name.replace("-", ""))
    return check is None or check(text)
