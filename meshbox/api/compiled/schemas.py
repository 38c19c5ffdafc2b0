# SPDX-License-Identifier: Apache-2.0
"""Validation of the schemas in CustomResourceDefinitions: structural, with sound defaults, lists and rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.cel.compiling import RULE_NAMES, compile_error, type_of
from meshbox.api.cel.sound import known
from meshbox.api.compiled.structural import rule_problems, structural
from meshbox.api.problems import Cause, invalid, not_supported, required
from meshbox.api.schema.node import Node
from meshbox.api.schema.validate import validate

__all__ = ["rule_fields", "schema_problems"]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_LISTS = ("atomic", "set", "map")
_RULE_FIELDS = {"Rule": "rule", "Message": "message", "MessageExpression": "messageExpression", "Reason": "reason"}
_RULE_FIELDS |= {"FieldPath": "fieldPath", "OptionalOldSelf": "optionalOldSelf"}
_Schema = dict[str, Any]


def schema_problems(schema: _Schema, path: str, causes: list[Cause], *, with_status: bool) -> None:
    """Check a whole schema.

    Args:
        schema: What `openAPIV3Schema` holds.
        path: Where it is.
        causes: Where to add what is wrong.
        with_status: Whether its version has the status subresource.
    """
    kind, where = schema.get("type") or "", f"{path}.type"
    if not kind:
        causes.append(required(where, "must not be empty at the root"))
        return
    if kind != "object":
        if with_status:
            only = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            causes.append(invalid(where, kind, only))
        causes.append(invalid(where, kind, "must be object at the root"))
    before = len(causes)
    _walk(schema, path, causes, structural)
    _walk(schema, path, causes, _default)
    defaults = len(causes)
    if kind not in _TYPES:
        causes.append(not_supported(where, kind, _TYPES))
    _walk(schema, path, causes, _below)
    sound = len(causes) == defaults and kind == "object"
    _walk(schema, path, causes, _list)
    if sound and len(causes) == defaults == before:
        _walk(schema, path, causes, _rules)


def _walk(schema: _Schema, path: str, causes: list[Cause], check: Callable[[_Schema, str, list[Cause]], None]) -> None:
    """`check` a schema and all below it."""
    check(schema, path, causes)
    for name, one in as_dict(schema.get("properties")).items():
        _walk(as_dict(one), f"{path}.properties[{name}]", causes, check)
    for field in ("additionalProperties", "items"):
        if isinstance(schema.get(field), dict):
            _walk(schema[field], f"{path}.{field}", causes, check)


def _default(schema: _Schema, path: str, causes: list[Cause]) -> None:
    if "default" not in schema:
        return
    found: list[Cause] = []
    validate(Node(schema), schema["default"], "", found)
    for one in found:
        at = f"{path}.default.{one['field']}" if one["field"] else f"{path}.default"
        causes.append({**one, "field": at})


def _below(schema: _Schema, path: str, causes: list[Cause]) -> None:
    """Whether the schema and what it holds say of which types they are."""
    for name, one in as_dict(schema.get("properties")).items():
        _typed(as_dict(one), f"{path}.properties[{name}]", "object fields", causes)
    if isinstance(schema.get("additionalProperties"), dict):
        _typed(schema["additionalProperties"], f"{path}.additionalProperties", "object fields", causes)
    if isinstance(schema.get("items"), dict):
        _typed(schema["items"], f"{path}.items", "array items", causes)
    elif schema.get("type") == "array":
        causes.append(required(f"{path}.items", "must be specified"))


def _typed(schema: _Schema, path: str, of: str, causes: list[Cause]) -> None:
    kind = schema.get("type") or ""
    free = (
        schema.get("x-kubernetes-int-or-string") is True or schema.get("x-kubernetes-preserve-unknown-fields") is True
    )
    if not kind and not free:
        causes.append(required(f"{path}.type", f"must not be empty for specified {of}"))
    elif kind and kind not in _TYPES:
        causes.append(not_supported(f"{path}.type", kind, _TYPES))


def _list(schema: _Schema, path: str, causes: list[Cause]) -> None:
    kind, keys = schema.get("x-kubernetes-list-type"), as_list(schema.get("x-kubernetes-list-map-keys"))
    where, kinds_path = f"{path}.x-kubernetes-list-map-keys", f"{path}.x-kubernetes-list-type"
    if kind is not None:
        of = schema.get("type") or ""
        words = "must be array if x-kubernetes-list-type is specified"
        if of != "array":
            causes.append(invalid(f"{path}.type", of, words) if of else required(f"{path}.type", words))
        if kind not in _LISTS:
            causes.append(not_supported(kinds_path, kind, _LISTS))
    if keys and kind != "map":
        words = "must be map if x-kubernetes-list-map-keys is non-empty"
        causes.append(required(kinds_path, words) if kind is None else invalid(kinds_path, kind, words))
    if kind != "map":
        return
    if not keys:
        causes.append(required(where, "must not be empty if x-kubernetes-list-type is map"))
        return
    _items(schema, path, keys, where, causes)


def _items(schema: _Schema, path: str, keys: list[Any], where: str, causes: list[Cause]) -> None:
    """Whether a list of type map has items that its keys can tell apart."""
    items, at = schema.get("items"), f"{path}.items"
    if items is None:
        causes.append(required(at, "must have a schema if x-kubernetes-list-type is map"))
        return
    if not isinstance(items, dict):
        shown = {"Schema": None, "JSONSchemas": items if isinstance(items, list) else None}
        causes.append(invalid(at, shown, "must only have a single schema if x-kubernetes-list-type is map"))
        return
    kind, properties = items.get("type") or "", as_dict(items.get("properties"))
    if kind != "object":
        causes.append(invalid(f"{at}.type", kind, "must be object if parent array's x-kubernetes-list-type is map"))
    if any(key not in properties for key in keys):
        if kind == "object" or properties:
            causes.append(invalid(where, keys, "entries must all be names of item properties"))
    elif len(set(keys)) < len(keys):
        causes.append(invalid(where, keys, "must not contain duplicate entries"))
    wanted = as_list(items.get("required"))
    for key in dict.fromkeys(keys):
        if key in properties and key not in wanted and "default" not in as_dict(properties[key]):
            detail = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            )
            causes.append(required(f"{at}.properties[{key}].default", detail))


def rule_fields(schema: _Schema) -> frozenset[str] | None:
    """The fields of `self` in a schema's rules; None where it may have any."""
    open_ = schema.get("type") != "object" or schema.get("x-kubernetes-preserve-unknown-fields") is True
    open_ = (
        open_ or schema.get("additionalProperties") is not None or bool(schema.get("x-kubernetes-embedded-resource"))
    )
    return None if open_ else frozenset(as_dict(schema.get("properties")))


