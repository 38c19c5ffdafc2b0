# SPDX-License-Identifier: Apache-2.0
"""JSON merge patch (RFC 7386), and what a strategic one shares with it."""

from __future__ import annotations

from typing import Any

__all__ = ["directs", "merge_patch", "strip"]


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` after a JSON merge patch; `target` is changed and returned where both are objects."""
    if not isinstance(patch, dict) or not isinstance(target, dict):
        # Where there was an object, nothing is looked for in what takes its place.
        return patch if isinstance(target, dict) else _without_nulls(patch)
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def strip(value: Any) -> Any:
    """`value` without the directives of a strategic merge patch, and without what it wants removed."""
    if isinstance(value, dict):
        left = {key: inner for key, inner in value.items() if not key.startswith("$") and not directs(inner)}
        return {key: strip(inner) for key, inner in left.items() if inner is not None}
    if isinstance(value, list):
        return [strip(inner) for inner in value if not directs(inner)]
    return value


def directs(value: Any) -> bool:
    """Whether a part of a strategic merge patch says what to do with its place, and is not kept itself."""
    return isinstance(value, dict) and "$patch" in value
