# SPDX-License-Identifier: Apache-2.0
"""What a schema of a CustomResourceDefinition must leave out to be structural, and what its rules may say."""

from __future__ import annotations

import re
from typing import Any

from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.problems import Cause, forbidden, invalid, not_supported, required

__all__ = ["rule_problems", "structural"]

_Schema = dict[str, Any]
_UNSUPPORTED = ("$ref", "id", "additionalItems", "definitions", "dependencies", "patternProperties")
_EMPTY, _UNDEFINED, _FALSE = (f"must be {one} to be structural" for one in ("empty", "undefined", "false"))
_X = "x-kubernetes-"
_NESTED = {
    "type": _EMPTY, "title": _EMPTY, "description": _EMPTY, "default": _UNDEFINED, "nullable": _FALSE,
    "additionalProperties": _UNDEFINED, f"{_X}preserve-unknown-fields": _FALSE, f"{_X}embedded-resource": _FALSE,
    f"{_X}int-or-string": _FALSE, f"{_X}list-map-keys": _EMPTY, f"{_X}list-type": _UNDEFINED,
    f"{_X}map-type": _UNDEFINED, f"{_X}validations": _EMPTY,
}  # fmt: skip
"""What the parts of anyOf, oneOf, allOf and not leave to the schema around them."""
_EITHER = [{"type": "integer"}, {"type": "string"}]
_EMBEDDED, _KEEPS, _EITHER_TYPE = f"{_X}embedded-resource", f"{_X}preserve-unknown-fields", f"{_X}int-or-string"
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\['((?:[^'\\]|\\.)+)'\]", re.ASCII)
_PATTERN_WORDS = {"missing ]": "missing closing ]", "missing )": "missing closing )"}
_PATTERN_WORDS |= {"no argument for repetition operator": "missing argument to repetition operator"}


def structural(schema: _Schema, path: str, causes: list[Cause]) -> None:
    """Check one schema, but not the properties and items below it."""
    root = path.endswith(".openAPIV3Schema")
    for field in _UNSUPPORTED:
        if schema.get(field):
            causes.append(forbidden(f"{path}.{field}", f"{field} is not supported"))
    if schema.get("uniqueItems") is True:
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        causes.append(forbidden(f"{path}.uniqueItems", detail))
    if isinstance(schema.get("items"), list):
        causes.append(forbidden(f"{path}.items", "items must be a schema object and not an array"))
    more, kind = schema.get("additionalProperties"), schema.get("type") or ""
    for holds, detail in (
        (schema.get("properties") and more is not True, "additionalProperties and properties are mutual exclusive"),
        (root, "must not be used at the root"),
        (schema.get(_EMBEDDED) is True, "must not be used if x-kubernetes-embedded-resource is set"),
    ):
        if holds and more is not None and more is not False:
            causes.append(forbidden(f"{path}.additionalProperties", detail))
    for holds, detail in (
        (schema.get(_EMBEDDED) is True, "must be object if x-kubernetes-embedded-resource is true"),
        (schema.get(f"{_X}map-type") is not None, "must be object if x-kubernetes-map-type is specified"),
    ):
        if holds and kind != "object":
            causes.append(invalid(f"{path}.type", kind, detail) if kind else required(f"{path}.type", detail))
    if schema.get(_EMBEDDED) is True and schema.get(_KEEPS) is not True and not schema.get("properties"):
        without = "x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        causes.append(required(f"{path}.properties", f"must not be empty if {without}"))
    for field in (_KEEPS, _EMBEDDED):
        if schema.get(_EITHER_TYPE) is True and schema.get(field) is True:
            causes.append(invalid(f"{path}.{field}", True, "must be false if x-kubernetes-int-or-string is true"))
    if (map_type := schema.get(f"{_X}map-type")) is not None and map_type not in ("atomic", "granular"):
        causes.append(not_supported(f"{path}.{_X}map-type", map_type, ("atomic", "granular")))
    _pattern(schema, path, causes)
    _parts(schema, schema, path, causes, whole=root)


def _pattern(schema: _Schema, path: str, causes: list[Cause]) -> None:
    if not (text := schema.get("pattern")):
        return
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error as error:
        words = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error.args[0])
        said, _, part = words.partition(": ")
        words = f"error parsing regexp: {_PATTERN_WORDS.get(said, said)}: `{part}`"
        detail = f"must be a valid regular expression, but isn't: {words}"
        causes.append(invalid(f"{path}.pattern", text, detail))


def _parts(schema: _Schema, around: _Schema, path: str, causes: list[Cause], *, whole: bool) -> None:
    """Check the schemas that are combined in `schema`, which is `around` or within it.

    Only of the `whole` schema the server asks that what they name is a property of it.
    """
    for field in ("anyOf", "allOf", "oneOf"):
        parts = as_list(schema.get(field))
        if field == "anyOf" and parts == _EITHER:
            continue
        for index, one in enumerate(parts):
            _nested(as_dict(one), around, f"{path}.{field}[{index}]", path, causes, whole=whole)
    if isinstance(schema.get("not"), dict):
        _nested(schema["not"], around, f"{path}.not", path, causes, whole=whole)


def _nested(schema: _Schema, around: _Schema, path: str, outer: str, causes: list[Cause], *, whole: bool) -> None:
    for field, detail in _NESTED.items():
        if field in schema and schema[field] not in (None, "", False, [], {}):
            causes.append(forbidden(f"{path}.{field}", detail))
    _pattern(schema, path, causes)
    _parts(schema, around, path, causes, whole=whole)
    outside = as_dict(around.get("properties"))
    for name, one in as_dict(schema.get("properties")).items():
        place, at = f"{path}.properties[{name}]", f"{outer}.properties[{name}]"
        if whole and name not in outside:
            causes.append(required(at, f"because it is defined in {place}"))
        _nested(as_dict(one), as_dict(outside.get(name)), place, at, causes, whole=whole)
    if isinstance(schema.get("items"), dict):
        _nested(schema["items"], as_dict(around.get("items")), f"{path}.items", f"{outer}.items", causes, whole=whole)


def rule_problems(schema: _Schema, rule: dict[str, Any], path: str, causes: list[Cause]) -> None:
    """Check what an entry of `x-kubernetes-validations` says beside its rule.

    Args:
        schema: The schema that has it.
        rule: The entry.
        path: Where it is.
        causes: Where to add what is wrong.
    """
    message, place, reason = rule.get("message") or "", rule.get("fieldPath") or "", rule.get("reason")
    if message and not message.strip():
        causes.append(invalid(f"{path}.message", message, "must be non-empty if specified"))
    elif "\n" in message.strip():
        causes.append(invalid(f"{path}.message", message, "must not contain line breaks"))
    if reason is not None and reason not in _REASONS:
        causes.append(not_supported(f"{path}.reason", reason, _REASONS))
    if rule.get("optionalOldSelf") is not None and not re.search(r"\boldSelf\b", rule.get("rule") or ""):
        causes.append(
            invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], "may not be set if oldSelf is not used in rule")
        )
    if place and not _leads(schema, place):
        causes.append(invalid(f"{path}.fieldPath", place, "must be a valid path"))


def _leads(schema: _Schema, place: str) -> bool:
    """Whether a path such as ".spec.x" or ".map['key']" is that of a field of a schema."""
    end = 0
    for match in _STEP.finditer(place):
        name, more = match[1] or match[2], schema.get("additionalProperties")
        below = as_dict(schema.get("properties")).get(name, more)
        if match.start() != end or not isinstance(below, dict):
            return False
        schema, end = below, match.end()
    return end == len(place)
