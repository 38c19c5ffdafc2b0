# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes 1.35.4 says of the expressions of ValidatingAdmissionPolicies, and of what stands around them."""

from __future__ import annotations

from typing import Any

import pytest

from .whole import problems_of

API = "admissionregistration.k8s.io/v1"
RULE = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]}
PARAMS = {"apiVersion": "v1", "kind": "ConfigMap"}


def _said(kind: str, spec: dict[str, Any]) -> list[tuple[str, str]]:
    obj = {"apiVersion": API, "kind": kind, "metadata": {"name": "p"}, "spec": spec}
    return [(one["field"], one["message"]) for one in problems_of(API, kind, obj).errors]


def _policy(**spec: Any) -> list[tuple[str, str]]:
    whole = {"matchConstraints": {"resourceRules": [RULE]}, "validations": [{"expression": "true"}], **spec}
    return _said("ValidatingAdmissionPolicy", whole)


def _failed(text: str, *problems: str) -> str:
    found = [f"ERROR: <input>:1:{one.replace(' ', ': ', 1)}" for one in problems]
    places = [int(one.split(" ", 1)[0]) for one in problems]
    shown = [f"{said}\n | {text}\n | {'.' * (at - 1)}^" for said, at in zip(found, places, strict=True)]
    return "compilation failed: " + "\n".join(shown)


def _undeclared(place: int, name: str) -> str:
    return f"{place} undeclared reference to '{name}' (in container '')"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("object.spec.x", "must evaluate to bool but got dyn"),
        ("size(object)", "must evaluate to bool but got int"),
        ("'a'.upperAscii()", "must evaluate to bool but got string"),
        ("params.x == 1", _failed("params.x == 1", _undeclared(1, "params"))),
        ("variables.x == 1", _failed("variables.x == 1", _undeclared(1, "variables"))),
        ("'abc'.foo()", _failed("'abc'.foo()", _undeclared(10, "foo"))),
        ("math.least(1) == 2", _failed("math.least(1) == 2", _undeclared(1, "math"), _undeclared(11, "least"))),
    ],
)
def test_an_expression_is_told_what_it_lacks(text: str, problem: str) -> None:
    shown = f'Invalid value: "{text}": {problem}'
    assert _policy(validations=[{"expression": text}]) == [("spec.validations[0].expression", shown)]


@pytest.mark.parametrize(
    "text",
    [
        "object.spec.x == 1",
        "!object.spec.x",
        "object.a in ['b']",
        "true || false",
        "authorizer.path('/').check('get').allowed()",
    ],
)
def test_what_is_true_or_false_is_taken(text: str) -> None:
    assert _policy(validations=[{"expression": text}]) == []


def test_names_are_known_where_they_are_given() -> None:
    assert _policy(paramKind=PARAMS, validations=[{"expression": "params.x == 1"}]) == []
    two = [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]
    shown = _failed("variables.b", "10 undefined field 'b'")
    assert _policy(variables=two) == [("spec.variables[0].expression", f'Invalid value: "variables.b": {shown}')]
    assert _policy(variables=two[1:], validations=[{"expression": "variables.b == 1"}]) == []
    condition = [{"name": "c", "expression": "variables.b == 1"}]
    ((field, message),) = _policy(variables=two[1:], matchConditions=condition)
    assert field == "spec.matchConditions[0].expression"
    assert message.endswith(_failed("variables.b == 1", _undeclared(1, "variables")))


@pytest.mark.parametrize(
    ("validation", "field", "said"),
    [
        ({"expression": "  "}, "expression", "Required value: expression is not specified"),
        ({"message": "a\nb"}, "message", 'Invalid value: "a\\nb": must not contain line breaks'),
        ({"message": "  "}, "message", 'Invalid value: "  ": must be non-empty if specified'),
        ({"messageExpression": "  "}, "messageExpression", 'Invalid value: "  ": must be non-empty if specified'),
        ({"messageExpression": "1"}, "messageExpression", 'Invalid value: "1": must evaluate to string but got int'),
    ],
)
def test_a_validation_says_something(validation: dict[str, str], field: str, said: str) -> None:
    found = _policy(validations=[{"expression": "true", **validation}])
    assert found == [(f"spec.validations[0].{field}", said)]


def test_what_stands_around_expressions() -> None:
    assert _policy(variables=[{"name": "true", "expression": "1"}]) == [
        ("spec.variables[0].name", 'Invalid value: "true": must be a valid CEL identifier')
    ]
    many = [{"name": f"a{index}", "expression": "true"} for index in range(65)]
    assert _policy(matchConditions=many) == [("spec.matchConditions", "Too many: 65: must have at most 64 items")]
    assert _policy(auditAnnotations=[{"key": "a", "valueExpression": "1"}]) == [
        (
            "spec.auditAnnotations[0].valueExpression",
            'Invalid value: "1": must evaluate to one of [string null_type] but got int',
        )
    ]


@pytest.mark.parametrize(
    ("resources", "field", "said"),
    [
        (["*", "pods"], "", "if '*' is present, must not specify other resources without subresources"),
        (["pods/*", "pods/status"], "[1]", "if 'pods/*' is present, must not specify pods/status"),
        (["*/status", "pods/status"], "[1]", "if '*/status' is present, must not specify pods/status"),
        (["*/*", "pods"], "", "if '*/*' is present, must not specify other resources"),
    ],
)
def test_a_wildcard_stands_alone(resources: list[str], field: str, said: str) -> None:
    ((where, message),) = _policy(matchConstraints={"resourceRules": [{**RULE, "resources": resources}]})
    assert (where, message.endswith(f": {said}")) == (f"spec.matchConstraints.resourceRules[0].resources{field}", True)


def test_a_binding_does_not_say_the_same_twice() -> None:
    kind, spec = "ValidatingAdmissionPolicyBinding", {"policyName": "p"}
    ((field, message),) = _said(kind, {**spec, "validationActions": ["Deny", "Warn"]})
    assert (field, message.startswith('Invalid value: ["Deny","Warn"]: must not contain both')) == (
        "spec.validationActions",
        True,
    )
    both = {"name": "a", "selector": {}, "parameterNotFoundAction": "Deny"}
    words = "Forbidden: name and selector are mutually exclusive"
    found = _said(kind, {**spec, "validationActions": ["Deny"], "paramRef": both})
    assert found == [("spec.paramRef.name", words), ("spec.paramRef.selector", words)]
