"""From the bytes of a request to a JSON value; what is wrong with them is said in words."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from aiohttp import web

from labkit.sandbox.api import refusals
from labkit.sandbox.contracts import Obj

__all__ = ["BODY_LIMIT", "PROTOBUF", "parse", "read"]

BODY_LIMIT = 3 * 1024 * 1024
"""Bytes of a request's body that the API server takes."""

PROTOBUF = "application/vnd.kubernetes.protobuf"

_DEPTH_LIMIT = 200
"""Nesting that no real object has, well below what Python can recurse into."""

_SURROGATE = re.compile("[\ud800-\udfff]")


async def read(request: web.Request) -> bytes:
    """The body of `request`.

    Raises:
        ApiError: 413 where it is larger than the server takes.
    """
    if (request.content_length or 0) > BODY_LIMIT:
        raise refusals.too_large(BODY_LIMIT)
    chunks, size = [], 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise refusals.too_large(BODY_LIMIT)
        chunks.append(chunk)
    return b"".join(chunks)


def parse(body: bytes, content_type: str, duplicates: list[str] | None = None) -> Any:
    """The JSON value that `body` holds.

    Args:
        body: What was sent.
        content_type: Its media type, without parameters.
        duplicates: Filled with the paths of fields that appear twice (JSON only).

    Raises:
        ApiError: 400 where it is not of that type.
    """
    if content_type == PROTOBUF:
        from labkit.sandbox.api.codec import decode

        return decode(body)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        byte, position = body[error.start], error.start
        raise refusals.bad_request(
            f"the body of the request is not UTF-8: byte 0x{byte:02x} at position {position}"
        ) from None
    try:
        value = _yaml(text) if content_type.endswith("yaml") else _json(text, duplicates)
        _check(value, 0)
    except RecursionError:
        raise refusals.bad_request("the body of the request is nested too deeply") from None
    return value


def _json(text: str, duplicates: list[str] | None) -> Any:
    found: dict[int, tuple[Obj, list[str]]] = {}

    def pairs(items: list[tuple[str, Any]]) -> Obj:
        result = dict(items)
        if len(result) != len(items):
            names = [name for name, _ in items]
            found[id(result)] = result, [name for name in result if names.count(name) > 1]
        return result

    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=None if duplicates is None else pairs,
        )
    except ValueError as error:
        raise refusals.bad_request(f"the body of the request is not valid JSON: {error}") from None
    if found and duplicates is not None:
        _locate(value, "", found, duplicates)
    return value


def _locate(value: Any, path: str, found: dict[int, tuple[Obj, list[str]]], duplicates: list[str]) -> None:
    if isinstance(value, dict):
        if id(value) in found:
            duplicates += [f"{path}.{name}".lstrip(".") for name in found[id(value)][1]]
        for name, inner in value.items():
            _locate(inner, f"{path}.{name}", found, duplicates)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _locate(inner, f"{path}[{index}]", found, duplicates)


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is out of range")
    return value


def _int(text: str) -> int | float:
    if len(text) < 19 or -(1 << 63) <= (value := int(text[:400])) < 1 << 63:
        return int(text)
    if len(text) > 300:
        raise ValueError(f"the number {text[:40]}… is out of range")
    return float(value)


def _yaml(text: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        value = yaml.load(text, loader)
        # Dates and other types that YAML has and JSON has not become what JSON would show.
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise refusals.bad_request(f"error decoding YAML: {said}") from None


def _check(value: Any, depth: int) -> None:
    """Refuse what could not be written out again: too deep nesting; and mend half surrogate pairs as Go does."""
    if depth > _DEPTH_LIMIT:
        raise refusals.bad_request(f"the body of the request is nested too deeply (limit is {_DEPTH_LIMIT})")
    if isinstance(value, dict):
        for name in list(value):
            if _SURROGATE.search(name):
                value[_SURROGATE.sub("\ufffd", name)] = value.pop(name)
        for name, inner in value.items():
            if isinstance(inner, str):
                if not inner.isascii() and _SURROGATE.search(inner):
                    value[name] = _SURROGATE.sub("\ufffd", inner)
            elif isinstance(inner, dict | list):
                _check(inner, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if isinstance(inner, str):
                if not inner.isascii() and _SURROGATE.search(inner):
                    value[index] = _SURROGATE.sub("\ufffd", inner)
            elif isinstance(inner, dict | list):
                _check(inner, depth + 1)