def _rules(schema: _Schema, path: str, causes: list[Cause]) -> None:
    fields = rule_fields(schema)
    for index, one in enumerate(as_list(schema.get("x-kubernetes-validations"))):
        rule, at = as_dict(one), f"{path}.x-kubernetes-validations[{index}]"
        text, where = rule.get("rule") or "", f"{at}.rule"
        rule_problems(schema, rule, at, causes)
        if not text.strip():
            causes.append(required(where, "rule is not specified"))
        elif not known(text, fields) and (said := compile_error(text, RULE_NAMES, fields)):
            causes.append(invalid(where, _shown(rule), f"compilation failed: {said}"))
        elif not known(text, fields) and type_of(text) not in ("", "bool", "dyn"):
            causes.append(invalid(where, _shown(rule), "cel expression must evaluate to a bool"))
        if (text := rule.get("messageExpression") or "").strip() and not known(text, fields):
            if said := compile_error(text, RULE_NAMES, fields):
                detail = f"messageExpression compilation failed: {said}"
                causes.append(invalid(f"{at}.messageExpression", _shown(rule), detail))
            elif type_of(text) not in ("", "string", "dyn"):
                detail = "messageExpression must evaluate to a string"
                causes.append(invalid(f"{at}.messageExpression", _shown(rule), detail))


def _shown(rule: _Schema) -> _Schema:
    """A rule as the server prints it."""
    zeros = {"Reason": None, "OptionalOldSelf": None}
    return {name: rule.get(field, zeros.get(name, "")) for name, field in _RULE_FIELDS.items()}
