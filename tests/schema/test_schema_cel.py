# SPDX-License-Identifier: Apache-2.0
"""CEL rules: Kubernetes' words for what fails, and every rule in Istio's CRDs with a good and a bad value."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from meshbox.api import cel
from meshbox.api.custom_schema import CustomSchema
from meshbox.api.schema import validate as schema_validate
from meshbox.api.schema.node import Node


def schema(**rule: str) -> CustomSchema:
    field = {"type": "string", "x-kubernetes-validations": [rule]}
    return CustomSchema({"type": "object", "properties": {"a": field}}, preserve_unknown=False)


def said(chosen: CustomSchema, value: Any, old: Any = None) -> list[str]:
    before = None if old is None else {"a": old}
    return [f"{one['field']}: {one['message']}" for one in chosen.admit({"a": value}, before).errors]


def test_a_rule_that_fails_says_its_message() -> None:
    chosen = schema(rule="self.size() > 2", message="too short")
    assert said(chosen, "abc") == []
    assert said(chosen, "ab") == ['a: Invalid value: "ab": too short']


def test_without_a_message_the_rule_is_told() -> None:
    assert said(schema(rule="self == 'x'"), "y") == ["a: Invalid value: \"y\": failed rule: self == 'x'"]


def test_a_message_can_be_computed() -> None:
    chosen = schema(rule="self == 'x'", messageExpression="'not x but ' + self", message="no")
    assert said(chosen, "y") == ['a: Invalid value: "y": not x but y']


def test_the_reason_can_be_chosen() -> None:
    chosen = schema(rule="false", message="no", reason="FieldValueForbidden")
    assert chosen.admit({"a": "x"}).errors == [
        {"reason": "FieldValueForbidden", "message": "Forbidden: no", "field": "a"}
    ]


def test_a_transition_rule_needs_an_old_value() -> None:
    chosen = schema(rule="self == oldSelf", message="field is immutable")
    assert said(chosen, "x") == []
    assert said(chosen, "x", "x") == []
    assert said(chosen, "y", "x") == ['a: Invalid value: "y": field is immutable']


def test_a_value_that_has_not_changed_is_not_refused() -> None:
    assert said(schema(rule="self == 'x'", message="no"), "y", "y") == []


def test_an_error_inside_a_rule_refuses() -> None:
    chosen = schema(rule="duration(self) > duration('1s')", message="must be long")
    assert said(chosen, "soon") == [
        "a: Invalid value: \"string\": type conversion error from 'string' to 'google.protobuf.Duration' "
        "evaluating rule: "
        "must be long"
    ]


def test_what_is_kept_of_rules_that_come_from_outside_is_bounded() -> None:
    for kept in (cel._runner, cel._skip, cel.escaped, schema_validate._pattern):
        assert kept.cache_parameters()["maxsize"], kept


def test_rules_wait_for_the_schema() -> None:
    assert said(schema(rule="false", message="no"), 5) == [
        'a: Invalid value: "integer": a in body must be of type string: "integer"',
        "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; "
        "correct the "
        "existing errors to complete validation",
    ]


@pytest.mark.parametrize("rule", ["unknownFunction(self)", "self.unknownMethod()", "self ==", "1 2"])
def test_a_rule_nobody_understands_refuses_nothing(rule: str, caplog: pytest.LogCaptureFixture) -> None:
    cel._skip.cache_clear()
    cel._runner.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert said(schema(rule=rule), "x") == []
    assert rule in caplog.text
    assert not cel.supported(rule)


@pytest.mark.parametrize(
    ("rule", "value", "wanted"),
    [
        ("self.substring(1, 3) == 'bc'", "abcd", True),
        ("self.split(',').join('-') == 'a-b'", "a,b", True),
        ("self.replace('a', 'b') == 'bb'", "ab", True),
        ("self.indexOf('c') == 2 && self.lastIndexOf('a') == 0", "abc", True),
        ("self.upperAscii().lowerAscii().trim() == 'a'", " A ", True),
        ("self.charAt(1) == 'b'", "abc", True),
        ("self.find('[0-9]+') == '12'", "ab12cd3", True),
        ("self.findAll('[0-9]+').size() == 2", "ab12cd3", True),
        ("url(self).getHostname() == 'a.io' && url(self).getPort() == '80'", "http://a.io:80/x?y=1", True),
        ("url(self).getEscapedPath() == '/x' && url(self).getQuery()['y'][0] == '1'", "http://a.io/x?y=1", True),
        ("isURL(self)", "no url", False),
        ("isIP(self)", "10.0.0.1", True),
        ("isCIDR(self)", "10.0.0.1", False),
        ("isQuantity(self) && quantity(self) > quantity('1Mi')", "1Gi", True),
        ("duration(self) == duration('90m')", "1h30m", True),
        ("self.isSorted() && self.sum() == 6 && self.max() == 3 && self.min() == 1", [1, 2, 3], True),
        ("self.all(x, x > 0) && self.exists(x, x == 2) && self.filter(x, x > 1).size() == 1", [1, 2], True),
        ("has(self.a) && !has(self.b)", {"a": 1}, True),
        ("self.__namespace__ == 'n' && self.x__dash__y == 1", {"namespace": "n", "x-y": 1}, True),
        ("false && self.missing == 1", {}, False),
        ("true || int(self.missing) == 1", {}, True),
    ],
)
def test_functions(rule: str, value: Any, wanted: bool) -> None:
    fields = {name: {} for name in value} if isinstance(value, dict) else {}
    node = Node({"properties": fields, "x-kubernetes-validations": [{"rule": rule}]})
    assert cel.supported(rule)
    causes: list[Any] = []
    cel.rule_problems(node, value, "a", causes)
    # A list or a map is not told.
    told = f': "{value}"' if isinstance(value, str) else ""
    assert causes == ([] if wanted else [{**causes[0], "message": f"Invalid value{told}: failed rule: {rule}"}])


# A piece that only one kind of rule has (the first that fits counts) → a value that is right and one that is wrong.
ISTIO_RULES: list[tuple[str, Any, Any]] = [
    ("self.wasm", {"wasm": {}}, {"wasm": {}, "lua": {}}),
    ('!key.contains("*")', {"a": ""}, {"a*": ""}),
    ("key.size() != 0", {"a": ""}, {"": ""}),
    ("key.matches(", {"a-b": ""}, {"-a": ""}),
    ("int(key)", {"80": {}}, {"65536": {}}),
    ("isURL(self)", "oci://a.io/b", "ftp://a.io/b"),
    ("self.valueFrom", {"valueFrom": "HOST"}, {"valueFrom": "HOST", "value": "x"}),
    ("has(self.targetRef) ?", {"targetRef": {}}, {"targetRef": {}, "targetRefs": []}),
    ("(has(self.selector) ? 1 : 0) + (has(self.targetRefs)", {"selector": {}}, {"selector": {}, "targetRefs": []}),
    ("(has(self.workloadSelector) ? 1 : 0) + (has(self.targetRefs)", {}, {"workloadSelector": {}, "targetRefs": []}),
    ("(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints)", {}, {"workloadSelector": {}, "endpoints": []}),
    ("duration('1ms')", "1.5s", "10us"),
    ("self.waypoint", {"context": "WAYPOINT", "waypoint": {}}, {"context": "GATEWAY", "waypoint": {}}),
    ("0 < self", 65535, 65536),
    ("(has(self.tlsCertificates) ? 1 : 0) +", {"tlsCertificates": []}, {"tlsCertificates": [], "credentialNames": []}),
    ("(has(self.credentialName) ?", {"credentialName": "a"}, {"credentialName": "a", "credentialNames": []}),
    ("+ (has(self.tlsCertificates)", {"credentialNames": []}, {"tlsCertificates": [], "credentialNames": []}),
    (
        'k.contains("/")',
        {"addresses": ["10.0.0.0/8"], "resolution": "STATIC"},
        {"addresses": ["10.0.0.0/8"], "resolution": "DNS"},
    ),
    ("!has(self.endpoints)", {"resolution": "DNS", "endpoints": []}, {"endpoints": []}),
    ("DNS_ROUND_ROBIN", {"resolution": "DNS_ROUND_ROBIN"}, {"resolution": "DNS_ROUND_ROBIN", "endpoints": [{}, {}]}),
    ("has(self.network)", {"network": "n"}, {}),
    ("!has(self.ports)", {"address": "unix:///a"}, {"address": "unix:///a", "ports": {}}),
    ("self.substring(7, 8)", "unix://@a", "unix://a"),
    ('!self.endsWith("/")', "unix:///a", "unix:///a/"),
    ('self != "*"', "a.io", "*"),
    ("self.exists_one", [{"number": 1}, {"number": 2}], [{"number": 1}, {"number": 1}]),
    ('["", "HTTP", "HTTPS"]', "HTTP", "TCP"),
    ("self.serviceAccounts", {"serviceAccounts": ["a"]}, {"serviceAccounts": ["a"], "principals": ["b"]}),
    ("self.portLevelMtls", {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {}}, {"portLevelMtls": {}}),
    ("self.jwksUri", {"jwks": "{}"}, {"jwks": "{}", "jwks_uri": "https://a"}),
    ("url(self).getScheme()", "https://a.io/x", "file:///x"),
    ('"UPSERT"', {"operation": "UPSERT", "value": "x"}, {"operation": "UPSERT", "value": ""}),
    ('"REMOVE"', {"operation": "REMOVE"}, {"operation": "REMOVE", "value": "x"}),
    ('self.contains("*")', "a", "a*"),
    ("self.size() == 0", "", "a"),
]


def _rules(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*(_rules(one) for one in value))
    if not isinstance(value, dict):
        return set()
    mine = {one["rule"] for one in value.get("x-kubernetes-validations", ()) if isinstance(one, dict)}
    return mine.union(*(_rules(one) for one in value.values()))


@pytest.mark.genuine
def test_every_rule_of_istio_is_right_about_good_and_bad(
    genuine_objects: Callable[[str], list[dict[str, Any]]],
) -> None:
    crds = [one for one in genuine_objects("1.30.3") if one["kind"] == "CustomResourceDefinition"]
    rules = _rules(crds)
    assert len(rules) == 36
    seen = set()
    for rule in sorted(rules):
        piece, good, bad = next(one for one in ISTIO_RULES if one[0] in rule)
        seen.add(piece)
        assert cel.supported(rule)
        node = Node({"x-kubernetes-validations": [{"rule": rule, "message": "wrong"}]})
        causes: list[Any] = []
        cel.rule_problems(node, good, "a", causes)
        assert causes == [], (rule, good)
        cel.rule_problems(node, bad, "a", causes)
        assert [one["message"].endswith(": wrong") for one in causes] == [True], (rule, bad)
    assert seen == {piece for piece, _, _ in ISTIO_RULES}


NAMES = {"o": {"a": 1, "s": "x", "l": [1, 2], "m": {"k": "v"}, "b": True, "f": 1.5, "n": None}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("o == null", False), ("o != null", True), ("null == o.l", False), ("o.a == null", False),
        ("o.n == null", True),
        ("o.a == o.s", False), ("o.a != o.s", True), ("o.a == o.b", False), ("o.b == 'true'", False),
        ("o.m == o.l", False), ("o == o.s", False), ("o.l == ['a', 'b']", False), ("o.l == [1, 2.0]", True),
        ("o.m == {'k': null}", False), ("o.m == {'k': 'v'}", True), ("{1: 2} == {1.0: 2}", True),
        ("o.a == 1.0", True), ("o.a < o.f", True), ("2u >= o.f", True), ("duration('1h') > duration('1s')", True),
        ("1.0 in o.l", True), ("'x' in o.l", False), ("'k' in o.m", True), ("null in [1, null]", True),
        ("o.l.exists(x, x == null)", False), ("o.l.all(x, x != 'a')", True),
        ("type(o.a) == int", True), ("type(o.s) == int", False), ("type(duration('1s')) == duration", True),
        ("o.zz in o.l || true", True),
    ],
)  # fmt: skip
def test_values_of_any_two_types_can_be_compared(text: str, value: bool) -> None:
    """As Kubernetes' environment has it: heterogeneous equality, and numbers across their kinds."""
    assert cel.evaluated(text, {"o": cel.to_cel(NAMES["o"], None)}) == (value, "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("o.zz == 1", "no such key: zz"), ("o.zz in o.l", "no such key: zz"), ("o.n.x == 1", "no such key: x"),
        ("o.a.x == 1", "no such overload"), ("o.l[5] == 1", "index out of bounds: 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_of_a_value_is_told_in_cels_words(text: str, problem: str) -> None:
    assert cel.evaluated(text, {"o": cel.to_cel(NAMES["o"], None)}) == (None, problem)
