# SPDX-License-Identifier: Apache-2.0
"""JSON within bounds, with Go's words for what is wrong with it."""

from __future__ import annotations

import collections
import itertools
import json
import math
import re
import string
from collections.abc import Iterator
from typing import Any

from labkit.ground.reading.bounds import (
    MOST_BYTES,
    MOST_DEPTH,
    MOST_VALUES,
    ReadingError,
    content_of,
    short,
    text_of,
    too_deep,
    too_many,
)

__all__ = ["integer", "json_kind", "json_value", "number"]

_SURROGATE = re.compile("[\ud800-\udfff]")
# One that does not end reaches to the end: what follows is not looked through again and again.
_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def json_value(
    data: bytes | str,
    *,
    most_bytes: int = MOST_BYTES,
    most_depth: int = MOST_DEPTH,
    most_values: int = MOST_VALUES,
    repeated: list[str] | None = None,
) -> Any:
    """The value in a JSON text; half surrogate pairs become U+FFFD, as Go has it.

    Args:
        data: The text, in UTF-8.
        most_bytes: Its longest length.
        most_depth: Deepest nesting.
        most_values: Most values in it.
        repeated: Filled with the paths of fields that appear twice; None: nobody asks.

    Raises:
        ReadingError: it is no JSON, or beyond a bound.
    """
    content = content_of(data, most_bytes)
    if _separators(content) > most_values and _separators(bare := _JSON_STRING.sub(b"", content)) > most_values:
        raise too_deep(most_depth) if _depth(bare) > most_depth else too_many(most_values)
    found: dict[int, tuple[dict[str, Any], list[str]]] = {}

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            counts = collections.Counter(name for name, _ in items)
            found[id(result)] = result, [name for name in result if counts[name] > 1]
        return result

    text = text_of(content)
    hook = None if repeated is None else pairs
    try:
        value = json.loads(
            text, parse_constant=_constant, parse_float=number, parse_int=integer, object_pairs_hook=hook
        )
    except json.JSONDecodeError as error:
        raise ReadingError(_go_words(error), error.lineno, error.colno) from None
    except RecursionError:
        raise too_deep(most_depth) from None
    whole = [value]
    _checked(whole, most_depth)
    if found and repeated is not None:
        repeated += _located(value, found)
    return whole[0]


def _separators(content: bytes) -> int:
    """No fewer than the values in a JSON text, which each begin it or follow one of these; more where strings do."""
    return content.count(b",") + content.count(b"[") + content.count(b"{")


def _depth(bare: bytes) -> int:
    brackets = bare.translate(None, bytes(set(range(256)) - set(b"[]{}")))
    return max(itertools.accumulate(1 if one in b"[{" else -1 for one in brackets), default=0)


def _constant(word: str) -> Any:
    raise ReadingError(f"invalid character {_quoted(word.lstrip('-')[0])} looking for beginning of value")


def number(text: str) -> float:
    """A number that is no integer, as JSON has it."""
    value = float(text)
    if not math.isfinite(value):
        raise ReadingError(f"the number {short(text)} is out of range")
    return value


def integer(text: str) -> int | float:
    """As JSON in Go reads it: what no 64 bits hold is a float."""
    if len(text) < 19 or (len(text) < 21 and -(1 << 63) <= int(text) < 1 << 63):
        return int(text)
    return number(text)


_LITERALS = {"t": "true", "f": "false", "n": "null"}
_HEXADECIMAL = frozenset(string.hexdigits)
_WORDS = {
    "Expecting value": "looking for beginning of value",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


def _go_words(error: json.JSONDecodeError) -> str:
    """Go's words for what Python found."""
    at, said = error.pos, error.msg.removesuffix(": ")
    if said.startswith("Invalid \\"):
        # Go names the character that does not belong there, Python where the escape begins.
        said, at = ("Invalid \\escape", at + 1) if said == "Invalid \\escape" else ("Invalid \\uXXXX escape", at + 1)
        while said.endswith("XXXX escape") and error.doc[at : at + 1] in _HEXADECIMAL:
            at += 1
    if "Illegal trailing comma" in said:
        at += 1 + len(error.doc[at + 1 :]) - len(error.doc[at + 1 :].lstrip())
    if said == "Expecting value" and (literal := _LITERALS.get(error.doc[at : at + 1])):
        right = next((n for n, wanted in enumerate(literal) if error.doc[at + n : at + n + 1] != wanted), 0)
        if found := error.doc[at + right : at + right + 1]:
            return f"invalid character {_quoted(found)} in literal {literal} (expecting {_quoted(literal[right])})"
        at += right
    if at >= len(error.doc) or said.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    inside = "object key:value pair" if _open_bracket(error.doc[:at]) == "{" else "array element"
    return f"invalid character {_quoted(error.doc[at])} {_WORDS.get(said) or f'after {inside}'}"


def _quoted(character: str) -> str:
    """As Go quotes a character."""
    if character in "'\"":
        return "'\\''" if character == "'" else "'\"'"
    return f"'{json.dumps(character, ensure_ascii=False)[1:-1]}'"


def _open_bracket(text: str) -> str:
    """The innermost bracket that is open at the end of a JSON text."""
    outer: list[str] = []
    for bracket in re.findall(r"[\[\]{}]", _JSON_STRING.sub(b"", text.encode(errors="replace")).decode()):
        if bracket in "[{":
            outer.append(bracket)
        elif outer:
            outer.pop()
    return outer[-1] if outer else ""


def _checked(value: Any, most_depth: int) -> None:
    """Refuse what is nested too deeply, and mend half surrogate pairs."""
    level, depth = list(_children(value)), 1
    while level:
        if depth > most_depth:
            raise too_deep(most_depth)
        level, depth = [inner for one in level for inner in _children(one)], depth + 1


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name in [name for name in value if not name.isascii() and _SURROGATE.search(name)]:
            value[_SURROGATE.sub("\ufffd", name)] = value.pop(name)
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return
    for key, inner in items:
        if isinstance(inner, str):
            if not inner.isascii() and _SURROGATE.search(inner):
                value[key] = _SURROGATE.sub("\ufffd", inner)
        elif isinstance(inner, dict | list):
            yield inner


def _located(value: Any, found: dict[int, tuple[dict[str, Any], list[str]]], path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        if id(value) in found:
            yield from (f"{path}.{name}".lstrip(".") for name in found[id(value)][1])
        for name, inner in value.items():
            yield from _located(inner, found, f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _located(inner, found, f"{path}[{index}]")


def json_kind(value: Any) -> str:
    """What Go calls the kind of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
