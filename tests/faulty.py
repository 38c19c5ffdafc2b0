# SPDX-License-Identifier: Apache-2.0
"""The words of a fault of the sandbox's own, as they stand on objects and in answers."""

from __future__ import annotations

import re

__all__ = ["Fault"]

_WORDS = (
    r"an internal error of the sandbox \([0-9a-f]{8}\); the log \S*daemon\.log says more, and "
    r"`(labkit|meshbox) report( --name [a-z0-9-]+)?` packs what is needed to find it"
)


class Fault:
    """Equal to the words of any fault, after what comes `before` them."""

    def __init__(self, before: str = "") -> None:
        self._before = before

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(re.escape(self._before) + _WORDS, other) is not None

    def __hash__(self) -> int:
        return hash(self._before)

    def __repr__(self) -> str:
        return f"{self._before}an internal error of the sandbox (…)"
