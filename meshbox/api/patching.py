# SPDX-License-Identifier: Apache-2.0
"""From an object and a patch request to the object the client wants."""

from __future__ import annotations

from typing import Any, Literal

from labkit.ground.reading.json_text import json_kind
from meshbox.api import refusals
from meshbox.api.conversion import from_hub
from meshbox.api.go_words import misfit, printed
from meshbox.api.json_patch import json_patch
from meshbox.api.options import WriteOptions
from meshbox.api.patch import merge_patch
from meshbox.api.resources import Resource, Served
from meshbox.api.strategic import ORDER, strategic_patch
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
    _patchable(resource, kind)
    before = from_hub(served, obj)
    result = _patch(clone(before), patch, kind, resource.kind)
    options.patch = printed(_unordered(patch)) if kind == "strategic" else dumps(result).decode()
    _settle(served, before, result, options.patch, kind)
    return result


def _unordered(patch: Any) -> Any:
    """A patch as refusals show it: lists that it gives an order to are gone from it once they are merged."""
    if not isinstance(patch, dict):
        return patch
    ordered = {name.removeprefix(ORDER) for name in patch if name.startswith(ORDER)}
    gone = ordered | {f"{ORDER}{name}" for name in ordered}
    return {name: _unordered(value) for name, value in patch.items() if name not in gone}


def _patchable(resource: Resource, kind: PatchKind) -> None:
    if kind == "strategic" and resource.crd is not None:
        raise refusals.unsupported_media_type(_CUSTOM_TYPES)


def _settle(served: Served, before: Obj, result: Obj, patch: str, kind: PatchKind) -> None:
    """See that a patch leaves an object's kind, version and name alone; in place.

    Raises:
        ApiError: 400 or 422 where it does not.
    """
    named = served.resource.crd is not None or kind == "strategic" or bool(result.get("apiVersion"))
    for field in ("kind", "apiVersion"):
        # Of a strategic patch neither is looked at: it changes an object whose type is known.
        if isinstance(value := result.get(field) or "", str) and (not value or kind == "strategic"):
            result[field] = before[field]
    if result.get("metadata") is None:
        result["metadata"] = {}
    if not isinstance(meta := result["metadata"], dict):
        words = f"json: cannot unmarshal {json_kind(meta)} into Go struct field {before['kind']}.metadata of type v1."
        raise refusals.bad_patch(patch, misfit(f"{words}ObjectMeta") if kind == "strategic" else f"{words}ObjectMeta")
    if served.resource.crd is None and any(result[field] != before[field] for field in ("kind", "apiVersion")):
        kind_, version = (refusals.quoted(result[field]) for field in ("kind", "apiVersion"))
        scheme = 'in scheme "pkg/runtime/scheme.go:111"'
        raise refusals.bad_patch(patch, f"no kind {kind_} is registered for version {version} {scheme}")
    if not named or meta.get("name") in (None, ""):
        name = before["metadata"]["name"]
        why = "was undeterminable: name must be provided"
        raise refusals.bad_request(f"the name of the object ({name} based on URL) {why}")


def _by_name(result: Any, patch: Any) -> Any:
    """A merged object whose fields are sorted wherever the patch has reached, as the server writes it in a refusal."""
    if not isinstance(result, dict) or not isinstance(patch, dict):
        return result
    return {name: _by_name(result[name], patch.get(name)) for name in sorted(result)}


def patched_scale(resource: Resource, scale: Obj, patch: Any, kind: PatchKind) -> Obj:
    """A Scale (changed) of an object of `resource` after `patch`.

    Raises:
        ApiError: 400, 415 or 422 where the patch is none, or cannot be carried out.
    """
    _patchable(resource, kind)
    return _patch(scale, patch, kind, "Scale")


def _patch(current: Obj, patch: Any, kind: PatchKind, of: str) -> Obj:
    if kind == "json":
        result = json_patch(current, patch)
    elif patch is None:
        if kind == "merge":
            raise refusals.bad_request("Invalid JSON Patch")
        result = current
    elif not isinstance(patch, dict):
        begin = "error decoding patch: " if kind == "merge" else ""
        raise refusals.bad_request(
            f"{begin}json: cannot unmarshal {json_kind(patch)} into Go value of type map[string]interface {{}}"
        )
    elif kind == "merge":
        result = _by_name(merge_patch(current, patch), patch)
    else:
        result = strategic_patch(current, patch, of)
    if not isinstance(result, dict):
        raise refusals.bad_request("the patch leaves no object")
    return result
