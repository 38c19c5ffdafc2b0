# SPDX-License-Identifier: Apache-2.0
"""Decoding of built-in objects: fields nobody knows and values of the wrong type, worded as Go's JSON decoder does."""

from __future__ import annotations

import datetime
import functools
import json
import re
from typing import Any

from labkit.ground import quantity as quantities
from labkit.ground.reading.json_text import json_kind
from meshbox.api.builtin.types import fields_of, go_name
from meshbox.api.problems import Problems

__all__ = ["base64_error", "canonical", "decode", "prune", "quantity_error"]

_INT_LIMITS = {"int32": 2**31, "int64": 2**63}
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_BASE64_TEXT = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode(obj: Any, type_name: str, root: str = "") -> Problems:
    """What a strict decoder says about `obj`.

    Args:
        obj: Anything that JSON can be.
        type_name: A type of the field tables, e.g. "V1Deployment".
        root: Where `obj` is in the whole object, e.g. "metadata"; "" for the whole object.

    Returns:
        `unknown` and `decode` filled; `decode` is about the first value that does not fit.
    """
    walk = _Walk()
    if not isinstance(obj, dict):
        walk.error = f"json: cannot unmarshal {json_kind(obj)} into Go value of type {go_name(type_name)}"
    else:
        walk.struct(obj, type_name, root, root)
    return Problems(unknown=walk.unknown, decode=walk.error)


class _Walk:
    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.error = ""

    def struct(self, obj: dict[str, Any], type_name: str, path: str, go_path: str) -> None:
        fields = _parsed_fields(type_name)
        for name, value in obj.items():
            known = fields.get(name)
            if known is None:
                self.unknown.append(f'unknown field "{path}.{name}"' if path else f'unknown field "{name}"')
            elif value is not None:
                kind, inner = known
                if kind == "leaf" and type(value) is str and inner == "string":
                    continue
                self.value(
                    value,
                    kind,
                    inner,
                    f"{path}.{name}" if path else name,
                    f"{go_path}.{name}" if go_path else name,
                    type_name,
                )

    def value(self, value: Any, kind: str, inner: str, path: str, go_path: str, struct: str) -> None:
        if kind == "struct":
            if isinstance(value, dict):
                self.struct(value, inner, path, go_path)
            else:
                self.wrong(value, inner, go_path, struct)
        elif kind == "list":
            if isinstance(value, list):
                inner_kind, inner_type = _parse(inner)
                for index, one in enumerate(value):
                    if one is not None:
                        self.value(one, inner_kind, inner_type, f"{path}[{index}]", go_path, struct)
            else:
                self.wrong(value, f"[]{inner}", go_path, struct)
        elif kind == "map":
            if isinstance(value, dict):
                inner_kind, inner_type = _parse(inner)
                for key, one in value.items():
                    if one is not None:
                        self.value(one, inner_kind, inner_type, f"{path}.{key}", go_path, struct)
            else:
                self.wrong(value, f"{{}}{inner}", go_path, struct)
        elif inner in ("schemaOrBool", "schemaOrArray"):
            self.schema(value, inner, path, go_path, struct)
        else:
            self.leaf(value, inner, go_path, struct)

    def schema(self, value: Any, inner: str, path: str, go_path: str, struct: str) -> None:
        model = struct if struct.startswith("V1JSONSchemaProps") else "V1JSONSchemaProps"
        if isinstance(value, dict):
            self.struct(value, model, path, go_path)
        elif inner == "schemaOrArray" and isinstance(value, list):
            for index, one in enumerate(value):
                self.value(one, "struct", model, f"{path}[{index}]", go_path, struct)
        elif inner == "schemaOrArray" or not isinstance(value, bool):
            wanted = "boolean or JSON schema" if inner == "schemaOrBool" else "schema or array of schemas"
            self.fail(f"{wanted} expected")

    def leaf(self, value: Any, wanted: str, go_path: str, struct: str) -> None:
        if wanted == "any":
            return
        if wanted == "string" or wanted.startswith("string:"):
            if not isinstance(value, str):
                self.wrong(value, wanted, go_path, struct)
        elif wanted == "bool":
            if not isinstance(value, bool):
                self.wrong(value, wanted, go_path, struct)
        elif wanted in _INT_LIMITS:
            limit = _INT_LIMITS[wanted]
            if type(value) is not int:
                self.wrong(value, wanted, go_path, struct, literal=isinstance(value, float))
            elif not -limit <= value < limit:
                self.wrong(value, wanted, go_path, struct, literal=True)
        elif wanted == "float64":
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.wrong(value, wanted, go_path, struct)
        elif wanted == "IntOrString":
            if not isinstance(value, str) and (type(value) is not int or not -(2**31) <= value < 2**31):
                number = f" {json.dumps(value)}" if type(value) in (int, float) else ""
                self.fail(f"json: cannot unmarshal {json_kind(value)}{number} into Go value of type int32")
        elif wanted == "Quantity":
            self.fail(quantity_error(value))
        elif wanted in ("Time", "MicroTime"):
            self.fail(_time_error(value, micro=wanted == "MicroTime"))
        elif wanted == "bytes":
            if isinstance(value, str):
                self.fail(base64_error(value))
            else:
                self.wrong(value, wanted, go_path, struct)

    def wrong(self, value: Any, wanted: str, go_path: str, struct: str, *, literal: bool = False) -> None:
        number = f" {json.dumps(value)}" if literal else ""
        place = f"{go_name(struct).split('.', 1)[-1]}.{go_path} of type {go_name(wanted)}"
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
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"json: cannot unmarshal {json_kind(value)} into Go value of type string"
    return quantities.problem(value)


def _time_error(value: Any, *, micro: bool) -> str:
    if not isinstance(value, str):
        return f"json: cannot unmarshal {json_kind(value)} into Go value of type string"
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    try:
        parsed = datetime.datetime.fromisoformat(value)
    except ValueError:
        parsed = None
    if parsed is None or "T" not in value or (parsed.tzinfo is None):
        return f"parsing time {json.dumps(value)} as {json.dumps(layout)}: cannot parse {json.dumps(value)}"
    return ""


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


def canonical(obj: Any, type_name: str) -> None:
    """Write, in place, each quantity of `obj` as Kubernetes keeps it: 0.5 is "500m", and 1024Mi "1Gi"."""
    if isinstance(obj, dict):
        for name, (kind, inner) in _amounts(type_name).items():
            if (value := obj.get(name)) is not None:
                obj[name] = _canonical_value(value, kind, inner)


def _canonical_value(value: Any, kind: str, inner: str) -> Any:
    if kind == "struct":
        canonical(value, inner)
    elif kind == "list" and isinstance(value, list):
        value[:] = [_canonical_value(one, *_parse(inner)) for one in value]
    elif kind == "map" and isinstance(value, dict):
        for key, one in value.items():
            # Nothing is an amount of nothing where it has a name.
            value[key] = "0" if one is None and inner == "Quantity" else _canonical_value(one, *_parse(inner))
    elif inner == "Quantity" and value is not None and not quantity_error(value):
        return str(quantities.Quantity.of(value))
    return value


@functools.cache
def _amounts(type_name: str) -> dict[str, tuple[str, str]]:
    """The fields of a type that are quantities, or have some inside."""
    return {name: parsed for name, parsed in _parsed_fields(type_name).items() if _has_amounts(parsed[1], ())}


def _has_amounts(written: str, outer: tuple[str, ...]) -> bool:
    bare = written.lstrip("[]{}")
    if bare == "Quantity":
        return True
    return bare not in outer and any(_has_amounts(inner, (*outer, bare)) for _, inner in _parsed_fields(bare).values())
