# SPDX-License-Identifier: Apache-2.0
"""What `envoy.service.ratelimit.v3` asks and is answered, in protobuf and in protobuf's JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.ground import reading
from meshbox.images.grpc import wire

__all__ = ["OK", "OVER_LIMIT", "UNITS", "Answer", "Asked", "BadRequestError", "Descriptor", "Status", "Unit"]

OK, OVER_LIMIT = 1, 2
_CODES = {OK: "OK", OVER_LIMIT: "OVER_LIMIT"}
MOST_UINT32 = (1 << 32) - 1


class BadRequestError(ValueError):
    """What is asked is no RateLimitRequest."""


@dataclass(frozen=True)
class Unit:
    """What a limit is per.

    Args:
        name: "MINUTE" …
        number: In protobuf.
        seconds: How long a window is.
    """

    name: str
    number: int
    seconds: int


_DAY = 24 * 60 * 60
UNITS = {
    name: Unit(name, number, seconds)
    for name, number, seconds in (
        ("SECOND", 1, 1),
        ("MINUTE", 2, 60),
        ("HOUR", 3, 60 * 60),
        ("DAY", 4, _DAY),
        ("MONTH", 5, 30 * _DAY),
        ("YEAR", 6, 365 * _DAY),
        ("WEEK", 7, 7 * _DAY),
    )
}
"""By name. Windows are of equal length, so a month is 30 days from one multiple of that since 1970 to the next."""

_UNIT_NAMES = {0: "UNKNOWN", **{unit.number: unit.name for unit in UNITS.values()}}


@dataclass(frozen=True)
class Descriptor:
    """One set of keys and values to be limited.

    Args:
        entries: Keys and values, in order.
        limit: Requests and the unit's name, where Envoy's own configuration has a limit in place of the service's.
        hits: What this one counts as; None where the request says it.
    """

    entries: tuple[tuple[str, str], ...] = ()
    limit: tuple[int, str] | None = None
    hits: int | None = None


@dataclass(frozen=True)
class Asked:
    """A RateLimitRequest.

    Args:
        domain: Whose limits.
        descriptors: What is to be limited.
        hits: What the request counts as; 0 for one.
    """

    domain: str = ""
    descriptors: tuple[Descriptor, ...] = ()
    hits: int = 0

    @classmethod
    def read(cls, message: bytes) -> Asked:
        """From protobuf.

        Raises:
            BadRequestError: it is none.
        """
        try:
            found = list(wire.fields(message))
            descriptors = tuple(_descriptor(value) for value in _inner(found, 2))
            return cls(_text(found, 1), descriptors, _number(found, 3))
        except (wire.WireError, UnicodeDecodeError) as error:
            raise BadRequestError(f"proto: cannot parse invalid wire-format data: {error}") from None

    @classmethod
    def read_json(cls, text: bytes) -> Asked:
        """From JSON.

        Raises:
            BadRequestError: it is none.
        """
        try:
            found = _members(reading.json_value(text), _REQUEST)
        except reading.ReadingError as error:
            raise BadRequestError(f"proto: syntax error: {error}") from None
        return cls(found.get("domain", ""), tuple(found.get("descriptors", ())), found.get("hitsAddend", 0))


_Fields = list[tuple[int, int | bytes]]


def _inner(found: _Fields, number: int) -> Iterator[bytes]:
    return (value for one, value in found if one == number and isinstance(value, bytes))


def _text(found: _Fields, number: int) -> str:
    return next((value.decode() for value in _inner(found, number)), "")


def _number(found: _Fields, number: int) -> int:
    return next((value for one, value in found if one == number and isinstance(value, int)), 0)


def _descriptor(message: bytes) -> Descriptor:
    found = list(wire.fields(message))
    pairs = [list(wire.fields(entry)) for entry in _inner(found, 1)]
    limits = [list(wire.fields(one)) for one in _inner(found, 2)]
    hits = [_number(list(wire.fields(one)), 1) for one in _inner(found, 3)]
    return Descriptor(
        tuple((_text(pair, 1), _text(pair, 2)) for pair in pairs),
        next(((_number(one, 1), _UNIT_NAMES.get(_number(one, 2), "UNKNOWN")) for one in limits), None),
        next((-one if _number(found, 4) else one for one in hits), None),
    )


def _members(value: Any, known: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The members of an object, each as `known` reads it, under their names in JSON."""
    if not isinstance(value, dict):
        raise BadRequestError("proto: syntax error: unexpected token")
    found = {}
    for given, one in value.items():
        name = re.sub(r"_([a-z])", lambda match: match[1].upper(), given)
        if name not in known:
            raise BadRequestError(f'proto: unknown field "{given}"')
        if one is not None:
            found[name] = known[name](one)
    return found


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise BadRequestError("proto: invalid value for string field")
    return value


