# SPDX-License-Identifier: Apache-2.0
"""Decoding of built-in objects: fields nobody knows and values of the wrong type, worded as Go's JSON decoder does."""

from __future__ import annotations

import functools
import json
import re
from typing import Any, NamedTuple

from labkit.ground import quantity as quantities
from labkit.ground.reading.json_text import json_kind
from meshbox.api.builtin.times import time_error
from meshbox.api.builtin.types import OBJECT_META, fields_of, go_name
from meshbox.api.codec.fields import Shown, shown_fields
from meshbox.api.problems import Problems

__all__ = ["base64_error", "decode", "prune", "quantity_error"]

_META_MESSAGE = "apimachinery.pkg.apis.meta.v1.ObjectMeta"
_INT_LIMITS = {"int32": 2**31, "int64": 2**63}
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_BASE64_TEXT = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode(obj: Any, type_name: str, root: str = "", message: str = "") -> Problems:
    """What a strict decoder says about `obj`.

    Args:
        obj: Anything that JSON can be.
        type_name: A type of the field tables, e.g. "V1Deployment".
        root: Where `obj` is in the whole object, e.g. "metadata"; "" for the whole object.
        message: The protobuf message of the type, which knows the names of Go's types; "" where there is none.

    Returns:
        `unknown` and `decode` filled; `decode` is about the first value that does not fit.
    """
    walk = _Walk()
    if not isinstance(obj, dict):
        walk.error = f"json: cannot unmarshal {json_kind(obj)} into Go value of type {go_name(type_name)}"
    else:
        walk.struct(obj, type_name, message, root, root)
    return Problems(unknown=walk.unknown, decode=walk.error)


class _Place(NamedTuple):
    """Where a value is, as Go's decoder says it."""

    struct: str
    path: str
    go_type: str


_UNNAMED = Shown("", "", "")


class _Walk:
    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.error = ""

    def struct(self, obj: dict[str, Any], type_name: str, message: str, path: str, go_path: str) -> None:
        fields, names = _parsed_fields(type_name), shown_fields(message) if message else {}
        for name, value in obj.items():
            known = fields.get(name)
            if known is None:
                self.unknown.append(f'unknown field "{path}.{name}"' if path else f'unknown field "{name}"')
            elif value is not None:
                kind, inner = known
                if kind == "leaf" and type(value) is str and inner == "string":
                    continue
                shown = names.get(name, _UNNAMED)
                go_name_ = f"{go_path}.{shown.within}{name}" if go_path else shown.within + name
                place = _Place(type_name, go_name_, shown.go_type)
                self.value(value, kind, inner, shown.message, f"{path}.{name}" if path else name, place)

    def value(self, value: Any, kind: str, inner: str, message: str, path: str, at: _Place) -> None:
        if kind == "struct":
            if isinstance(value, dict):
                if inner == OBJECT_META:
                    message = message or _META_MESSAGE
                self.struct(value, inner, message, path, at.path)
            else:
                self.wrong(value, inner, at)
        elif kind == "list":
            if isinstance(value, list):
                inner_kind, inner_type = _parse(inner)
                below = at._replace(go_type=at.go_type.removeprefix("[]") if at.go_type.startswith("[]") else "")
                for index, one in enumerate(value):
                    if one is not None:
                        self.value(one, inner_kind, inner_type, message, f"{path}[{index}]", below)
            else:
                self.wrong(value, f"[]{inner}", at)
        elif kind == "map":
            if isinstance(value, dict):
                inner_kind, inner_type = _parse(inner)
                for key, one in value.items():
                    if one is not None:
                        self.value(one, inner_kind, inner_type, message, f"{path}.{key}", at._replace(go_type=""))
            else:
                self.wrong(value, f"{{}}{inner}", at)
        elif inner in ("schemaOrBool", "schemaOrArray"):
            self.schema(value, inner, message, path, at)
        else:
            self.leaf(value, inner, at)

    def schema(self, value: Any, inner: str, message: str, path: str, at: _Place) -> None:
        model = at.struct if at.struct.startswith("V1JSONSchemaProps") else "V1JSONSchemaProps"
        message = next((one.message for one in shown_fields(message).values() if one.message), "") if message else ""
        if isinstance(value, dict):
            # A decoder of its own reads what is below: it does not ask for fields that it does not know.
            known = len(self.unknown)
            self.struct(value, model, message, path, at.path)
            del self.unknown[known:]
        elif inner == "schemaOrArray":
            for index, one in enumerate(value if isinstance(value, list) else ()):
                self.value(one, "struct", model, message, f"{path}[{index}]", at._replace(go_type=""))
        elif not isinstance(value, bool):
            self.fail("boolean or JSON schema expected")

    def leaf(self, value: Any, wanted: str, at: _Place) -> None:
        if wanted == "any":
            return
        if wanted == "string" or wanted.startswith("string:"):
            if not isinstance(value, str):
                self.wrong(value, wanted, at)
        elif wanted == "bool":
            if not isinstance(value, bool):
                self.wrong(value, wanted, at)
        elif wanted in _INT_LIMITS:
            limit = _INT_LIMITS[wanted]
            if type(value) is not int:
                self.wrong(value, wanted, at, literal=isinstance(value, float))
            elif not -limit <= value < limit:
                self.wrong(value, wanted, at, literal=True)
        elif wanted == "float64":
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.wrong(value, wanted, at)
        elif wanted == "IntOrString":
            if not isinstance(value, str) and (type(value) is not int or not -(2**31) <= value < 2**31):
                self.wrong(value, "int32", at._replace(go_type=""), literal=type(value) in (int, float))
        elif wanted == "Quantity":
            self.fail(quantity_error(value))
        elif wanted in ("Time", "MicroTime"):
            if isinstance(value, str):
                self.fail(time_error(value, micro=wanted == "MicroTime"))
            else:
                self.wrong(value, "string", at)
        elif wanted == "bytes":
            if isinstance(value, str):
                self.fail(base64_error(value))
            elif isinstance(value, list):
                below = at._replace(go_type="uint8")
                for one in value:
                    if one is not None and (type(one) is not int or not 0 <= one < 256):
                        self.wrong(one, "uint8", below, literal=type(one) in (int, float))
            else:
                self.wrong(value, wanted, at)

    def wrong(self, value: Any, wanted: str, at: _Place, *, literal: bool = False) -> None:
        # A number of more than 64 bits was read as a float.
        whole = isinstance(value, float) and value.is_integer() and abs(value) >= 2**63
        number = f" {json.dumps(int(value) if whole else value)}" if literal else ""
        place = f"{go_name(at.struct).split('.', 1)[-1]}.{at.path} of type {at.go_type or go_name(wanted)}"
        self.fail(f"json: cannot unmarshal {json_kind(value)}{number} into Go struct field {place}")

    def fail(self, message: str) -> None:
        # Go's decoder goes on after a wrong type, and reports the first.
        if not self.error:
            self.error = message


