# SPDX-License-Identifier: Apache-2.0
"""Custom resources: pruning, defaults, validation and ratcheting, on a schema that has a bit of everything."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshbox.api.custom_schema import CustomSchema

NAME = {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "name": NAME,
                "mode": {"type": "string", "enum": ["ON", "OFF"], "default": "ON"},
                "level": {"enum": [1, 2]},
                "weight": {"type": "integer", "minimum": 0, "maximum": 100},
                "ratio": {"type": "number", "exclusiveMinimum": True, "minimum": 0},
                "size": {
                    "x-kubernetes-int-or-string": True,
                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                },
                "names": {"type": "array", "items": NAME, "maxItems": 2, "minItems": 1},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["number"],
                    "items": {
                        "type": "object",
                        "required": ["number"],
                        "properties": {
                            "number": {"type": "integer"},
                            "name": NAME,
                            "protocol": {"type": "string", "default": "TCP"},
                        },
                    },
                },
                "labels": {"type": "object", "additionalProperties": NAME, "maxProperties": 2},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": True},
                "since": {"type": "string", "format": "date-time", "nullable": True},
                "one": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                },
                "none": {"type": "string", "not": {"enum": ["bad"]}},
                "small": {"type": "integer", "format": "int32"},
                "all": {"type": "integer", "allOf": [{"minimum": 1}, {"maximum": 9}]},
                "deep": {
                    "type": "object",
                    "default": {},
                    "properties": {"on": {"type": "boolean", "default": True}},
                },
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
DEFAULTS = {"mode": "ON", "deep": {"on": True}}


@pytest.fixture(scope="module")
def schema() -> CustomSchema:
    return CustomSchema(SCHEMA, preserve_unknown=False)


def thing(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "a.io/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec}


def said(schema: CustomSchema, old: Any = None, **spec: Any) -> list[str]:
    return [f"{one['field']}: {one['message']}" for one in schema.admit(thing(**spec), old).errors]


def test_unknown_fields_are_dropped_and_told_in_order(schema: CustomSchema) -> None:
    obj = thing(zoo=1, ports=[{"number": 1, "nmae": "x"}], any={"what": {"ever": 1}}, deep={"x": {"y": 1}})
    obj["extra"] = 1
    obj["metadata"]["nmae"] = 1
    problems = schema.admit(obj)
    assert problems.unknown == [
        'unknown field "metadata.nmae"',
        'unknown field "extra"',
        'unknown field "spec.deep.x"',
        'unknown field "spec.ports[0].nmae"',
        'unknown field "spec.zoo"',
    ]
    assert problems.errors == []
    wanted = thing(ports=[{"number": 1, "protocol": "TCP"}], any={"what": {"ever": 1}}, **DEFAULTS)
    assert obj == wanted


def test_pruning_twice_is_pruning_once(schema: CustomSchema) -> None:
    obj = thing(zoo=1, one={"a": "x", "c": 1})
    schema.admit(obj)
    first = copy.deepcopy(obj)
    assert schema.admit(obj).unknown == []
    assert obj == first


def test_an_embedded_resource_keeps_what_makes_it_one(schema: CustomSchema) -> None:
    obj = thing(pod={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "nmae": 1}, "spec": {}})
    assert schema.admit(obj).unknown == ['unknown field "spec.pod.spec"', 'unknown field "spec.pod.metadata.nmae"']
    assert obj["spec"]["pod"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}


def test_an_old_definition_keeps_everything() -> None:
    schema = CustomSchema(SCHEMA, preserve_unknown=True)
    obj = thing(zoo=1, weight=101)
    problems = schema.admit(obj)
    assert problems.unknown == []
    assert obj == thing(zoo=1, weight=101)
    assert [one["field"] for one in problems.errors] == ["spec.weight"]
    assert not CustomSchema({}, preserve_unknown=True).admit({"anything": [1]})


def test_defaults_replace_null_but_nothing_else(schema: CustomSchema) -> None:
    obj = thing(mode=None, deep={"on": False}, since=None)
    assert not schema.admit(obj)
    assert obj["spec"] == {"mode": "ON", "deep": {"on": False}, "since": None}


def test_a_null_that_nothing_replaces_is_dropped(schema: CustomSchema) -> None:
    obj = thing(names=None, labels={"a": None}, ports=[{"number": 1, "protocol": None}], any={"kept": None})
    assert not schema.admit(obj)
    wanted = thing(labels={}, ports=[{"number": 1, "protocol": "TCP"}], any={"kept": None}, **DEFAULTS)
    assert obj == wanted


def test_defaults_are_not_shared(schema: CustomSchema) -> None:
    first, second = thing(), thing()
    schema.admit(first)
    schema.admit(second)
    first["spec"]["deep"]["on"] = "changed"
    assert second["spec"]["deep"] == {"on": True}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (
            {"weight": "9"},
            ['spec.weight: Invalid value: "string": spec.weight in body must be of type integer: "string"'],
        ),
        (
            {"weight": 1.5},
            ['spec.weight: Invalid value: "number": spec.weight in body must be of type integer: "number"'],
        ),
        ({"weight": 2.0}, []),
        ({"ratio": 2}, []),
        (
            {"weight": True},
            ['spec.weight: Invalid value: "boolean": spec.weight in body must be of type integer: "boolean"'],
        ),
        (
            # The server knows no such format in custom resources: it names the type.
            {"small": True},
            ['spec.small: Invalid value: "boolean": spec.small in body must be of type integer: "boolean"'],
        ),
        ({"small": 2**40}, []),
        ({"names": None}, []),
        (
            {"names": ["ab", None]},
            ['spec.names[1]: Invalid value: "null": spec.names[1] in body must be of type string: "null"'],
        ),
        ({"weight": 101}, ["spec.weight: Invalid value: 101: spec.weight in body should be less than or equal to 100"]),
        ({"weight": -1}, ["spec.weight: Invalid value: -1: spec.weight in body should be greater than or equal to 0"]),
        ({"ratio": 0}, ["spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0"]),
        ({"mode": "on"}, ['spec.mode: Unsupported value: "on": supported values: "ON", "OFF"']),
        ({"level": 3}, ['spec.level: Unsupported value: 3: supported values: "1", "2"']),
        ({"level": True}, ['spec.level: Unsupported value: true: supported values: "1", "2"']),
        ({"name": "a"}, ['spec.name: Invalid value: "a": spec.name in body should be at least 2 chars long']),
        ({"name": "abcdef"}, ["spec.name: Too long: may not be more than 5 bytes"]),
        ({"name": "AB"}, ["spec.name: Invalid value: \"AB\": spec.name in body should match '^[a-z]+$'"]),
        ({"names": []}, ["spec.names: Invalid value: 0: spec.names in body should have at least 1 items"]),
        ({"names": ["ab", "cd", "ef"]}, ["spec.names: Too many: 3: must have at most 2 items"]),
        (
            {"names": ["ab", 1]},
            ['spec.names[1]: Invalid value: "integer": spec.names[1] in body must be of type string: "integer"'],
        ),
        (
            {"labels": {"k": "X"}},
            ['spec.labels.k: Invalid value: "X": spec.labels.k in body should be at least 2 chars long'],
        ),
        ({"labels": {"a": "aa", "b": "bb", "c": "cc"}}, ["spec.labels: Too many: 3: must have at most 2 items"]),
        ({"size": 1}, []),
        ({"size": "1Gi"}, []),
        (
            {"size": 1.5},
            [
                'spec.size: Invalid value: "number": spec.size in body must be of type integer,string: "number"',
                '<nil>: Invalid value: "": "spec.size" must validate at least one schema (anyOf)',
                'spec.size: Invalid value: "number": spec.size in body must be of type integer: "number"',
            ],
        ),
        ({"tags": ["a", "b", "a", "a"]}, ['spec.tags[2]: Duplicate value: "a"']),
        ({"ports": [{"number": 1}, {"number": 2}, {"number": 1}]}, ['spec.ports[2]: Duplicate value: {"number":1}']),
        ({"ports": [{"name": "ab"}]}, ["spec.ports[0].number: Required value"]),
        ({"since": "2026-01-02T03:04:05Z"}, []),
        (
            {"since": "yesterday"},
            ['spec.since: Invalid value: "yesterday": spec.since in body must be of type date-time: "yesterday"'],
        ),
        ({"since": 5}, ['spec.since: Invalid value: "int64": spec.since in body must be of type date-time: "int64"']),
        ({"one": {"a": "x"}}, []),
        (
            {"one": {"a": "x", "b": "y"}},
            [
                '<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). '
                "Found 2 valid alternatives"
            ],
        ),
        (
            {"one": {}},
            [
                '<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found none valid',
                "spec.one.a: Required value",
            ],
        ),
        ({"none": "good"}, []),
        ({"none": "bad"}, ['<nil>: Invalid value: "": "spec.none" must not validate the schema (not)']),
        (
            {"all": 10},
            [
                "spec.all: Invalid value: 10: spec.all in body should be less than or equal to 9",
                '<nil>: Invalid value: "": "spec.all" must validate all the schemas (allOf)',
            ],
        ),
    ],
)
def test_values(schema: CustomSchema, spec: dict[str, Any], wanted: list[str]) -> None:
    assert said(schema, **spec) == wanted


def test_a_missing_part_is_required(schema: CustomSchema) -> None:
    problems = schema.admit({"metadata": {"name": "x"}})
    assert problems.errors == [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec"}]


def test_reasons_are_the_servers(schema: CustomSchema) -> None:
    spec = {"weight": "9", "mode": "on", "name": "abcdef", "tags": ["a", "a"], "names": ["ab"] * 3}
    reasons = {one["field"]: one["reason"] for one in schema.admit(thing(**spec)).errors}
    assert reasons == {
        "spec.weight": "FieldValueTypeInvalid",
        "spec.mode": "FieldValueNotSupported",
        "spec.name": "FieldValueTooLong",
        "spec.tags[1]": "FieldValueDuplicate",
        "spec.names": "FieldValueTooMany",
    }


def test_metadata_of_a_wrong_type_cannot_be_decoded(schema: CustomSchema) -> None:
    obj = thing()
    obj["metadata"]["labels"] = ["a"]
    assert schema.admit(obj).decode == (
        "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string"
    )
    assert schema.admit([]).decode != ""


def test_what_has_not_changed_is_not_refused_again(schema: CustomSchema) -> None:
    old = thing(weight=500, names=["X"], ports=[{"number": 1, "name": "X"}])
    assert said(schema, old, weight=500, names=["X"], ports=[{"number": 1, "name": "X"}]) == []
    assert said(schema, old, weight=501) == [
        "spec.weight: Invalid value: 501: spec.weight in body should be less than or equal to 100"
    ]
    # Lists with keys are compared item by item, other lists as a whole.
    assert said(schema, old, ports=[{"number": 2}, {"number": 1, "name": "X"}]) == []
    assert said(schema, old, ports=[{"number": 2, "name": "X"}]) == [
        'spec.ports[0].name: Invalid value: "X": spec.ports[0].name in body should be at least 2 chars long'
    ]
    assert len(said(schema, old, names=["X", "ab"])) == 1


def test_true_is_not_one(schema: CustomSchema) -> None:
    assert len(said(schema, thing(weight=1), weight=True)) == 1


def test_a_dangerous_pattern_does_not_stop_the_server() -> None:
    schema = CustomSchema(
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}, preserve_unknown=False
    )
    text = "a" * 5000 + "!"
    assert [one["field"] for one in schema.admit({"a": text}).errors] == ["a"]


def test_a_pattern_that_is_none_is_not_checked() -> None:
    schema = CustomSchema(
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}}, preserve_unknown=False
    )
    assert not schema.admit({"a": "x"})


def test_depth_has_an_end(schema: CustomSchema) -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    assert schema.admit(thing(any={"x": value}), thing(any={"x": value})).decode in ("", "json: exceeded max depth")


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77bcf86cd79943901"),
        ("byte", "YWJj", ""),
        ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
        ("hexcolor", "#aaF", "#aaFF"),
        ("isbn", "978-0321751041", "978-0321751042"),
        ("isbn10", "0321751043", "0321751044"),
        ("isbn13", "978-0321751041", "0321751043"),
        ("k8s-long-name", "a.b-c", "a..b"),
        ("k8s-short-name", "a-b", "a.b"),
        ("rgbcolor", "rgb(255, 0,7)", "rgb(256,0,7)"),
        ("ssn", "111-22-3333", "111223333"),
        ("uuid3", "A0EEBC99-9C0B-3EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("uuid4", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-cb6d-6bb9bd380a11"),
        ("uuid5", "a0eebc999c0b5ef8bb6d6bb9bd380a11", "x"),
    ],
)
def test_each_format_is_looked_at(form: str, good: str, bad: str) -> None:
    schema = CustomSchema(
        {"type": "object", "properties": {"f": {"type": "string", "format": form}}}, preserve_unknown=False
    )
    assert not schema.admit({"f": good})
    (cause,) = schema.admit({"f": bad}).errors
    assert cause["message"] == f'Invalid value: "{bad}": f in body must be of type {form}: "{bad}"'
    # The server takes any list where a format is wanted.
    assert not schema.admit({"f": [1]})
    (cause,) = schema.admit({"f": 1}).errors
    assert cause["message"] == f'Invalid value: "int64": f in body must be of type {form}: "int64"'


def test_an_embedded_resource_has_a_type_and_metadata_of_its_own() -> None:
    pod = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    pod["properties"] = {"metadata": {"type": "object"}}
    schema = CustomSchema({"type": "object", "properties": {"pod": pod}}, preserve_unknown=False)
    good = {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"a": 1}}}
    assert not schema.admit(good)
    assert good["pod"]["metadata"] == {"name": "p"}
    causes = schema.admit({"pod": {"apiVersion": "a/b/c", "metadata": {}}}).errors
    assert [(one["field"], one["message"]) for one in causes] == [
        ("pod.kind", "Required value"),
        ("pod.apiVersion", 'Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c'),
    ]
    causes = schema.admit({"pod": {"apiVersion": "", "kind": "P d"}}).errors
    assert causes[0]["message"] == 'Invalid value: "": must not be empty'
    assert causes[1]["message"].startswith(
        'Invalid value: "P d": may have mixed case, but should otherwise match: a DNS-1035'
    )
    for wrong, said in (
        ({"kind": 1}, "pod.kind: Invalid value: 1: must be a string"),
        (
            {"metadata": {"labels": {"a": 1}}},
            'pod.metadata: Invalid value: {"labels":{"a":1}}: json: cannot unmarshal number into Go struct field '
            "ObjectMeta.labels of type string",
        ),
        (
            {"metadata": "x"},
            'pod.metadata: Invalid value: "x": json: cannot unmarshal string into Go value of type v1.ObjectMeta',
        ),
    ):
        assert schema.admit({"pod": {"apiVersion": "v1", "kind": "Pod", **wrong}}).decode == said
