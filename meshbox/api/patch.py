# SPDX-License-Identifier: Apache-2.0
"""The patches that are a function of an object and a document: JSON merge (RFC 7386) and JSON patch (RFC 6902)."""

from __future__ import annotations

from typing import Any

from meshbox.api.refusals import bad_request
from meshbox.contracts import ApiError, Obj

__all__ = ["json_patch", "merge_patch", "strip"]


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


def json_patch(target: Obj, operations: Any) -> Any:
    """`target` after a JSON patch.

    Raises:
        ApiError: 400 where `operations` is no list of operations, 422 where one cannot be carried out.
    """
    import jsonpatch
    import jsonpointer

    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise bad_request("json: cannot unmarshal the patch into Go value of type jsonpatch.Patch")
    if len(operations) > 10_000:
        raise ApiError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is 10000, got {len(operations)}",
        )
    try:
        return jsonpatch.apply_patch(target, operations)
    except jsonpatch.InvalidJsonPatch:
        raise bad_request("error decoding patch: an operation of it is malformed") from None
    except (
        *(jsonpatch.JsonPatchException, jsonpointer.JsonPointerException),
        *(TypeError, KeyError, IndexError, AttributeError, ValueError, RecursionError),
    ):
        # The library's words would tell of Python, and of what a Secret holds.
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request") from None
