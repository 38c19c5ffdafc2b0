# SPDX-License-Identifier: Apache-2.0
"""Parameters of Jaeger's APIs, read as Jaeger reads them, which is as Go does, with the same words where that fails."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from labkit.ground import duration as durations
from labkit.ground import reading

__all__ = ["BadQueryError", "duration", "first", "hexadecimal", "moment", "tags", "truth", "whole"]

_RFC3339 = "2006-01-02T15:04:05.999999999Z07:00"
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)")
_TRUTH = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_KINDS = {dict: "object", list: "array", str: "string", int: "number", float: "number", bool: "bool"}


class BadQueryError(ValueError):
    """A parameter that cannot be understood; the message has Jaeger's words."""


def first(values: Mapping[str, list[str]], name: str) -> str:
    """The first value of a parameter; "" where there is none."""
    return (values.get(name) or [""])[0]


def whole(text: str, function: str = "ParseInt", bits: int = 64) -> int:
    """A whole number.

    Args:
        text: The parameter.
        function: Go's, which its message names.
        bits: Of the number, with its sign.

    Raises:
        BadQueryError: it is none, or too large.
    """
    quoted = json.dumps(text, ensure_ascii=False)
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise BadQueryError(f"strconv.{function}: parsing {quoted}: invalid syntax")
    digits = text.lstrip("+-").lstrip("0") or "0"
    value = int(digits) if len(digits) < 20 else 1 << 64
    value = -value if text.startswith("-") else value
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise BadQueryError(f"strconv.{function}: parsing {quoted}: value out of range")
    return value


def hexadecimal(text: str) -> str:
    """The id of a trace, in lower case.

    Raises:
        BadQueryError: it is none.
    """
    if len(text) > 32:
        raise BadQueryError(f"TraceID cannot be longer than 32 hex characters: {text}")
    # Jaeger reads the two halves of a long one by themselves.
    for part in (text[:-16], text[-16:]) if len(text) > 16 else (text,):
        if not re.fullmatch(r"[0-9a-fA-F]+", part):
            raise BadQueryError(f"strconv.ParseUint: parsing {json.dumps(part, ensure_ascii=False)}: invalid syntax")
    return text.lower()


def duration(text: str) -> int:
    """Microseconds of a Go duration such as "1.5s", "100ms" or "1m30s"; 0 for an empty text.

    Raises:
        BadQueryError: `text` is none.
    """
    try:
        return durations.from_go(text) // 1000 if text else 0
    except ValueError as error:
        raise BadQueryError(str(error)) from None


def moment(text: str) -> int:
    """Microseconds since 1970 of a time as RFC 3339 has it.

    Raises:
        BadQueryError: `text` is none.
    """
    match = _MOMENT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        at = datetime.fromisoformat(f"{match[1]}{match[3]}").astimezone(UTC)
    except ValueError:
        shown = json.dumps(text, ensure_ascii=False)
        raise BadQueryError(f'parsing time {shown} as "{_RFC3339}": cannot parse {shown} as "2006"') from None
    return int(at.timestamp()) * 1_000_000 + int((match[2] or "0")[:6].ljust(6, "0"))


def truth(text: str) -> bool:
    """A Go bool; raises BadQueryError where `text` is none."""
    if text not in _TRUTH:
        raise BadQueryError(f"strconv.ParseBool: parsing {json.dumps(text, ensure_ascii=False)}: invalid syntax")
    return _TRUTH[text]


def tags(values: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    """What tags a span must have: of each `tag=key:value`, and of `tags`, which is JSON; sorted.

    Raises:
        BadQueryError: one of them is not so written.
    """
    pairs: dict[str, str] = {}
    for text in values.get("tag", []):
        key, colon, value = text.partition(":")
        if not colon:
            raise BadQueryError(f"malformed 'tag' parameter, expecting key:value, received: {text}")
        pairs[key] = value
    for text in values.get("tags", []):
        try:
            given: Any = reading.json_value(text)
        except reading.ReadingError:
            raise BadQueryError(f"{_MALFORMED}: {_unread(text)}") from None
        if given is None:
            continue
        if not isinstance(given, dict):
            kind = _KINDS[type(given)]
            raise BadQueryError(f"{_MALFORMED}: json: cannot unmarshal {kind} into Go value of type map[string]string")
        for key, value in given.items():
            if value is not None and not isinstance(value, str):
                kind = _KINDS[type(value)]
                raise BadQueryError(f"{_MALFORMED}: json: cannot unmarshal {kind} into Go value of type string")
            pairs[str(key)] = value or ""
    return tuple(sorted(pairs.items()))


_MALFORMED = "malformed 'tags' parameter, cannot unmarshal JSON"


def _unread(text: str) -> str:
    """Go's words for a text that is no JSON: what it does not begin with, or that it ends too early."""
    start = text.lstrip(" \t\r\n")
    if start and start[0] not in '{["-0123456789tfn':
        return f"invalid character {start[0]!r} looking for beginning of value"
    return "unexpected end of JSON input"
