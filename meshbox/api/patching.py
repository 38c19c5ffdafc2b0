# SPDX-License-Identifier: Apache-2.0
"""From an object and a patch request to the object the client wants."""

from __future__ import annotations

from typing import Any, Literal

from meshbox.api import refusals
from meshbox.api.conversion import from_hub
from meshbox.api.options import WriteOptions
from meshbox.api.patch import json_patch, merge_patch
from meshbox.api.resources import Resource, Served
from meshbox.api.store import clone
from meshbox.api.strategic import strategic_patch
from meshbox.contracts import Obj

__all__ = ["PatchKind", "patched", "patched_scale"]

PatchKind = Literal["merge", "strategic", "json"]

_CUSTOM_TYPES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")


def patched(resource: Resource, obj: Obj, patch: Any, kind: PatchKind, options: WriteOptions) -> Obj:
    """`obj` (kept; not changed) after `patch`, in the version of `options.served`.

    Raises:
        ApiError: 400, 415 or 422 where the patch is none, or cannot be carried out.
    """
    served = options.served or Served(resource, resource.group, resource.version)
    if kind == "strategic" and resource.crd is not None:
        raise refusals.unsupported_media_type(_CUSTOM_TYPES)
    return _patch(clone(from_hub(served, obj)), patch, kind, resource.kind)


def patched_scale(scale: Obj, patch: Any, kind: PatchKind) -> Obj:
    """A Scale (changed) after `patch`."""
    return _patch(scale, patch, kind, "Scale")


def _patch(current: Obj, patch: Any, kind: PatchKind, of: str) -> Obj:
    if kind == "json":
        result = json_patch(current, patch)
    elif not isinstance(patch, dict):
        raise refusals.bad_request("json: cannot unmarshal the patch into Go value of type map[string]interface {}")
    elif kind == "merge":
        result = merge_patch(current, patch)
    else:
        result = strategic_patch(current, patch, of)
    if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
        raise refusals.bad_request("the patch leaves no object with metadata")
    return result
