# SPDX-License-Identifier: Apache-2.0
"""Validation of built-in kinds: decoding first, then what the fields mean."""

from __future__ import annotations

from typing import Any

from meshbox.api.builtin import admission, cluster, network, storage, updates, workloads
from meshbox.api.builtin.decoding import decode, prune
from meshbox.api.builtin.rules import Context, check
from meshbox.api.builtin.types import fields_of, kind_type
from meshbox.api.codec.fields import message_of
from meshbox.api.problems import Problems

__all__ = ["decode_builtin", "prune_builtin", "validate_builtin", "validate_status", "validate_update"]

# They say what the rules' calls mean.
_CALLED = (admission, cluster, network, storage, updates, workloads)
_TOO_DEEP = "json: exceeded max depth"


def decode_builtin(api_version: str, kind: str, obj: Any) -> Problems:
    """What decoding a built-in object says of it: `decode` and `unknown`; of a kind that is not known, nothing.

    Args:
        api_version: The version that the object is written in, e.g. "extensions/v1beta1".
        kind: Its kind.
        obj: Anything that JSON can be; it is not changed.
    """
    type_name = kind_type(api_version, kind)
    if not type_name:
        return Problems()
    try:
        return decode(obj, type_name, message=message_of(api_version, kind))
    except RecursionError:
        return Problems(decode=_TOO_DEEP)


def validate_builtin(
    api_version: str, kind: str, obj: Any, written: str = "", *, new: bool = True, old: Any = None
) -> Problems:
    """Check a built-in object that decodes and has its defaults.

    `metadata` is the caller's matter, but for the rules of single kinds (a CRD's name, a CronJob's length).

    Args:
        api_version: The version that the object is in.
        kind: Its kind; of one that is not known, nothing is said.
        obj: The object; it is not changed.
        written: The version in which a client wrote it, where that is another one.
        new: Whether there was none before.
        old: The one before, where it is known.
    """
    problems = Problems()
    if type_name := kind_type(api_version, kind):
        try:
            context = Context(obj, written or api_version, new=new, old=old or {})
            check(type_name, obj, "", problems.errors, context)
        except RecursionError:
            return Problems(decode=_TOO_DEEP)
    return problems


def validate_status(api_version: str, kind: str, obj: Any) -> Problems:
    """Check the status of a built-in object, which somebody writes by itself."""
    problems = Problems()
    fields = fields_of(kind_type(api_version, kind)) or {}
    if obj.get("status") and (type_name := fields.get("status")):
        check(type_name, obj["status"], "status", problems.errors, Context(obj, api_version, new=False))
    return problems


def prune_builtin(api_version: str, kind: str, obj: Any) -> None:
    """Drop, in place, the fields that `validate_builtin` calls unknown; for requests that are not strict."""
    type_name = kind_type(api_version, kind)
    if type_name:
        prune(obj, type_name)


def validate_update(api_version: str, kind: str, old: Any, new: Any) -> Problems:
    """Check what may not change between `old` and `new`; the rest is `validate_builtin`'s work, which comes first.

    Args:
        api_version: The version that both are written in.
        kind: Their kind.
        old: The object as it is stored.
        new: The object as it is to be, decoded without problems.
    """
    problems = Problems()
    if isinstance(old, dict) and isinstance(new, dict) and kind_type(api_version, kind):
        try:
            check(kind, new, "", problems.errors, Context(new, api_version, new=False, old=old))
        except RecursionError:
            return Problems(decode=_TOO_DEEP)
    return problems
