# SPDX-License-Identifier: Apache-2.0
"""How much a text may hold, and what is said of one that cannot be read."""

from __future__ import annotations

__all__ = [
    "MOST_BYTES",
    "MOST_DEPTH",
    "MOST_VALUES",
    "ReadingError",
    "content_of",
    "short",
    "text_of",
    "too_deep",
    "too_many",
]

MOST_BYTES = 3 * 1024 * 1024
"""Length of a text; the API server's limit for a body."""

MOST_DEPTH = 200
"""Nesting; CRDs, the deepest of objects, have 30. What is written out again stays within Python's recursion."""

MOST_VALUES = 100_000
"""Values in one document, in YAML with its keys; Istio's largest CRD has 10 000."""


class ReadingError(ValueError):
    """A text that cannot be read, or goes beyond a bound.

    Args:
        problem: What is wrong, in the words of Kubernetes' own parsers.
        line: Where, from 1; 0 where that is not known.
        column: Where in the line, from 1; 0 where that is not known.
    """

    def __init__(self, problem: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.problem = problem
        self.line = line
        self.column = column


def content_of(data: bytes | str, most: int) -> bytes:
    """The bytes of a text, `most` at most."""
    if len(data) > most:
        raise ReadingError(f"it is longer than {most} bytes")
    content = data.encode(errors="replace") if isinstance(data, str) else data
    if len(content) > most:
        raise ReadingError(f"it is longer than {most} bytes")
    return content


def text_of(content: bytes) -> str:
    """The text, if it is UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ReadingError(f"it is not UTF-8: byte 0x{content[error.start]:02x} at position {error.start}") from None


def too_deep(most: int) -> ReadingError:
    """What is said of more than `most` levels."""
    return ReadingError(f"it is nested too deeply (limit is {most})")


def too_many(most: int) -> ReadingError:
    """What is said of more than `most` values."""
    return ReadingError(f"it holds more than {most} values")


def short(text: str) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= 40 else f"{text[:40]}…"
