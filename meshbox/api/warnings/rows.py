# SPDX-License-Identifier: Apache-2.0
"""What is warned of by rows of data/warnings.txt, and the words that only they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshbox.api.builtin.rules import Context, check
from meshbox.api.builtin.vocabulary import VOCABULARY
from meshbox.api.problems import Cause, invalid
from meshbox.api.warnings.addresses import of_cidr, of_ip

__all__ = ["told"]


def _warning(text: str) -> Cause:
    return {**invalid("", None, ""), "message": text}


VOCABULARY.update(
    {
        "noted": lambda _value, path, given: [_warning(f"{path}: {given[0]}")],
        "old-cidr": lambda value, path, _: list(map(_warning, of_cidr(path, value))),
        "old-ip": lambda value, path, _: list(map(_warning, of_ip(path, value))),
        "said": lambda _value, _path, given: [_warning(given[0])],
    }
)


def told(heading: str, obj: Mapping[str, Any], old: Mapping[str, Any] | None = None, path: str = "") -> list[str]:
    """What the rows below a heading say of an object, or of the part of one that is at a path."""
    causes: list[Cause] = []
    check(heading, obj, path, causes, Context(dict(old or {}), new=old is None))
    return [one["message"] for one in causes]
