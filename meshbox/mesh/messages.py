# SPDX-License-Identifier: Apache-2.0
"""Envoy's configuration in protobuf's form: what the mesh writes as JSON, as it goes over a gRPC stream.

The JSON is protobuf's own (https://protobuf.dev/programming-guides/json/): names of fields as in the definitions or in
camel case, durations as "1.5s", wrappers as their value, an Any as its message beside "@type". Numbers and types are in
`data/envoy.txt`, which `tools.generate_envoy_tables` writes.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import json
import math
import re
import struct as packing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meshbox.images.grpc import wire

__all__ = ["MessageError", "encoded"]

Write = Callable[[Any], bytes]
"""Writes a value: of a message what is in it, of a field all of it."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SHORT = [wire.varint(size) for size in range(2_048)]
_ANY = "google.protobuf.Any"
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s")
_RANGES = {
    "int32": (-(2**31), 2**31),
    "uint32": (0, 2**32),
    "int64": (-(2**63), 2**63),
    "uint64": (0, 2**64),
}


class MessageError(ValueError):
    """What is no message of its type.

    Args:
        reason: What is wrong.
        path: Where, from the outside in.
    """

    def __init__(self, reason: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(f"{'.'.join(path)}: {reason}" if path else reason)
        self.reason, self.path = reason, path

    def below(self, name: str) -> MessageError:
        """The same, seen from the message around it."""
        return MessageError(self.reason, (name, *self.path))


def encoded(kind: str, value: Any) -> bytes:
    """A message in protobuf's form.

    Args:
        kind: The message, such as "envoy.config.route.v3.RouteConfiguration".
        value: The same as JSON, read.

    Raises:
        MessageError: it is none.
    """
    return _message(kind)(value)


@functools.cache
def _table() -> Mapping[str, str]:
    """Each message's fields and, with a "=" before its name, each enum's words."""
    lines = (Path(__file__).parent / "data/envoy.txt").read_text(encoding="utf-8").splitlines()
    return {name: rest for name, _, rest in (line.partition(" ") for line in lines)}


def _delimited(tag: bytes, value: bytes) -> bytes:
    size = len(value)
    return tag + (_SHORT[size] if size < len(_SHORT) else wire.varint(size)) + value


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


@functools.cache
def _message(kind: str) -> Write:
    """What writes a message; its fields are looked up when the first one comes."""
    if kind in _WELL_KNOWN:
        return _WELL_KNOWN[kind]
    told = _table().get(kind)
    if told is None:
        raise MessageError(f"no message {kind} is known here")
    package = kind
    while package in _table() or not re.fullmatch(r"[a-z0-9_.]+", package):
        package = package.rpartition(".")[0]
    fields: dict[str, Write] = {}
    for entry in told.split():
        name, number, of = entry.split(":")
        fields[name] = fields[_camel(name)] = _field(int(number), of, package)

    def write(value: Any) -> bytes:
        if not isinstance(value, dict):
            raise MessageError(f"{json.dumps(value)} is no object")
        parts = []
        for name, one in value.items():
            if one is None:
                continue
            try:
                parts.append(fields[name](one))
            except KeyError:
                raise MessageError(f"{kind} has no such field", (name,)) from None
            except MessageError as error:
                raise error.below(name) from None
        return b"".join(parts)

    return write


def _field(number: int, of: str, package: str) -> Write:
    """What writes a field, its number included."""
    if of.startswith("{"):
        key, _, of = of[1:].partition("}")
        return _map(number, _field(1, key, package), _field(2, of, package))
    if of.startswith("[]"):
        return _list(number, of[2:], package)
    name = f"{package}{of}" if of.startswith(".") else of
    if name in _SCALARS:
        kind, write = _SCALARS[name]
        tag = wire.varint(number << 3 | kind)
        return (lambda value: _delimited(tag, write(value))) if kind == _BYTES else lambda value: tag + write(value)
    tag = wire.varint(number << 3 | _VARINT)
    if (words := _table().get(f"={name}")) is not None or name == "google.protobuf.NullValue":
        known = {word: int(value) for word, _, value in (one.partition(":") for one in (words or "").split())}
        return lambda value: tag + _enum(known, value)
    tag = wire.varint(number << 3 | _BYTES)
    found: Write | None = None

    def write_message(value: Any) -> bytes:
        nonlocal found
        if found is None:
            # Not before, since messages hold each other.
            found = _message(name)
        return _delimited(tag, found(value))

    return write_message


def _list(number: int, of: str, package: str) -> Write:
    write = _field(number, of, package)

    def write_all(value: Any) -> bytes:
        if not isinstance(value, list):
            raise MessageError(f"{json.dumps(value)} is no list")
        return b"".join([write(one) for one in value])

    return write_all


def _map(number: int, key: Write, of: Write) -> Write:
    tag = wire.varint(number << 3 | _BYTES)

    def write_all(value: Any) -> bytes:
        if not isinstance(value, dict):
            raise MessageError(f"{json.dumps(value)} is no object")
        return b"".join([_delimited(tag, key(name) + of(one)) for name, one in value.items()])

    return write_all


def _enum(known: Mapping[str, int], value: Any) -> bytes:
    if isinstance(value, str):
        if value not in known:
            raise MessageError(f"{json.dumps(value)} is none of its words")
        return _SHORT[known[value]]
    return _whole("int32", value)


def _whole(kind: str, value: Any) -> bytes:
    try:
        # As a text too, which is how 64 bits are written in JSON; 5.0 is as good as 5.
        found = int(value) if isinstance(value, str) else value
        if isinstance(found, float) and found.is_integer():
            found = int(found)
    except ValueError:
        found = None
    least, end = _RANGES[kind]
    if type(found) is not int or not least <= found < end:
        raise MessageError(f"{json.dumps(value)} is no {kind}")
    return _SHORT[found] if 0 <= found < len(_SHORT) else wire.varint(found)


def _bool(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise MessageError(f"{json.dumps(value)} is neither true nor false")
    return b"\1" if value else b"\0"


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise MessageError(f"{json.dumps(value)} is no text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise MessageError("half a character") from None


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value).replace(b"-", b"+").replace(b"_", b"/") + b"==")
    except binascii.Error:
        raise MessageError("no base64") from None


def _real(form: str) -> Write:
    def write(value: Any) -> bytes:
        try:
            if isinstance(value, bool):
                raise TypeError
            return packing.pack(form, float(value))
        except (TypeError, ValueError, OverflowError):
            raise MessageError(f"{json.dumps(value)} is no number") from None

    return write


_SCALARS: Mapping[str, tuple[int, Write]] = {
    **{kind: (_VARINT, functools.partial(_whole, kind)) for kind in _RANGES},
    "bool": (_VARINT, _bool),
    "string": (_BYTES, _text),
    "bytes": (_BYTES, _bytes),
    "double": (_FIXED64, _real("<d")),
    "float": (_FIXED32, _real("<f")),
}


def _duration(value: Any) -> bytes:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise MessageError(f"{json.dumps(value)} is no duration")
    sign = -1 if found[1] else 1
    return _moment(sign * int(found[2]), sign * int((found[3] or "").ljust(9, "0")))


def _timestamp(value: Any) -> bytes:
    try:
        at = datetime.datetime.fromisoformat(value)
        seconds = at.timestamp() if at.tzinfo is not None else math.nan
        return _moment(math.floor(seconds), at.microsecond * 1000)
    except (TypeError, ValueError):
        raise MessageError(f"{json.dumps(value)} is no time") from None


def _moment(seconds: int, nanoseconds: int) -> bytes:
    return (wire.number(1, seconds) if seconds else b"") + (wire.number(2, nanoseconds) if nanoseconds else b"")


def _value(value: Any) -> bytes:
    """A google.protobuf.Value: any JSON."""
    match value:
        case None:
            return wire.number(1, 0)
        case bool():
            return wire.number(4, value)
        case int() | float():
            return wire.double(2, value)
        case str():
            return wire.length(3, _text(value))
        case list():
            return wire.length(6, _values(value))
        case _:
            return wire.length(5, _struct(value))


def _values(value: Any) -> bytes:
    if not isinstance(value, list):
        raise MessageError(f"{json.dumps(value)} is no list")
    return b"".join([wire.length(1, _value(one)) for one in value])


def _struct(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise MessageError(f"{json.dumps(value)} is no object")
    return b"".join(
        [wire.length(1, wire.length(1, _text(key)) + wire.length(2, _value(one))) for key, one in value.items()]
    )


def _any(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise MessageError(f"{json.dumps(value)} is no object")
    if not value:
        return b""
    url = value.get("@type")
    if not isinstance(url, str):
        raise MessageError('"@type" is missing')
    kind = url.rpartition("/")[2]
    rest = {name: one for name, one in value.items() if name != "@type"}
    if kind in _WELL_KNOWN and kind != "google.protobuf.Empty":
        # Their JSON has no place for another name.
        if rest.keys() != {"value"}:
            raise MessageError(f'{kind} needs "value", and nothing else')
        rest = rest["value"]
    return wire.length(1, url.encode()) + wire.length(2, _message(kind)(rest))


def _empty(value: Any) -> bytes:
    if value != {}:
        raise MessageError(f"{json.dumps(value)} is not empty")
    return b""


_WELL_KNOWN: Mapping[str, Write] = {
    _ANY: _any,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Empty": _empty,
    "google.protobuf.ListValue": _values,
    "google.protobuf.Struct": _struct,
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Value": _value,
    **{
        f"google.protobuf.{name}Value": _field(1, kind, "")
        for name, kind in {
            "Bool": "bool",
            "Bytes": "bytes",
            "Double": "double",
            "Float": "float",
            "Int32": "int32",
            "Int64": "int64",
            "String": "string",
            "UInt32": "uint32",
            "UInt64": "uint64",
        }.items()
    },
}
"""What has a form of its own in JSON."""
