"""What validation says about an object: the fields it does not know and the causes of a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

__all__ = ["Cause", "Problems"]


class Cause(TypedDict):
    """One entry of `Status.details.causes`."""

    reason: str
    message: str
    field: str


@dataclass
class Problems:
    """What is wrong with one object; empty (and false) when nothing is.

    Args:
        unknown: Strict-decoding messages, e.g. ``unknown field "spec.foo"``; refused with 400 under
            ``fieldValidation=Strict``, sent as warnings under ``Warn``.
        errors: Causes of a 422 Invalid, each with the server's wording.
        decode: Why the object cannot be decoded at all (400 BadRequest), "" when it can; built-in kinds only.
            The server prefixes it with ``Deployment in version "v1" cannot be handled as a Deployment: ``.
    """

    unknown: list[str] = field(default_factory=list)
    errors: list[Cause] = field(default_factory=list)
    decode: str = ""

    def __bool__(self) -> bool:
        return bool(self.unknown or self.errors or self.decode)
