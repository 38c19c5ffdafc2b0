"""Strategic merge patch: lists of objects are merged by their keys."""

from __future__ import annotations

from labkit.sandbox.api.patch import merge_patch
from labkit.sandbox.contracts import Obj

__all__ = ["strategic_patch"]


def strategic_patch(target: Obj, patch: Obj) -> Obj:
    """`target` after `patch`."""
    merged: Obj = merge_patch(target, patch)
    return merged
