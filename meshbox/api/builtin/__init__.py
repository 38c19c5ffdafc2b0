# SPDX-License-Identifier: Apache-2.0
"""Validation of built-in kinds: decoding first, then what the fields mean."""

from __future__ import annotations

from typing import Any

from meshbox.api.builtin.cluster import CLUSTER
from meshbox.api.builtin.core import CORE
from meshbox.api.builtin.decoding import canonical, decode, prune
from meshbox.api.builtin.types import kind_type
from meshbox.api.builtin.updates import UPDATES
from meshbox.api.builtin.workloads import WORKLOADS
from meshbox.api.problems import Problems

__all__ = ["canonical_builtin", "prune_builtin", "validate_builtin", "validate_update"]

_CHECKS: dict[str, Any] = {**CLUSTER, **CORE, **WORKLOADS}
_TOO_DEEP = "json: exceeded max depth"


def validate_builtin(api_version: str, kind: str, obj: Any) -> Problems:
    """Check a built-in object, whether or not defaults were applied to it.

    `metadata` is checked for unknown fields and types only; its names and labels are the caller's matter, but for the
    rules of single kinds (a CRD's name, a CronJob's length).

    Args:
        api_version: The version that the object is written in, e.g. "extensions/v1beta1".
        kind: Its kind; of one that is not known, nothing is said.
        obj: Anything that JSON can be; it is not changed.

    Returns:
        `decode` or `unknown` from decoding; `errors` only where it decodes.
    """
    type_name = kind_type(api_version, kind)
    if not type_name:
        return Problems()
    try:
        problems = decode(obj, type_name)
        check = _CHECKS.get(kind)
        if check is not None and not problems.decode:
            check(obj, api_version, problems.errors)
    except RecursionError:
        return Problems(decode=_TOO_DEEP)
    return problems


def prune_builtin(api_version: str, kind: str, obj: Any) -> None:
    """Drop, in place, the fields that `validate_builtin` calls unknown; for requests that are not strict."""
    type_name = kind_type(api_version, kind)
    if type_name:
        prune(obj, type_name)


def canonical_builtin(api_version: str, kind: str, obj: Any) -> None:
    """Write, in place, the quantities of a built-in object in the one form that Kubernetes stores; others stay."""
    type_name = kind_type(api_version, kind)
    if type_name:
        canonical(obj, type_name)


def validate_update(api_version: str, kind: str, old: Any, new: Any) -> Problems:
    """Check what may not change between `old` and `new`; the rest is `validate_builtin`'s work, which comes first.

    Args:
        api_version: The version that both are written in.
        kind: Their kind.
        old: The object as it is stored.
        new: The object as it is to be, decoded without problems.
    """
    problems = Problems()
    check = UPDATES.get(kind)
    if check is not None and isinstance(old, dict) and isinstance(new, dict) and kind_type(api_version, kind):
        try:
            check(old, new, api_version, problems.errors)
        except RecursionError:
            return Problems(decode=_TOO_DEEP)
    return problems
