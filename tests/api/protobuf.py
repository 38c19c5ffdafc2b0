# SPDX-License-Identifier: Apache-2.0
"""Writing Kubernetes' protobuf, for tests: objects as JSON has them to bodies as Go's clients send them."""

from __future__ import annotations

import base64
import json
import struct
from datetime import datetime
from typing import Any

from meshbox.api.codec.fields import Field, fields_of, is_message, message_of

MAGIC = b"k8s\x00"


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    written = b""
    while value > 0x7F:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])


def number(at: int, value: int) -> bytes:
    return varint(at << 3) + varint(value)


def item(at: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(at << 3 | 2) + varint(len(data)) + data


def body(api_version: str, kind: str, content: bytes) -> bytes:
    return MAGIC + item(1, item(1, api_version) + item(2, kind)) + item(2, content) + item(3, "") + item(4, "")


def encode(obj: dict[str, Any]) -> bytes:
    """A body that holds `obj`."""
    content = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}
    return body(obj["apiVersion"], obj["kind"], message(message_of(obj["apiVersion"], obj["kind"]), content))


def message(name: str, value: Any) -> bytes:
    fields = fields_of(name)
    if any(field.name == "=" for field in fields.values()):
        return _one_of(fields, value)
    left, written = dict(value), b""
    for at, field in fields.items():
        if field.name == "":
            inner = {name: left.pop(name) for name in names_of(field.type) & set(left)}
            written += item(at, message(field.type, inner))
        elif field.name in left:
            written += _field(at, field, left.pop(field.name))
    assert not left, f"{name} has no fields {sorted(left)}"
    return written


def names_of(message_name: str) -> set[str]:
    """The names in JSON of a message's fields."""
    fields = fields_of(message_name).values()
    return {field.name for field in fields if field.name}.union(*(names_of(f.type) for f in fields if not f.name))


def _one_of(fields: dict[int, Field], value: Any) -> bytes:
    if isinstance(value, bool):
        return number(1, value)
    listed = isinstance(value, list)
    at = next(
        at
        for at, field in fields.items()
        if (field.mark.endswith("[]")) == listed and is_message(field.type) >= (not listed)
    )
    return _field(at, fields[at], value)


def _field(at: int, field: Field, value: Any) -> bytes:
    if field.mark.endswith("[]"):
        return b"".join(_single(at, field.type, one) for one in value)
    if field.mark.endswith("{}"):
        return b"".join(item(at, item(1, key) + _single(2, field.type, one)) for key, one in value.items())
    return _single(at, field.type, value)


def _single(at: int, kind: str, value: Any) -> bytes:
    if is_message(kind):
        return item(at, message(kind, value))
    if kind in ("int32", "int64", "bool"):
        return number(at, value)
    if kind == "double":
        return varint(at << 3 | 1) + struct.pack("<d", value)
    return item(at, _content(kind, value))


def _content(kind: str, value: Any) -> bytes:
    if kind == "bytes":
        return base64.b64decode(value)
    if kind == "IntOrString":
        return (
            number(1, 1) + number(2, 0) + item(3, value) if isinstance(value, str) else number(1, 0) + number(2, value)
        )
    if kind in ("Time", "MicroTime"):
        moment = datetime.fromisoformat(value)
        return number(1, int(moment.timestamp())) + number(2, moment.microsecond * 1000)
    if kind == "Quantity":
        return item(1, value)
    if kind == "JSON":
        return item(1, json.dumps(value))
    return str(value).encode()
