# SPDX-License-Identifier: Apache-2.0
"""Times as Go reads them: where one stops being what RFC 3339 asks for."""

from __future__ import annotations

import datetime
import json
import re

__all__ = ["time_error"]

_TWO = "[0-9]{2}"
_PARTS = (
    ("2006", "[0-9]{4}"), ("-", "-"), ("01", _TWO), ("-", "-"), ("02", _TWO), ("T", "T"), ("15", "[0-9]{1,2}"),
    (":", ":"), ("04", _TWO), (":", ":"), ("05", _TWO), ("", r"([.,][0-9]+)?"), ("Z07:00", "Z|[-+][0-9]{2}:[0-9]{2}"),
)  # fmt: skip


def time_error(text: str, *, micro: bool) -> str:
    """Why `text` is no time, in Go's words; "" where it is one."""
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    what, rest = f"parsing time {_quoted(text)}", text
    for name, pattern in _PARTS:
        found = re.match(pattern, rest)
        if found is None:
            return f"{what} as {json.dumps(layout)}: cannot parse {_quoted(rest)} as {json.dumps(name)}"
        rest = rest[found.end() :]
    if rest:
        return f"{what}: extra text: {_quoted(rest)}"
    return _range_error(text, what)


def _quoted(text: str) -> str:
    """A text as Go's package for times quotes it: byte by byte."""
    signs = (chr(one) if 32 <= one < 127 else f"\\x{one:02x}" for one in text.encode(errors="replace"))
    return '"' + "".join(f"\\{sign}" if sign in '"\\' else sign for sign in signs) + '"'


def _range_error(text: str, what: str) -> str:
    month, hour, minute, second = (int(text[at : at + 2]) for at in (5, 11, 14, 17))
    for value, most, name in ((month, 12, "month"), (hour, 23, "hour"), (minute, 59, "minute"), (second, 59, "second")):
        if value > most or (name == "month" and value == 0):
            return f"{what}: {name} out of range"
    try:
        datetime.date.fromisoformat(text[:10])
    except ValueError:
        return f"{what}: day out of range"
    return ""
