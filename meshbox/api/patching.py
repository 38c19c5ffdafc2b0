# SPDX-License-Identifier: Apache-2.0
"""From an object and a patch request to the object the client wants."""

from __future__ import annotations

from typing import Any, Literal

from labkit.ground.reading.json_text import json_kind
from meshbox.api import refusals
from meshbox.api.conversion import from_hub
from meshbox.api.go_words import printed
from meshbox.api.json_patch import json_patch
from meshbox.api.options import WriteOptions
from meshbox.api.patch import merge_patch
from meshbox.api.resources import Resource, Served
from meshbox.api.strategic import strategic_patch
from meshbox.contracts import Obj
from meshbox.values import clone, dumps

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
    result = _patch(clone(from_hub(served, obj)), patch, kind, resource.kind)
    if resource.crd is None:
        options.patch = printed(patch) if kind == "strategic" else dumps(result).decode()
    return result


def _by_name(result: Any, patch: Any) -> Any:
    """A merged object whose fields are sorted wherever the patch has reached, as the server writes it in a refusal."""
    if not isinstance(result, dict) or not isinstance(patch, dict):
        return result
    return {name: _by_name(result[name], patch.get(name)) for name in sorted(result)}


def patched_scale(scale: Obj, patch: Any, kind: PatchKind) -> Obj:
    """A Scale (changed) after `patch`."""
    return _patch(scale, patch, kind, "Scale")


def _patch(current: Obj, patch: Any, kind: PatchKind, of: str) -> Obj:
    if kind == "json":
        result = json_patch(current, patch)
    elif not isinstance(patch, dict):
        raise refusals.bad_request(
            f"json: cannot unmarshal {json_kind(patch)} into Go value of type map[string]interface {{}}"
        )
    elif kind == "merge":
        result = _by_name(merge_patch(current, patch), patch)
    else:
        result = strategic_patch(current, patch, of)
    if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
        raise refusals.bad_request("the patch leaves no object with metadata")
    return result
