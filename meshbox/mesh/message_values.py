# SPDX-License-Identifier: Apache-2.0
"""Single values in protobuf's form, from what stands for them in JSON: numbers, texts, words of enums, moments."""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
import struct as packing
from collections.abc import Callable, Mapping
from typing import Any

from meshbox.images.grpc import wire

__all__ = ["SCALARS", "SHORT", "MessageError", "Write", "duration", "enum", "seen", "text", "timestamp"]

Write = Callable[[Any], bytes]
"""Writes a value: of a message what is in it, of a field all of it."""

SHORT = [wire.varint(size) for size in range(2_048)]
"""What most numbers are."""

_DURATION = re.compile(r"([+-]?)(?=\.?[0-9])([0-9]{0,18})(?:\.([0-9]{0,9}))?s")
_LONGEST = 315_576_000_000
_TIME = re.compile(r"([0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_YES, _NO = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
_EXACT = 2**53
"""Below, a double is the very number that was written."""
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


def seen(value: Any) -> str:
    """What was there, in the words of an error."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    try:
        told = json.dumps(value)
    except (TypeError, ValueError):
        return "this"
    return told if len(told) <= 80 else f"{told[:77]}..."


def _whole(kind: str) -> Write:
    least, end = _RANGES[kind]

    def write(value: Any) -> bytes:
        found = value
        if type(found) is not int:
            # As a text too, which is how 64 bits are written in JSON; 5.0 is as good as 5.
            found = _read(value) if isinstance(value, str) else value
            if isinstance(found, float) and found.is_integer() and abs(found) < _EXACT:
                found = int(found)
        if type(found) is int and least <= found < end:
            return SHORT[found] if 0 <= found < len(SHORT) else wire.varint(found)
        raise MessageError(f"{seen(value)} is no {kind}")

    return write


def _read(value: str) -> int | float | None:
    """The number that a text is, if it is one."""
    if not value.isascii() or "_" in value or value != value.strip():
        # Python reads it, and nobody else.
        return None
    for read in (int, float):
        try:
            return read(value)
        except ValueError:
            pass
    return None


def _bool(value: Any) -> bytes:
    if value is True or value is False:
        return b"\1" if value else b"\0"
    word = value.lower() if isinstance(value, str) else None
    if word not in _YES + _NO:
        raise MessageError(f"{seen(value)} is neither true nor false")
    return b"\1" if word in _YES else b"\0"


def text(value: Any) -> bytes:
    """What is in a text."""
    if not isinstance(value, str):
        raise MessageError(f"{seen(value)} is no text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise MessageError(f"{seen(value)} has half a character") from None


def _bytes(value: Any) -> bytes:
    # Both alphabets, with and without what fills up the end.
    given = text(value).translate(_URL_SAFE, b"\r\n")
    if not _BASE64.fullmatch(given):
        raise MessageError(f"{seen(value)} is no base64")
    return base64.b64decode(given + b"=" * (-len(given) % 4))


def _real(kind: str, form: str) -> Write:
    def write(value: Any) -> bytes:
        found = _read(value.strip()) if isinstance(value, str) else value
        try:
            # What is not finite is a word in JSON, such as "NaN".
            if not isinstance(found, bool) and (found is not value or math.isfinite(found)):
                return packing.pack(form, found)
        except (packing.error, TypeError, OverflowError):
            pass
        raise MessageError(f"{seen(value)} is no {kind}")

    return write


SCALARS: Mapping[str, tuple[int, Write]] = {
    **{kind: (wire.VARINT, _whole(kind)) for kind in _RANGES},
    "bool": (wire.VARINT, _bool),
    "string": (wire.BYTES, text),
    "bytes": (wire.BYTES, _bytes),
    "double": (wire.FIXED64, _real("double", "<d")),
    "float": (wire.FIXED32, _real("float", "<f")),
}


def enum(tag: bytes, words: str) -> Write:
    """What writes an enum's field: a word of `words`, each of which is there as `word:number`, or a number."""
    known = {word: tag + wire.varint(int(value)) for word, _, value in (one.partition(":") for one in words.split())}
    of_any_case = {word.upper(): told for word, told in known.items()}
    number = _whole("int32")

    def write(value: Any) -> bytes:
        if isinstance(value, str):
            if (told := known.get(value) or of_any_case.get(value.upper())) is not None:
                return told
            if not re.fullmatch(r"[+-]?[0-9]+", value):
                some = ", ".join(list(known)[:8]) + (", ..." if len(known) > 8 else "")
                raise MessageError(f"{seen(value)} is none of {some}")
        # One that is none of theirs is a later version's.
        return tag + number(value)

    return write


def duration(value: Any) -> bytes:
    """What is in a google.protobuf.Duration."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or (seconds := int(found[2] or 0)) > _LONGEST:
        raise MessageError(f'{seen(value)} is no duration, such as "1.5s"')
    sign = -1 if found[1] == "-" else 1
    return _moment(sign * seconds, sign * int((found[3] or "").ljust(9, "0")))


def timestamp(value: Any) -> bytes:
    """What is in a google.protobuf.Timestamp."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    try:
        if found is None:
            raise ValueError
        # The parts of a second apart, since Python knows no more than six digits.
        since = datetime.datetime.fromisoformat(found[1] + found[3]) - _EPOCH
    except (ValueError, OverflowError):
        raise MessageError(f'{seen(value)} is no time, such as "2025-01-31T12:00:00Z"') from None
    return _moment(since // datetime.timedelta(seconds=1), int((found[2] or "").ljust(9, "0")))


def _moment(seconds: int, nanoseconds: int) -> bytes:
    return (wire.number(1, seconds) if seconds else b"") + (wire.number(2, nanoseconds) if nanoseconds else b"")