@functools.cache
def _parse(written: str) -> tuple[str, str]:
    """Of a type: what it is ("struct", "list", "map" or "leaf") and the type inside."""
    bare = written.rstrip("!")
    if bare.startswith("[]"):
        return "list", bare[2:]
    if bare.startswith("{}"):
        return "map", bare[2:]
    return ("struct" if fields_of(bare) is not None else "leaf"), bare


@functools.cache
def _parsed_fields(type_name: str) -> dict[str, tuple[str, str]]:
    return {name: _parse(written) for name, written in (fields_of(type_name) or {}).items()}


def quantity_error(value: Any) -> str:
    """Why `value` is not a quantity such as "100m" or "1Gi"; "" where it is one."""
    # Go takes any JSON for the text of one.
    return quantities.problem(value if isinstance(value, str | int | float) else json.dumps(value))


def base64_error(text: str) -> str:
    """Why `text` is not base64, with the offset that Go gives; "" where it is."""
    plain = text.replace("\n", "").replace("\r", "")
    if _BASE64_TEXT.fullmatch(plain):
        return ""
    return f"illegal base64 data at input byte {_base64_offset(text.encode())}"


def _base64_offset(data: bytes) -> int:
    quantum = 0
    for offset, byte in enumerate(data):
        if byte in b"\r\n":
            continue
        if byte in _BASE64:
            quantum = (quantum + 1) % 4
            continue
        if byte != ord("=") or quantum < 2:
            return offset
        rest = data[offset + 1 :].lstrip(b"\r\n")
        if quantum == 2:
            if not rest:
                return len(data)
            if not rest.startswith(b"="):
                return len(data) - len(rest) - 1
            rest = rest[1:].lstrip(b"\r\n")
        return len(data) - len(rest)
    return len(data) - quantum


def prune(obj: Any, type_name: str) -> None:
    """Drop, in place, the fields of `obj` that its type does not have (those that `decode` calls unknown)."""
    if isinstance(obj, dict):
        fields = _parsed_fields(type_name)
        for name in [name for name in obj if name not in fields]:
            del obj[name]
        for name, value in obj.items():
            if isinstance(value, dict | list):
                _prune_value(value, *fields[name], type_name)


def _prune_value(value: Any, kind: str, inner: str, struct: str) -> None:
    if kind == "struct":
        prune(value, inner)
    elif kind == "list" and isinstance(value, list):
        for one in value:
            _prune_value(one, *_parse(inner), struct)
    elif kind == "map" and isinstance(value, dict):
        for one in value.values():
            _prune_value(one, *_parse(inner), struct)
    elif inner in ("schemaOrBool", "schemaOrArray"):
        model = struct if struct.startswith("V1JSONSchemaProps") else "V1JSONSchemaProps"
        for one in value if isinstance(value, list) else [value]:
            prune(one, model)
