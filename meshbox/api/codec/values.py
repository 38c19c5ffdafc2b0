# SPDX-License-Identifier: Apache-2.0
"""Single values of Kubernetes' protobuf, as JSON has them: numbers, times, quantities, and what Go writes by hand."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from labkit.ground import reading

__all__ = ["SCALARS", "Raw", "data_of", "wire", "zero"]

Raw = int | bytes
"""A value on the wire: a number, or the bytes of anything else."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wire(data: bytes) -> Iterator[tuple[int, Raw]]:
    """The fields of a message as they stand on the wire.

    Raises:
        ValueError, IndexError: it is damaged.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data) or not number:
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


def data_of(raw: Raw) -> bytes:
    """The bytes of a value that is no number.

    Raises:
        TypeError: it is one.
    """
    if isinstance(raw, int):
        raise TypeError("number in place of bytes")
    return raw


def _integer(raw: Raw) -> int:
    if not isinstance(raw, int):
        raise TypeError("bytes in place of a number")
    return raw - (1 << 64) if raw >= 1 << 63 else raw


def _double(raw: Raw) -> float | int:
    value: float = struct.unpack("<d", data_of(raw))[0]
    # JSON has one kind of number, and Go writes a whole one without a point.
    return int(value) if value.is_integer() else value


def _parts(raw: Raw) -> dict[int, Raw]:
    return dict(wire(data_of(raw)))


def _moment(raw: Raw) -> datetime | None:
    # Nothing at all is the zero time, year 1, which means "not set"; the year 1970 has a zero in it.
    if not raw:
        return None
    parts = _parts(raw)
    return _EPOCH + timedelta(seconds=_integer(parts.get(1, 0)), microseconds=_integer(parts.get(2, 0)) // 1000)


def _time(raw: Raw) -> str | None:
    moment = _moment(raw)
    return None if moment is None else moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _micro_time(raw: Raw) -> str | None:
    moment = _moment(raw)
    return None if moment is None else moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _int_or_string(raw: Raw) -> int | str:
    parts = _parts(raw)
    return data_of(parts.get(3, b"")).decode() if parts.get(1) == 1 else _integer(parts.get(2, 0))


def _json(raw: Raw) -> Any:
    text = data_of(_parts(raw).get(1, b""))
    return reading.json_value(text) if text else None


SCALARS: dict[str, Callable[[Raw], Any]] = {
    "string": lambda raw: data_of(raw).decode(),
    "bytes": lambda raw: base64.b64encode(data_of(raw)).decode(),
    "bool": lambda raw: bool(_integer(raw)),
    "int32": _integer,
    "int64": _integer,
    "double": _double,
    "Time": _time,
    "MicroTime": _micro_time,
    "Quantity": lambda raw: data_of(_parts(raw).get(1, b"0")).decode(),
    "IntOrString": _int_or_string,
    "JSON": _json,
}
"""How a value of each type is read that is no message."""


def zero(kind: str) -> Raw:
    """What stands for a value that is not on the wire."""
    return 0 if kind in ("bool", "int32", "int64") else b""
