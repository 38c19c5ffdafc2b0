# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' libraries of CEL that have types of their own: addresses, quantities, versions, names, sets."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from celpy import celtypes

from labkit.ground import names
from labkit.ground import quantity as quantities
from meshbox.api.builtin.decoding import quantity_error
from meshbox.api.cel.comparing import COMPARISONS
from meshbox.api.cel.optional import Optional, fail, strict
from meshbox.api.refusals import quoted
from meshbox.api.schema.formats import fits

__all__ = ["LIBRARIES"]

_within = COMPARISONS["_in_"]


class _Quantity(NamedTuple):
    amount: Fraction


class _Cidr(NamedTuple):
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    network: ipaddress.IPv4Network | ipaddress.IPv6Network

    def __str__(self) -> str:
        return f"{self.ip}/{self.network.prefixlen}"


@functools.total_ordering
@dataclasses.dataclass(frozen=True, eq=False)
class _Version:
    numbers: tuple[int, ...]
    before: tuple[str, ...]
    build: str

    def _order(self) -> Any:
        parts = [(0, int(one), "") if one.isdigit() else (1, 0, one) for one in self.before]
        return self.numbers, not self.before, parts

    def __lt__(self, other: Any) -> bool:
        return bool(self._order() < other._order())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Version) and bool(self._order() == other._order())

    def __hash__(self) -> int:
        return hash(self.numbers)

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers)) + ("-" + ".".join(self.before) if self.before else "") + self.build


_PART = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-({_PART}(?:\.{_PART})*))?(\+[0-9A-Za-z.-]+)?", re.ASCII
)


def _address(text: Any) -> Any:
    """An IP address as CEL takes it: without a zone, and no IPv4 address within IPv6; None for any other text."""
    try:
        found = ipaddress.ip_address(str(text))
    except ValueError:
        return None
    return None if "%" in str(text) or getattr(found, "ipv4_mapped", None) else found


def _cidr(text: Any) -> Any:
    address, slash, size = str(text).partition("/")
    ip = _address(address)
    if not slash or ip is None or not re.fullmatch(r"0|[1-9]\d*", size, re.ASCII) or int(size) > ip.max_prefixlen:
        return None
    return _Cidr(ip, ipaddress.ip_network(str(text), strict=False))


def _semver(text: Any, loose: Any = False) -> Any:
    plain = str(text)
    if loose:
        numbers, rest = re.fullmatch(r"v?([\d.]*)(.*)", plain, re.DOTALL).groups()  # type: ignore[union-attr]
        parts = [one.lstrip("0") or "0" for one in numbers.split(".")] if numbers else []
        plain = ".".join([*parts, "0", "0"][: max(3, len(parts))]) + rest if parts else plain
    match = _VERSION.fullmatch(plain)
    if match is None:
        return None
    return _Version(tuple(map(int, match.groups()[:3])), tuple(match[4].split(".")) if match[4] else (), match[5] or "")


def _number(text: Any) -> Any:
    return None if quantity_error(str(text)) else _Quantity(Fraction(quantities.parse(str(text))))


def _made(read: Callable[..., Any], problem: Callable[[str], str]) -> Callable[..., Any]:
    def run(text: Any, *more: Any) -> Any:
        found = read(text, *more)
        return fail(problem(str(text))) if found is None else found

    return run


def _ip(value: Any) -> Any:
    # An address from its text, or that of a network.
    if isinstance(value, _Cidr):
        return value.ip
    return _made(_address, lambda text: f"IP Address {quoted(text)} parse error during conversion from string")(value)


def _contains(network: Any, what: Any) -> Any:
    other = what if not isinstance(what, str) else _cidr(what) if "/" in what else _address(what)
    if other is None:
        return fail(
            f"{'CIDR' if '/' in str(what) else 'IP'} {quoted(str(what))} parse error during conversion from string"
        )
    ip, size = (other.ip, other.network.prefixlen) if isinstance(other, _Cidr) else (other, 128)
    return celtypes.BoolType(ip in network.network and size >= network.network.prefixlen)


def _compare(one: Any, other: Any) -> Any:
    return celtypes.IntType((one > other) - (one < other))


def _add(sign: int) -> Callable[..., Any]:
    def run(one: Any, other: Any) -> Any:
        return _Quantity(one.amount + sign * (other.amount if isinstance(other, _Quantity) else int(other)))

    return run


def _whole(value: _Quantity) -> bool:
    return value.amount.denominator == 1 and -(2**63) <= value.amount < 2**63


