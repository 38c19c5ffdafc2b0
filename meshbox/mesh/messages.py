# SPDX-License-Identifier: Apache-2.0
"""Envoy's configuration in protobuf's form: what the mesh writes as JSON, as it goes over a gRPC stream.

The JSON is protobuf's own (https://protobuf.dev/programming-guides/json/): names of fields as in the definitions or in
camel case, durations as "1.5s", wrappers as their value, an Any as its message beside "@type". What Envoy's own reader
takes besides is taken too where there is no doubt what is meant: words of enums in any case, "true" for true, one value
for a list of one, a duration as its seconds and nanos. Numbers and types are in `data/envoy.txt`, which
`tools.generate_envoy_tables` writes.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshbox.images.grpc import wire
from meshbox.mesh.message_values import SCALARS, SHORT, MessageError, Write, duration, enum, seen, text, timestamp

__all__ = ["MessageError", "encoded"]

_ANY, _VALUE, _NULL = "google.protobuf.Any", "google.protobuf.Value", "google.protobuf.NullValue"
_DURATION, _TIMESTAMP = "google.protobuf.Duration", "google.protobuf.Timestamp"


def encoded(kind: str, value: Any) -> bytes:
    """A message in protobuf's form.

    Args:
        kind: The message, such as "envoy.config.route.v3.RouteConfiguration".
        value: The same as JSON, read.

    Raises:
        MessageError: it is none.
    """
    try:
        return _message(kind)(value)
    except RecursionError:
        # Envoy reads no more than a hundred messages within each other.
        raise MessageError("there is too much within each other") from None


@functools.cache
def _table() -> Mapping[str, str]:
    """Each message's fields and, with a "=" before its name, each enum's words."""
    lines = (Path(__file__).parent / "data/envoy.txt").read_text(encoding="utf-8").splitlines()
    found = {name: rest for name, _, rest in (line.partition(" ") for line in lines)}
    found |= dict.fromkeys((_DURATION, _TIMESTAMP), "seconds:1:int64 nanos:2:int32")
    return found | {name: f"value:1:{kind}" for name, kind in _WRAPPED.items()} | {f"={_NULL}": "NULL_VALUE:0"}


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


@functools.cache
def _message(kind: str) -> Write:
    """What writes a message."""
    return _WELL_KNOWN.get(kind) or _by_fields(kind)


@functools.cache
def _by_fields(kind: str) -> Write:
    """What writes a message as its fields; what they hold is looked up when the first one comes."""
    told = _table().get(kind)
    if told is None:
        raise MessageError(f"no message {json.dumps(kind)} is known here")
    package = kind
    while package in _table() or not re.fullmatch(r"[a-z0-9_.]+", package):
        package = package.rpartition(".")[0]
    fields: dict[str, Write] = {}
    groups: dict[str, str] = {}
    nullable: set[str] = set()
    for entry in told.split():
        name, number, of, *group = entry.split(":")
        fields[name] = _field(int(number), of, package)
        if group:
            groups[name] = groups[_camel(name)] = group[0]
        if of in (_VALUE, _NULL):
            nullable |= {name, _camel(name)}
    grouped = frozenset(groups)
    camels: dict[str, str] = {}

    def of_camel(name: str, value: Mapping[str, Any]) -> Write:
        camels.update({} if camels else {_camel(one): one for one in fields})
        if name not in camels:
            raise MessageError(f"{kind} has no such field", (str(name),))
        if value[name] is not None and value.get(camels[name]) is not None:
            raise MessageError(f"it is there as {camels[name]} too: leave out one of the two", (name,))
        return fields[camels[name]]

    def check_groups(value: Mapping[str, Any]) -> None:
        first: dict[str, str] = {}
        for name in (name for name in value if name in groups and (value[name] is not None or name in nullable)):
            if (other := first.setdefault(groups[name], name)) != name:
                raise MessageError(f"{other} is there too: leave out one of the two", (name,))

    def write(value: Any) -> bytes:
        if not isinstance(value, dict):
            raise MessageError(f"{seen(value)} is no object")
        parts = []
        for name, one in value.items():
            try:
                write_one = fields[name]
            except KeyError:
                write_one = of_camel(name, value)
            if one is None and name not in nullable:
                continue
            try:
                parts.append(write_one(one))
            except MessageError as error:
                raise error.below(name) from None
        if grouped and len(parts) > 1 and len(grouped.intersection(value)) > 1:
            check_groups(value)
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
    if name in SCALARS:
        kind, write = SCALARS[name]
        tag = wire.varint(number << 3 | kind)
        return _delimited_field(tag, write) if kind == wire.BYTES else lambda value: tag + write(value)
    if (words := _table().get(f"={name}")) is not None:
        word = enum(wire.varint(number << 3 | wire.VARINT), words)
        return word if name != _NULL else lambda value: word("NULL_VALUE" if value is None else value)
    return _delimited_field(wire.varint(number << 3 | wire.BYTES), None, name)


def _delimited_field(tag: bytes, write: Write | None, name: str = "") -> Write:
    def write_all(value: Any) -> bytes:
        nonlocal write
        if write is None:
            # Not before, since messages hold each other.
            write = _message(name)
        body = write(value)
        try:
            return tag + SHORT[len(body)] + body
        except IndexError:
            return tag + wire.varint(len(body)) + body

    return write_all


def _list(number: int, of: str, package: str) -> Write:
    write = _field(number, of, package)

    def write_all(value: Any) -> bytes:
        return b"".join([write(one) for one in value]) if isinstance(value, list) else write(value)

    return write_all


def _map(number: int, key: Write, of: Write) -> Write:
    def write_all(value: Any) -> bytes:
        if not isinstance(value, dict):
            raise MessageError(f"{seen(value)} is no object")
        parts = []
        for name, one in value.items():
            try:
                # A null is the key with nothing, as Envoy takes it.
                parts.append(wire.length(number, key(name) if one is None else key(name) + of(one)))
            except MessageError as error:
                raise error.below(str(name)) from None
        return b"".join(parts)

    return write_all


def _value(value: Any) -> bytes:
    """A google.protobuf.Value: any JSON."""
    match value:
        case None:
            return wire.number(1, 0)
        case bool():
            return wire.number(4, value)
        case int() | float():
            return _NUMBER(value)
        case str():
            return wire.length(3, text(value))
        case list():
            return wire.length(6, _values(value))
        case _:
            return wire.length(5, _struct(value))


def _values(value: Any) -> bytes:
    if not isinstance(value, list):
        raise MessageError(f"{seen(value)} is no list")
    return b"".join([wire.length(1, _value(one)) for one in value])


def _struct(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise MessageError(f"{seen(value)} is no object")
    return b"".join(
        [wire.length(1, wire.length(1, text(key)) + wire.length(2, _value(one))) for key, one in value.items()]
    )


def _any(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise MessageError(f"{seen(value)} is no object")
    if not value:
        return b""
    rest = value.copy()
    url = rest.pop("@type", None)
    if not isinstance(url, str):
        raise MessageError('"@type" is missing')
    kind = url.rpartition("/")[2]
    write = _message(kind)
    if kind not in _WELL_KNOWN:
        body = write(rest)
    else:
        # Their JSON has no place for another name.
        given = rest.pop("value", None)
        if rest:
            raise MessageError(f'{kind} is under "value", and nothing is beside it', (str(next(iter(rest))),))
        nothing = given is None and (kind not in (_ANY, _VALUE) or "value" not in value)
        body = b"" if nothing else write(given)
    return wire.length(1, text(url)) + wire.length(2, body)


def _empty(value: Any) -> bytes:
    if value != {}:
        raise MessageError(f"{seen(value)} is not empty")
    return b""


_WRAPPED = {
    f"google.protobuf.{name}Value": kind
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
}


def _either(name: str, write: Write) -> Write:
    """What writes a message in its own form, or as its fields."""
    return lambda value: _by_fields(name)(value) if isinstance(value, dict) else write(value)


_NUMBER = _field(2, "double", "")


_WELL_KNOWN: Mapping[str, Write] = {
    _ANY: _any,
    _DURATION: _either(_DURATION, duration),
    "google.protobuf.Empty": _empty,
    "google.protobuf.ListValue": _values,
    "google.protobuf.Struct": _struct,
    _TIMESTAMP: _either(_TIMESTAMP, timestamp),
    _VALUE: _value,
    **{name: _either(name, _field(1, kind, "")) for name, kind in _WRAPPED.items()},
}
"""What has a form of its own in JSON."""
