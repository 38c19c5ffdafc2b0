# SPDX-License-Identifier: Apache-2.0
"""The table of rules: that it can be read whole, and what its lines mean."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.builtin import rules, validate_update
from meshbox.api.builtin.rules import Context
from meshbox.api.builtin.types import fields_of
from meshbox.api.builtin.vocabulary import VOCABULARY
from meshbox.api.cel.compiling import compile_error
from meshbox.api.problems import Cause
from meshbox.api.table_files import table
from meshbox.api.warnings import warnings_of
from tests.schema.whole import problems_of


def said(type_name: str, obj: Any, version: str = "v1") -> list[str]:
    causes: list[Cause] = []
    rules.check(type_name, obj, "at", causes, Context(obj, version))
    return [f"{cause['field']}: {cause['message']}" for cause in causes]


def test_every_line_of_the_table_means_something() -> None:
    texts = rules._texts()
    assert len(texts) > 100
    for type_name in texts:
        # Requirements about a node's fields and what an Ingress leads to have rules of their own.
        assert fields_of(type_name) is not None or type_name in ("V1NodeFieldRequirement", "V1IngressResource")
        for line in rules._lines(type_name):
            for rule in line.rules:
                if rule.name == "call":
                    assert rule.arguments[0] in rules._CALLS, (type_name, rule)
                elif rule.name[0].isupper():
                    assert rule.name in texts, (type_name, rule)
                else:
                    assert rule.name in VOCABULARY, (type_name, rule)


@pytest.mark.parametrize("name", ["updates.txt", "warnings.txt"])
def test_every_line_of_other_tables_means_something(name: str) -> None:
    texts = table(name)
    for heading in texts:
        for line in rules._lines(heading):
            for rule in line.rules:
                if rule.name == "call":
                    assert rule.arguments[0] in rules._CALLS, (heading, rule)
                else:
                    assert rule.name in texts if rule.name[0].isupper() else rule.name in VOCABULARY, (heading, rule)


def test_headings_of_the_tables_are_their_own() -> None:
    headings = [heading for name in ("rules.txt", "updates.txt", "warnings.txt") for heading in table(name)]
    assert len(headings) == len(set(headings))


def test_what_was_so_before_is_kept() -> None:
    def said(kind: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
        return [f"{one['field']}: {one['message']}" for one in validate_update("v1", kind, old, new).errors]

    sealed = "Forbidden: field is immutable when `immutable` is set"
    before = {"immutable": True, "data": {"a": "b"}}
    assert said("ConfigMap", before, {"data": {"a": "c"}}) == [f"immutable: {sealed}", f"data: {sealed}"]
    assert said("ConfigMap", {"data": {"a": "b"}}, {"data": {"a": "c"}}) == []
    node = {"spec": {"podCIDR": "10.0.0.0/24"}}
    words = 'node updates may not change podCIDR except from "" to valid'
    assert said("Node", node, {"spec": {}}) == [f"spec.podCIDRs: Forbidden: {words}"]
    assert said("Node", {"spec": {}}, node) == []


def test_a_field_is_asked_where_its_conditions_hold_and_in_order() -> None:
    assert said("V1NodeSelectorRequirement", {"key": "a", "operator": "In"}) == [
        "at.values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
    ]
    assert said("V1NodeSelectorRequirement", {"key": "a", "operator": "Exists", "values": ["x"]}) == [
        "at.values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
    ]
    assert said("V1NodeSelectorRequirement", {"key": "a", "operator": "Is"}) == [
        'at.operator: Invalid value: "Is": not a valid selector operator'
    ]


def test_what_is_missing_is_told_once() -> None:
    assert said("V1Taint", {"key": "a", "effect": ""}) == ["at.effect: Required value"]
    assert said("V1Taint", {"key": "a", "effect": "No"}) == [
        'at.effect: Unsupported value: "No": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'
    ]


def test_items_and_names_of_other_paths() -> None:
    node = {"spec": {"taints": [{"key": "a b", "effect": "NoSchedule"}], "podCIDRs": ["10.0.0.0/8", "x"]}}
    found = problems_of("v1", "Node", node).errors
    assert [cause["field"] for cause in found] == ["metadata.taints[0].key", "spec.podCIDRs[1]"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("self.a > 0 && self.b.all(x, x == oldSelf.c)", ""),
        ("a/b", "ERROR: <input>:1:1: undeclared reference to 'a' (in container '')\n | a/b\n | ^\n"
                "ERROR: <input>:1:3: undeclared reference to 'b' (in container '')\n | a/b\n | ..^"),
        ("self.z", "ERROR: <input>:1:5: undefined field 'z'\n | self.z\n | ....^"),
        ("1 2", "ERROR: <input>:1:3: Syntax error: mismatched input '2' expecting <EOF>\n | 1 2\n | ..^"),
        # What is newer than the parser may be sound.
        ("self.?a.orValue('x') == 'x'", ""),
    ],
)  # fmt: skip
def test_expressions_are_compiled(text: str, problem: str) -> None:
    assert compile_error(text, frozenset({"self", "oldSelf"}), frozenset({"a", "b", "c"})) == problem


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        (
            {"properties": {"a": {}}},
            ["properties[a].type: Required value: must not be empty for specified object fields"],
        ),
        (
            {"properties": {"a": {"type": "integer", "minimum": 1, "default": 0}}},
            ["properties[a].default: Invalid value: 0:  in body should be greater than or equal to 1"],
        ),
        (
            {"properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}}},
            [
                "properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type "
                "is map"
            ],
        ),
        (
            {"x-kubernetes-validations": [{"rule": " "}]},
            ["x-kubernetes-validations[0].rule: Required value: rule is not specified"],
        ),
    ],
)  # fmt: skip
def test_schemas_are_structural(schema: dict[str, Any], wanted: list[str]) -> None:
    version = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": {"type": "object", **schema}}
    names = {"plural": "foos", "kind": "Foo"}
    spec = {"group": "a.io", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"metadata": {"name": "foos.a.io"}, "spec": spec}
    found = problems_of("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd).errors
    root = "spec.validation.openAPIV3Schema."
    assert [f"{cause['field'].removeprefix(root)}: {cause['message']}" for cause in found] == wanted


@pytest.mark.parametrize(
    ("type_name", "obj", "wanted"),
    [
        # `then` is not asked where something was wrong before; `once` knows the items before.
        (
            "V1PodSecurityContext",
            {"sysctls": [{"name": "kernel.a"}, {"name": "kernel.a"}, {"name": "A"}, {"name": "A"}]},
            ["sysctls[1].name: Duplicate", "sysctls[2].name: Invalid", "sysctls[3].name: Invalid"],
        ),
        # One of several fields, and what is not empty.
        ("V1EndpointSubset", {"addresses": []}, [": Required"]),
        ("V1EndpointSubset", {"notReadyAddresses": [{"ip": "10.0.0.1"}]}, []),
        # A comparison, for which what is absent is zero; other items; a field named in words.
        ("V1ReplicaSetStatus", {"readyReplicas": 1}, ["readyReplicas: Invalid"]),
        ("V1EndpointSubset", {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}]}, []),
        (
            "V1EndpointSubset",
            {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}, {"port": 2, "name": "a"}]},
            ["ports[0].name: Required"],
        ),
        # Values of a map, told with their keys.
        ("V1NodeStatus", {"capacity": {"cpu": "-1"}}, ["capacity.cpu: Invalid"]),
    ],
)  # fmt: skip
def test_words_of_the_table(type_name: str, obj: Any, wanted: list[str]) -> None:
    causes: list[Cause] = []
    rules.check(type_name, obj, "", causes, Context({"spec": obj}))
    assert [f"{cause['field']}: {cause['message'].split()[0].rstrip(':')}" for cause in causes] == wanted


def test_words_name_fields() -> None:
    constraint = {"maxSkew": 1, "minDomains": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway"}
    context = Context({}, pod={"later": []})
    causes: list[Cause] = []
    rules.check("V1TopologySpreadConstraint", constraint, "at", causes, context)
    assert [cause["message"] for cause in causes] == [
        "Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"
    ]


def test_warnings_are_told_by_rows() -> None:
    cidr = "0.0.0.0/00"
    policy = {"metadata": {}, "spec": {"ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]}}
    assert [one.partition(":")[0] for one in warnings_of("networkpolicies.networking.k8s.io", policy, None)] == [
        "spec.ingress[0].from[0].ipBlock.cidr"
    ]
    key = "kubernetes.io/enforce-mountable-secrets"
    account = {"metadata": {"annotations": {key: "true"}}}
    better = "prefer separate namespaces to isolate access to mounted secrets"
    assert warnings_of("serviceaccounts", account, None) == [
        f"metadata.annotations[{key}]: deprecated in v1.32+; {better}"
    ]
    assert warnings_of("serviceaccounts", account, account) == []
