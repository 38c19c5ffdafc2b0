"""Which metrics a PromQL expression asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["selectors"]

_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{([^{}]*)\})")
_BARE = re.compile(r"(?<![\w\"'.:{=~])([a-zA-Z_:][a-zA-Z0-9_:]*)(?=\s*(?:[\[)*/%^+<>=!-]|$))(?!\s*\()")
_MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "and", "or", "unless", "le"}


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """The metrics in `expression`, each with its label matchers."""
    rest = expression
    for found in _SELECTOR.finditer(expression):
        yield found[1], _MATCHER.findall(found[2] or "")
        rest = rest.replace(found[0], " ")
    rest = re.sub(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|`[^`]*`', " ", rest)
    # What stands in "by (…)" are labels, not metrics.
    rest = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", rest)
    for found in _BARE.finditer(rest):
        if found[1] not in _WORDS:
            yield found[1], []
