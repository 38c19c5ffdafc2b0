# SPDX-License-Identifier: Apache-2.0
"""Options of writes and deletes, as bodies and queries give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from multidict import MultiMapping

from labkit.ground.numbers import whole
from labkit.ground.reading.json_text import json_kind
from meshbox.api import refusals
from meshbox.api.options import DeleteOptions
from meshbox.contracts import ApiError, Obj
from meshbox.values import dumps

__all__ = ["delete_options", "dry_run", "invalid_option", "invalid_options", "whole_option", "write_options"]

_TYPES: dict[str, tuple[type, str]] = {
    "propagationPolicy": (str, "v1.DeletionPropagation"),
    "orphanDependents": (bool, "bool"),
    "gracePeriodSeconds": (int, "int64"),
    "preconditions": (dict, "v1.Preconditions"),
    "dryRun": (list, "[]string"),
}


def invalid_option(field: str, words: str, kind: str = "CreateOptions") -> ApiError:
    """422 for an option that has no such value."""
    return invalid_options([(field, words)], kind)


def invalid_options(wrong: Sequence[tuple[str, str]], kind: str) -> ApiError:
    """422 for options that have no such values, or do not go together; each with the words about it."""
    said = [f"{field}: {words}" for field, words in wrong]
    details = {"group": "meta.k8s.io", "kind": kind, "causes": [refusals.cause(*one) for one in wrong]}
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    return ApiError(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {text}', details)


def dry_run(values: Sequence[Any], kind: str = "CreateOptions") -> bool:
    """Whether everything but keeping the result is asked for.

    Raises:
        ApiError: 422 where something else is said.
    """
    if any(value != "All" for value in values):
        given = dumps([str(value) for value in values]).decode()
        raise invalid_option("dryRun", f'Unsupported value: {given}: supported values: "All"', kind)
    return "All" in values


_VALIDATIONS = ("", "Ignore", "Strict", "Warn")


def write_options(query: MultiMapping[str], kind: str, *, applies: bool) -> tuple[bool, str]:
    """Whether a write is a dry run, and what to do about fields that there are not.

    Args:
        query: Of the request.
        kind: What the options are called ("PatchOptions").
        applies: Whether it is a server-side apply, which has more of them.

    Raises:
        ApiError: 422 where something else is said.
    """
    wrong, manager = [], query.get("fieldManager", "")
    if applies and not manager:
        wrong.append(("fieldManager", "Required value: is required for apply patch"))
    if kind == "PatchOptions" and not applies and "force" in query:
        wrong.append(("force", "Forbidden: may not be specified for non-apply patch"))
    if len(manager.encode()) > _LONGEST_MANAGER:
        wrong.append(("fieldManager", f"Too long: may not be more than {_LONGEST_MANAGER} bytes"))
    for index, letter in enumerate(manager):
        if not letter.isprintable():
            words = f"Invalid value: {refusals.quoted(manager)}: invalid character U+{ord(letter):04X}"
            wrong.append(("fieldManager", f"{words} (at position {index})"))
    if wrong:
        raise invalid_options(wrong, kind)
    dry = dry_run(query.getall("dryRun", []), kind)
    if (validation := query.get("fieldValidation", "")) not in _VALIDATIONS:
        supported = ", ".join(f'"{one}"' for one in _VALIDATIONS)
        words = f"Unsupported value: {refusals.quoted(validation)}: supported values: {supported}"
        raise invalid_option("fieldValidation", words, kind)
    return dry, validation or "Warn"


_LONGEST_MANAGER = 128


def delete_options(body: Any, query: Mapping[str, str]) -> DeleteOptions:
    """From a body (DeleteOptions) and query parameters; the body counts more.

    Raises:
        ApiError: 400 or 422 where they say something that there is not.
    """
    given = _decoded(body)
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = given.get("orphanDependents", query.get("orphanDependents"))
    if propagation and orphan is not None:
        words = f"Invalid value: {refusals.quoted(propagation)}: orphanDependents and deletionPropagation"
        raise invalid_option("propagationPolicy", f"{words} cannot be both set", "DeleteOptions")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan in (True, "true", "1") else "Background"
    if propagation not in (None, "Background", "Foreground", "Orphan"):
        supported = 'supported values: "Foreground", "Background", "Orphan", "nil"'
        words = f"Unsupported value: {refusals.quoted(propagation)}: {supported}"
        raise invalid_option("propagationPolicy", words, "DeleteOptions")
    before: Obj = given.get("preconditions") or {}
    for field, value in before.items():
        if field in ("uid", "resourceVersion") and not isinstance(value, str | None):
            place = f"Preconditions.preconditions.{field} of type {'types.UID' if field == 'uid' else 'string'}"
            raise refusals.bad_request(f"json: cannot unmarshal {json_kind(value)} into Go struct field {place}")
    return DeleteOptions(
        propagation=propagation,  # type: ignore[arg-type]
        grace_period=_grace(given, query),
        uid=str(before.get("uid") or ""),
        resource_version=str(before.get("resourceVersion") or ""),
        dry_run=dry_run(given.get("dryRun") or ([query["dryRun"]] if "dryRun" in query else []), "DeleteOptions"),
    )


def _decoded(body: Any) -> Obj:
    if not isinstance(body, dict):
        raise refusals.bad_request(f"json: cannot unmarshal {json_kind(body)} into Go value of type v1.DeleteOptions")
    for name, (form, type_name) in _TYPES.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, form) or (form is int and isinstance(value, bool))):
            place = f"DeleteOptions.{name} of type {type_name}"
            raise refusals.bad_request(f"json: cannot unmarshal {json_kind(value)} into Go struct field {place}")
    return {name: value for name, value in body.items() if value is not None}


def _grace(given: Obj, query: Mapping[str, str]) -> int | None:
    if (seconds := given.get("gracePeriodSeconds")) is not None:
        return int(seconds)
    text = query.get("gracePeriodSeconds")
    if text is None:
        return None
    return whole_option(text)


def whole_option(text: str) -> int:
    """A whole number in a query.

    Raises:
        ApiError: 400 where it is none.
    """
    if (value := whole(text)) is None:
        raise refusals.bad_request(f"strconv.ParseInt: parsing {refusals.quoted(text)}: invalid syntax")
    return value
