# SPDX-License-Identifier: Apache-2.0
"""What the schema of a CustomResourceDefinition must leave out, in the words of Kubernetes 1.35.4."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.compiled.schemas import schema_problems
from meshbox.api.problems import Cause

RULES = ".x-kubernetes-validations"
ROOT = "s.openAPIV3Schema"
X = "x-kubernetes-"
AT = f"{ROOT}.properties[a]"
TEXT, OBJECT = {"type": "string"}, {"type": "object"}


def _problems(field: dict[str, Any], **root: Any) -> set[tuple[str, str]]:
    causes: list[Cause] = []
    schema = {"type": "object", "properties": {"a": field}, **root}
    schema_problems(schema, ROOT, causes, with_status=False)
    return {(one["field"].removeprefix(AT), one["message"]) for one in causes}


@pytest.mark.parametrize(
    ("field", "place", "said"),
    [
        ({**TEXT, "$ref": "#/x"}, ".$ref", "Forbidden: $ref is not supported"),
        ({**TEXT, "id": "x"}, ".id", "Forbidden: id is not supported"),
        ({"type": "array", "items": TEXT, "uniqueItems": True}, ".uniqueItems",
         "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"),
        ({"type": "object", "properties": {"b": TEXT}, "additionalProperties": TEXT}, ".additionalProperties",
         "Forbidden: additionalProperties and properties are mutual exclusive"),
        ({**TEXT, f"{X}embedded-resource": True, f"{X}preserve-unknown-fields": True}, ".type",
         'Invalid value: "string": must be object if x-kubernetes-embedded-resource is true'),
        ({**OBJECT, f"{X}embedded-resource": True}, ".properties",
         "Required value: must not be empty if x-kubernetes-embedded-resource is true without "
         "x-kubernetes-preserve-unknown-fields"),
        ({f"{X}int-or-string": True, f"{X}preserve-unknown-fields": True}, f".{X}preserve-unknown-fields",
         "Invalid value: true: must be false if x-kubernetes-int-or-string is true"),
        ({**OBJECT, f"{X}map-type": "q"}, f".{X}map-type",
         'Unsupported value: "q": supported values: "atomic", "granular"'),
        ({**TEXT, f"{X}map-type": "atomic"}, ".type",
         'Invalid value: "string": must be object if x-kubernetes-map-type is specified'),
        ({**TEXT, "pattern": "["}, ".pattern",
         'Invalid value: "[": must be a valid regular expression, but isn\'t: '
         "error parsing regexp: missing closing ]: `[`"),
        ({**TEXT, "oneOf": [TEXT]}, ".oneOf[0].type", "Forbidden: must be empty to be structural"),
        ({**TEXT, "allOf": [{"nullable": True}]}, ".allOf[0].nullable", "Forbidden: must be false to be structural"),
        ({**TEXT, "not": {"default": 1}}, ".not.default", "Forbidden: must be undefined to be structural"),
        ({**TEXT, "anyOf": [{"properties": {"b": TEXT}}]}, ".anyOf[0].properties[b].type",
         "Forbidden: must be empty to be structural"),
        ({**TEXT, f"{X}validations": [{"rule": "true", "reason": "Q"}]}, f"{RULES}[0].reason",
         'Unsupported value: "Q": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", '
         '"FieldValueRequired"'),
        ({**TEXT, f"{X}validations": [{"rule": "true", "message": "a\nb"}]}, f"{RULES}[0].message",
         'Invalid value: "a\\nb": must not contain line breaks'),
        ({**TEXT, f"{X}validations": [{"rule": "true", "fieldPath": ".zz"}]}, f"{RULES}[0].fieldPath",
         'Invalid value: ".zz": must be a valid path'),
        ({**TEXT, f"{X}validations": [{"rule": "true", "optionalOldSelf": True}]},
         f"{RULES}[0].optionalOldSelf",
         "Invalid value: true: may not be set if oldSelf is not used in rule"),
        ({**TEXT, f"{X}validations": [{"rule": "1"}]}, f"{RULES}[0].rule",
         'Invalid value: {"Rule":"1","Message":"","MessageExpression":"","Reason":null,"FieldPath":"",'
         '"OptionalOldSelf":null}: cel expression must evaluate to a bool'),
        ({**TEXT, f"{X}validations": [{"rule": "true", "messageExpression": "1"}]},
         f"{RULES}[0].messageExpression",
         'Invalid value: {"Rule":"true","Message":"","MessageExpression":"1","Reason":null,"FieldPath":"",'
         '"OptionalOldSelf":null}: messageExpression must evaluate to a string'),
    ],
)  # fmt: skip
def test_what_is_not_structural_is_told(field: dict[str, Any], place: str, said: str) -> None:
    assert _problems(field) == {(place, said)}


def test_the_whole_names_what_its_parts_name() -> None:
    place = f"{ROOT}.oneOf[0].properties[b]"
    assert _problems(TEXT, oneOf=[{"properties": {"b": {"minLength": 1}}}]) == {
        (f"{ROOT}.properties[b]", f"Required value: because it is defined in {place}")
    }
    assert _problems(TEXT, additionalProperties=True) == {
        (f"{ROOT}.additionalProperties", "Forbidden: must not be used at the root")
    }


@pytest.mark.parametrize(
    "field",
    [
        {f"{X}int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        {f"{X}int-or-string": True, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "^a"}]},
        {"type": "object", "properties": {"b": TEXT}, "additionalProperties": True},
        {"type": "object", "properties": {"b": TEXT}, "oneOf": [{"required": ["b"]}], "not": {"required": ["c"]}},
        {"type": "object", f"{X}map-type": "atomic", f"{X}validations": [{"rule": "true", "fieldPath": ".b"}],
         "properties": {"b": TEXT}},
        {"type": "object", "additionalProperties": TEXT, f"{X}validations": [{"rule": "true", "fieldPath": "['b.c']"}]},
    ],
)  # fmt: skip
def test_what_is_structural_is_taken(field: dict[str, Any]) -> None:
    assert _problems(field) == set()
