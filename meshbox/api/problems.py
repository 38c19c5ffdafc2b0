# SPDX-License-Identifier: Apache-2.0
"""What validation says about an object, and the API server's way of saying it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypedDict

from msgspec import Struct, field

__all__ = [
    "OMITTED",
    "Cause",
    "Problems",
    "duplicate",
    "forbidden",
    "invalid",
    "not_found",
    "not_supported",
    "required",
    "shown",
    "too_long",
    "too_many",
    "type_invalid",
]


class Cause(TypedDict):
    """One entry of `Status.details.causes`; `message` does not repeat the field."""

    reason: str
    message: str
    field: str


class Problems(Struct):
    """What is wrong with one object; false when nothing is.

    Args:
        unknown: Strict-decoding messages, e.g. ``unknown field "spec.foo"``: refused with 400 and
            ``strict decoding error: `` before them under ``fieldValidation=Strict``, warnings under ``Warn``.
        errors: Causes of a 422 Invalid.
        decode: Why the object cannot be decoded at all, "" when it can; a 400 BadRequest whatever ``fieldValidation``
            says. The server writes ``Deployment in version "v1" cannot be handled as a Deployment: `` before it (and
            before `unknown` too).
    """

    unknown: list[str] = field(default_factory=list)
    errors: list[Cause] = field(default_factory=list)
    decode: str = ""

    def __bool__(self) -> bool:
        return bool(self.unknown or self.errors or self.decode)

    def detail(self) -> str:
        """The text after ``Deployment.apps "x" is invalid: ``: one cause plain, several in brackets, none twice."""
        said = list(dict.fromkeys(f"{cause['field']}: {cause['message']}" for cause in self.errors))
        return said[0] if len(said) == 1 else f"[{', '.join(said)}]"


OMITTED = object()
"""A value that the server does not print; what is wrong with it is said all the same."""


def shown(value: Any) -> str:
    """`value` as the server prints a bad one: quoted strings, plain numbers, JSON for the rest."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not isinstance(value, bool):
        return f"{value:g}" if value == value and abs(value) != float("inf") else str(value)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _cause(reason: str, path: str, message: str, detail: str) -> Cause:
    return {"reason": reason, "message": f"{message}: {detail}" if detail else message, "field": path}


def _after_colon(value: Any) -> str:
    return "" if value is OMITTED else f": {shown(value)}"


def invalid(path: str, value: Any, detail: str) -> Cause:
    """A malformed value."""
    return _cause("FieldValueInvalid", path, f"Invalid value{_after_colon(value)}", detail)


def type_invalid(path: str, value: Any, detail: str) -> Cause:
    """A value of the wrong type, in a custom resource."""
    return _cause("FieldValueTypeInvalid", path, f"Invalid value: {shown(value)}", detail)


def required(path: str, detail: str = "") -> Cause:
    """A missing or empty value."""
    return _cause("FieldValueRequired", path, "Required value", detail)


def forbidden(path: str, detail: str) -> Cause:
    """A value that may not be set, or not be changed."""
    return _cause("FieldValueForbidden", path, "Forbidden", detail)


def duplicate(path: str, value: Any) -> Cause:
    """A value that must be unique and is not."""
    return _cause("FieldValueDuplicate", path, f"Duplicate value{_after_colon(value)}", "")


def not_found(path: str, value: Any) -> Cause:
    """A name of something that is not there."""
    return _cause("FieldValueNotFound", path, f"Not found: {shown(value)}", "")


def not_supported(path: str, value: Any, supported: Iterable[str]) -> Cause:
    """A value that is none of those allowed."""
    listed = ", ".join(shown(str(one)) for one in supported)
    return _cause(
        "FieldValueNotSupported",
        path,
        f"Unsupported value: {shown(value)}",
        f"supported values: {listed}" if listed else "",
    )


def too_long(path: str, most: int) -> Cause:
    """A text or a whole object over its size."""
    return _cause("FieldValueTooLong", path, "Too long", f"may not be more than {most} byte{'' if most == 1 else 's'}")


def too_many(path: str, count: int, most: int) -> Cause:
    """A list or map with too many entries."""
    return _cause(
        "FieldValueTooMany", path, f"Too many: {count}", f"must have at most {most} item{'' if most == 1 else 's'}"
    )