def _count(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() and value.isascii() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MOST_UINT32:
        raise BadRequestError("proto: invalid value for uint32 field")
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRequestError("proto: invalid value for bool field")
    return value


def _unit(value: Any) -> str:
    name = _UNIT_NAMES.get(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if name not in _UNIT_NAMES.values():
        raise BadRequestError("proto: invalid value for enum field unit")
    return str(name)


def _list(read: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def taken(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise BadRequestError("proto: syntax error: unexpected token")
        return [read(one) for one in value]

    return taken


def _entry(value: Any) -> tuple[str, str]:
    found = _members(value, {"key": _string, "value": _string})
    return found.get("key", ""), found.get("value", "")


def _override(value: Any) -> tuple[int, str]:
    found = _members(value, {"requestsPerUnit": _count, "unit": _unit})
    return found.get("requestsPerUnit", 0), found.get("unit", "UNKNOWN")


def _json_descriptor(value: Any) -> Descriptor:
    known = {"entries": _list(_entry), "limit": _override, "hitsAddend": _count, "isNegativeHits": _flag}
    found = _members(value, known)
    hits = found.get("hitsAddend")
    signed = -hits if hits is not None and found.get("isNegativeHits") else hits
    return Descriptor(tuple(found.get("entries", ())), found.get("limit"), signed)


_REQUEST: Mapping[str, Callable[[Any], Any]] = {
    "domain": _string,
    "descriptors": _list(_json_descriptor),
    "hitsAddend": _count,
}


@dataclass(frozen=True)
class Status:
    """What became of one descriptor.

    Args:
        code: `OK` or `OVER_LIMIT`.
        limit: Requests, unit and the limit's name; None where none applies.
        remaining: Requests that are left in this window.
        reset: Seconds until the next one.
    """

    code: int = OK
    limit: tuple[int, Unit, str] | None = None
    remaining: int = 0
    reset: int = 0

    def _protobuf(self) -> bytes:
        made = wire.number(1, self.code)
        if self.limit is not None:
            requests, unit, name = self.limit
            made += wire.length(2, _some(1, requests) + wire.number(2, unit.number) + wire.text(3, name))
        made += _some(3, self.remaining)
        return made + (wire.length(4, _some(1, self.reset)) if self.limit is not None else b"")

    def _json(self) -> dict[str, Any]:
        made: dict[str, Any] = {"code": _CODES[self.code]}
        if self.limit is not None:
            requests, unit, name = self.limit
            current = {"requestsPerUnit": requests, "unit": unit.name, "name": name}
            made["currentLimit"] = {key: value for key, value in current.items() if value}
        if self.remaining:
            made["limitRemaining"] = self.remaining
        if self.limit is not None:
            made["durationUntilReset"] = f"{self.reset}s"
        return made


def _some(field_number: int, value: int) -> bytes:
    return wire.number(field_number, value) if value else b""


@dataclass(frozen=True)
class Answer:
    """A RateLimitResponse.

    Args:
        code: `OK`, or `OVER_LIMIT` if any descriptor is.
        statuses: One for each descriptor.
        headers: What is to be added to the response.
    """

    code: int
    statuses: tuple[Status, ...]
    headers: tuple[tuple[str, str], ...] = field(default=())

    def protobuf(self) -> bytes:
        """The message."""
        made = wire.number(1, self.code) + b"".join(wire.length(2, one._protobuf()) for one in self.statuses)
        return made + b"".join(wire.length(3, wire.text(1, name) + wire.text(2, value)) for name, value in self.headers)

    def json(self) -> dict[str, Any]:
        """The same, as protobuf's JSON has it."""
        made: dict[str, Any] = {"overallCode": _CODES[self.code], "statuses": [one._json() for one in self.statuses]}
        if self.headers:
            made["responseHeadersToAdd"] = [{"key": name, "value": value} for name, value in self.headers]
        return made
