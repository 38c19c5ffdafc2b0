# SPDX-License-Identifier: Apache-2.0
"""JSON merge patch (RFC 7386), and what a strategic one shares with it."""

from __future__ import annotations

from typing import Any

__all__ = ["merge_patch", "strip"]


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` after a JSON merge patch; `target` is changed and returned where both are objects."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


def strip(value: Any) -> Any:
    """`value` without the directives of a strategic merge patch, and without what it wants removed."""
    if isinstance(value, dict):
        return {key: strip(inner) for key, inner in value.items() if inner is not None and not key.startswith("$")}
    if isinstance(value, list):
        return [strip(inner) for inner in value]
    return value
