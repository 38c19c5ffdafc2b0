# SPDX-License-Identifier: Apache-2.0
"""The API server's refusals, in its own words."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshbox import failures
from meshbox.api.resource_table import BUILTIN
from meshbox.api.resources import Resource
from meshbox.contracts import ApiError, Obj

__all__ = [
    "NoSuchPathError",
    "already_exists",
    "bad_patch",
    "bad_request",
    "cause",
    "conflict",
    "expired",
    "forbidden",
    "internal",
    "invalid",
    "method_not_allowed",
    "modified",
    "no_such_resource",
    "not_found",
    "not_saved",
    "quoted",
    "timeout",
    "too_large",
    "unsupported_media_type",
]


def _details(resource: Resource, name: str) -> Obj:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}


def not_found(resource: Resource, name: str) -> ApiError:
    """404 for an object that is not there."""
    return ApiError(404, "NotFound", f'{resource.name} "{name}" not found', _details(resource, name))


_BUILTIN = frozenset(row.group for row in BUILTIN)


class NoSuchPathError(ApiError):
    """404 for a path that serves nothing."""


def no_such_resource(group: str | None = None) -> ApiError:
    """404 for a path that serves nothing: a `Status` below a built-in group, else a page that says no more than that.

    Args:
        group: Of the path; None where it names none.
    """
    words = "the server could not find the requested resource"
    return (ApiError if group in _BUILTIN else NoSuchPathError)(404, "NotFound", words)


def already_exists(resource: Resource, name: str, *, ends: bool = False) -> ApiError:
    """409 for a name that is taken, perhaps by an object that ends."""
    words = f'{"object is being deleted: " * ends}{resource.name} "{name}" already exists'
    return ApiError(409, "AlreadyExists", words, _details(resource, name))


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    """409 for a write that does not fit the object as it is now."""
    message = f'Operation cannot be fulfilled on {resource.name} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def modified(resource: Resource, name: str) -> ApiError:
    """409 for a write that was based on an older object."""
    return conflict(
        resource, name, "the object has been modified; please apply your changes to the latest version and try again"
    )


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    """403 for a write that a rule does not allow."""
    subject = f'{resource.name} "{name}" is forbidden' if name else f"{resource.name} is forbidden"
    return ApiError(403, "Forbidden", f"{subject}: {why}", _details(resource, name))


def quoted(value: Any) -> str:
    """A value from a request as Go quotes it in a message, shortened."""
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text if len(text) <= 300 else f"{text[:300]}…", ensure_ascii=False)


def internal(error: Exception, what: str) -> ApiError:
    """500 for what nobody foresaw while `what` was asked; all about it is in the log."""
    return ApiError(500, "InternalError", failures.noted(error, what))


def bad_request(message: str) -> ApiError:
    """400 for a request that cannot be understood."""
    return ApiError(400, "BadRequest", message)


def bad_patch(patch: str, why: str) -> ApiError:
    """422 for a patch that leaves no object of the kind."""
    one = cause("patch", f"Invalid value: {json.dumps(patch, ensure_ascii=False)}: {why}")
    return ApiError(422, "Invalid", f' "" is invalid: patch: {one["message"]}', {"causes": [one]})


def method_not_allowed() -> ApiError:
    """405 for a verb that a resource does not have."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415 for a body in a form that is not understood."""
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiError(415, "UnsupportedMediaType", message)


def too_large(limit: int) -> ApiError:
    """413 for a body that is larger than the server takes."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def not_saved(resource: str, name: str, file: Path, error: OSError) -> ApiError:
    """507 for a write that the disk did not take."""
    seen = "the disk is full" if error.errno in _FULL else "the disk cannot be written"
    plural, _, group = resource.partition(".")
    message = (
        f'{resource} "{name}" could not be saved in {file}: {seen} ({error.strerror}); nothing was changed. '
        f"Make room there{'' if error.errno in _FULL else ', or use another disk (LABKIT_HOME)'}, and try again."
    )
    details: Obj = {"name": name, "kind": plural} | ({"group": group} if group else {})
    return ApiError(507, "InternalError", message, details)


def timeout(message: str) -> ApiError:
    """408 for a request that takes too long to come."""
    return ApiError(408, "Timeout", message)


def expired(message: str = "too old resource version") -> ApiError:
    """410 for a resourceVersion that is no longer known."""
    return ApiError(410, "Expired", message)


_REASONS = {
    "Required value": "FieldValueRequired",
    "Invalid value": "FieldValueInvalid",
    "Unsupported value": "FieldValueNotSupported",
    "Duplicate value": "FieldValueDuplicate",
    "Forbidden": "FieldValueForbidden",
    "Too long": "FieldValueTooLong",
    "Too many": "FieldValueTooMany",
    "Not found": "FieldValueNotFound",
}


def cause(field: str, message: str) -> Obj:
    """One cause of an `Invalid` refusal; `message` begins as the server's do ("Required value: …")."""
    return {"reason": _REASONS.get(message.split(":", 1)[0], "FieldValueInvalid"), "message": message, "field": field}


def invalid(resource: Resource, name: str, causes: Sequence[Obj]) -> ApiError:
    """422 for an object whose fields do not fit together."""
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    said = list(dict.fromkeys(f"{one['field']}: {one['message']}" for one in causes))
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details = {"name": name, "group": resource.group, "kind": resource.kind, "causes": list(causes)}
    details = {key: value for key, value in details.items() if value}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details)
