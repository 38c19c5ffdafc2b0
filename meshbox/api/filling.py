# SPDX-License-Identifier: Apache-2.0
"""Parts of objects that clients may leave out or get wrong."""

from __future__ import annotations

from typing import Any

from meshbox.contracts import Obj

__all__ = ["fill", "part", "parts"]


def part(obj: Any, name: str) -> Obj:
    """The object below `name`; a new one there where it is absent, one apart where it is no object."""
    if not isinstance(obj, dict):
        return {}
    if obj.get(name) is None:
        obj[name] = {}
    found = obj[name]
    return found if isinstance(found, dict) else {}


def parts(obj: Any, name: str) -> list[Obj]:
    """The objects in the list `name`; none where it is no list."""
    found = obj.get(name) if isinstance(obj, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def fill(obj: Obj, **values: Any) -> None:
    """Set what is absent or null, in place."""
    for name, value in values.items():
        if obj.get(name) is None:
            obj[name] = value
