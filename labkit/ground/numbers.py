# SPDX-License-Identifier: Apache-2.0
"""Whole numbers in text that comes from outside, as Go's strconv reads them."""

from __future__ import annotations

import re

__all__ = ["whole"]

_INT64 = re.compile(r"[+-]?0*[0-9]{1,19}")


def whole(text: object) -> int | None:
    """The 64-bit integer that `text` is in decimal; None where it is none.

    Python's own `int` takes other scripts' digits, underscores and blanks, and refuses more than 4300 digits.
    """
    if not isinstance(text, str) or not _INT64.fullmatch(text) or not text.isascii():
        return None
    value = int(text[:1] + text[1:].lstrip("0").rjust(1, "0")) if text[:1] in "+-" else int(text.lstrip("0") or "0")
    return value if -(1 << 63) <= value < 1 << 63 else None