def _integer(value: Any) -> Any:
    return celtypes.IntType(int(value.amount)) if _whole(value) else fail("cannot convert value to integer")


class _Format(NamedTuple):
    check: Callable[[str], list[str]]


def _checked(name: str, words: str) -> _Format:
    return _Format(lambda text: [] if fits(name, text) else [words])


def _prefix(check: Callable[[str], list[str]]) -> _Format:
    return _Format(lambda text: check(text[:-1] + "a" if text.endswith("-") and len(text) > 1 else text))


_FORMATS = {
    "dns1123Label": _Format(names.dns1123_label),
    "dns1123Subdomain": _Format(names.dns1123_subdomain),
    "dns1035Label": _Format(names.dns1035_label),
    "dns1123LabelPrefix": _prefix(names.dns1123_label),
    "dns1123SubdomainPrefix": _prefix(names.dns1123_subdomain),
    "dns1035LabelPrefix": _prefix(names.dns1035_label),
    "qualifiedName": _Format(names.qualified_name),
    "labelValue": _Format(names.label_value),
    "uri": _Format(lambda text: [] if fits("uri", text) else [f"parse {quoted(text)}: invalid URI for request"]),
    "uuid": _checked("uuid", "does not match the UUID format"),
    "byte": _checked("byte", "invalid base64"),
    "date": _checked("date", "invalid date"),
    "datetime": _checked("datetime", "invalid datetime"),
}


def _validate(form: Any, text: Any) -> Any:
    found = form.check(str(text))
    return Optional((celtypes.ListType(map(celtypes.StringType, found)),)) if found else Optional()


def _all_in(one: Any, other: Any) -> bool:
    return all(_within(item, one) for item in other)


def _answers(about: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: celtypes.BoolType(bool(about(*values)))


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _add(1),
    "asApproximateFloat": lambda value: celtypes.DoubleType(float(value.amount)),
    "asInteger": _integer,
    "cidr": _made(_cidr, lambda text: f"network address parse error during conversion from string: {quoted(text)}"),
    "compareTo": _compare,
    "containsCIDR": _contains,
    "containsIP": _contains,
    "family": lambda value: celtypes.IntType(value.version),
    "format.named": lambda name: Optional((_FORMATS[name],) if name in _FORMATS else ()),
    "ip": _ip,
    "ip.isCanonical": _answers(lambda text: str(_address(text)) == str(text)),
    "isCIDR": _answers(lambda text: _cidr(text) is not None),
    "isGlobalUnicast": _answers(
        lambda ip: not (ip.is_unspecified or ip.is_loopback or ip.is_multicast or ip.is_link_local)
    ),
    "isGreaterThan": _answers(lambda one, other: one > other),
    "isIP": _answers(lambda text: _address(text) is not None),
    "isInteger": _answers(_whole),
    "isLessThan": _answers(lambda one, other: one < other),
    "isLinkLocalMulticast": _answers(
        lambda ip: ip in ipaddress.ip_network("224.0.0.0/24" if ip.version == 4 else "ff02::/16")
    ),
    "isLinkLocalUnicast": _answers(lambda ip: ip.is_link_local),
    "isLoopback": _answers(lambda ip: ip.is_loopback),
    "isQuantity": _answers(lambda text: _number(text) is not None),
    "isSemver": _answers(lambda *given: _semver(*given) is not None),
    "isUnspecified": _answers(lambda ip: ip.is_unspecified),
    "major": lambda value: celtypes.IntType(value.numbers[0]),
    "masked": lambda value: _Cidr(value.network.network_address, value.network),
    "minor": lambda value: celtypes.IntType(value.numbers[1]),
    "patch": lambda value: celtypes.IntType(value.numbers[2]),
    "prefixLength": lambda value: celtypes.IntType(value.network.prefixlen),
    "quantity": _made(_number, lambda text: quantity_error(text) or ""),
    "semver": _made(_semver, lambda text: f"No Major.Minor.Patch elements found in {quoted(text)}"),
    "sets.contains": _answers(_all_in),
    "sets.equivalent": _answers(lambda one, other: _all_in(one, other) and _all_in(other, one)),
    "sets.intersects": _answers(lambda one, other: any(_within(item, one) for item in other)),
    "sign": lambda value: celtypes.IntType((value.amount > 0) - (value.amount < 0)),
    "sub": _add(-1),
    "validate": _validate,
    **{f"format.{name}": _constant(form) for name, form in _FORMATS.items()},
}
LIBRARIES = {name: strict(function) for name, function in _FUNCTIONS.items()}
"""Name → function; a method's object is its first argument."""
