"""Protobuf bodies, which kubectl sends for the kinds it knows (`kubectl create namespace`), as JSON has them.

Read by tables of field numbers (`codec_types`); replies are JSON always.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from labkit.ground import reading
from meshbox.api import refusals
from meshbox.api.codec.types import KINDS, MESSAGES
from meshbox.contracts import Obj

__all__ = ["decode"]

_MAGIC = b"k8s\x00"
_MAPS = {"ms": "s", "mq": "Q", "my": "y"}


class _Field(NamedTuple):
    name: str
    type: str
    repeated: bool
    pointer: bool


@cache
def _tables() -> dict[str, dict[int, _Field]]:
    tables = {}
    for line in MESSAGES.replace("\\\n", " ").splitlines():
        if line.strip():
            name, *fields = line.split()
            tables[name] = dict(_field(text) for text in fields)
    return tables


def _field(text: str) -> tuple[int, _Field]:
    number, name, kind = text.split(":")
    return int(number), _Field(name, kind.lstrip("[]*"), kind.startswith("[]"), kind.startswith("*"))


def decode(body: bytes) -> Obj:
    """The object in a protobuf body.

    Raises:
        ApiError: 400 where it is damaged, 415 where it is of a kind that no table describes.
    """
    if not body.startswith(_MAGIC):
        raise refusals.bad_request("the body of the request is not in Kubernetes' protobuf form")
    try:
        envelope: dict[int, Any] = dict(_values(body[len(_MAGIC) :]))
        kind: dict[int, Any] = dict(_values(envelope.get(1, b"")))
        api_version, name = kind.get(1, b"").decode(), kind.get(2, b"").decode()
        message = KINDS.get((api_version, name), name)
        if message not in _tables():
            raise refusals.unsupported_media_type(("application/json", "application/yaml"))
        values = itertools.count(1)
        return {"apiVersion": api_version, "kind": name, **_message(envelope.get(2, b""), message, values)}
    except reading.ReadingError as error:
        beyond = error.problem.startswith("it ")
        words = error.problem.removeprefix("it ") if beyond else "is damaged protobuf"
        raise refusals.bad_request(f"the body of the request {words}") from None
    except (ValueError, IndexError, AttributeError, TypeError, OverflowError, RecursionError):
        raise refusals.bad_request("the body of the request is damaged protobuf") from None


def _values(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message as they stand on the wire."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise ValueError("cut off")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("number too long")


def _message(data: bytes, name: str, values: Iterator[int]) -> Obj:
    fields = _tables()[name]
    result: Obj = {}
    for number, raw in _values(data):
        # Two bytes are an empty object in a list.
        if next(values) > reading.MOST_VALUES:
            raise reading.ReadingError(f"it holds more than {reading.MOST_VALUES} values")
        field = fields.get(number)
        if field is None:
            continue
        if field.type in _MAPS:
            pair: dict[int, Any] = dict(_values(_bytes(raw)))
            value = _scalar(pair.get(2, b""), _MAPS[field.type], values)
            result.setdefault(field.name, {})[pair.get(1, b"").decode()] = value
            continue
        value = _scalar(raw, field.type, values)
        if field.name == "-":
            result.update(value)
        elif field.repeated:
            result.setdefault(field.name, []).append(value)
        elif value or field.pointer:
            result[field.name] = value
    return result


def _bytes(raw: int | bytes) -> bytes:
    if isinstance(raw, int):
        raise TypeError("number in place of bytes")
    return raw


def _scalar(raw: int | bytes, kind: str, values: Iterator[int]) -> Any:
    if kind == "i":
        if not isinstance(raw, int):
            raise TypeError("bytes in place of a number")
        return raw - (1 << 64) if raw >= 1 << 63 else raw
    if kind == "b":
        return bool(raw)
    data = _bytes(raw)
    if kind == "s":
        return data.decode()
    if kind == "y":
        return base64.b64encode(data).decode()
    if kind == "T":
        parts: dict[int, Any] = dict(_values(data))
        seconds = _scalar(parts.get(1, 0), "i", values)
        # The zero time is year 1: not set.
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds > 0 else None
    if kind == "Q":
        return dict(_values(data)).get(1, b"0").decode()  # type: ignore[union-attr]
    if kind == "I":
        choice: dict[int, Any] = dict(_values(data))
        return choice.get(3, b"").decode() if choice.get(1) == 1 else _scalar(choice.get(2, 0), "i", values)
    if kind == "F":
        return reading.json_value(_bytes(dict(_values(data)).get(1, b"{}")))
    return _message(data, kind, values)
