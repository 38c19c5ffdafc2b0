# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes' CEL has beyond cel-python's: each is true in a ValidatingAdmissionPolicy of Kubernetes 1.35.4."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api import cel
from meshbox.api.cel.compiling import RULE_NAMES, compile_error
from meshbox.api.custom_schema import CustomSchema

OBJECT = {"data": {"a": "x", "b": "", "dotted.key": "y"}}
TRUE = [
    # Optional values.
    "object.?data.?a.orValue('z') == 'x'",
    "object.?data.zz.orValue('z') == 'z'",
    "!object.?nothing.?a.hasValue()",
    "object.data[?'dotted.key'].value() == 'y'",
    "[1, 2][?1].orValue(0) == 2 && !([1][?5].hasValue())",
    "object.?data.?a.optMap(v, v + '!').orValue('') == 'x!'",
    "object.?data.?zz.optMap(v, v + '!').orValue('none') == 'none'",
    "object.?data.?a.optFlatMap(v, object.data[?'b']).hasValue()",
    "object.?data.?zz.or(object.?data.?a).value() == 'x'",
    "optional.of(3).value() == 3 && !optional.none().hasValue() && !optional.ofNonZeroValue('').hasValue()",
    "'.?a[?0]'.size() == 7 && (true ? object.?data.?a.value() : '') == 'x'",
    # Macros with two variables.
    "[1, 2].all(i, v, i < 2 && v > 0) && {'a': 1}.all(k, v, k == 'a' && v == 1)",
    "[5, 6].exists(i, v, i == 1 && v == 6) && [5, 6].existsOne(i, v, v == i + 5 && i == 0)",
    "[3, 4].transformList(i, v, i * 10 + v) == [3, 14] && [3, 4].transformList(i, v, i > 0, v) == [4]",
    "{'a': 1, 'b': 2}.transformMap(k, v, v + 1) == {'a': 2, 'b': 3}",
    "{'a': 1, 'b': 2}.transformMap(k, v, k == 'a', v + 1) == {'a': 2}",
    "{'a': 1, 'b': 2}.transformMapEntry(k, v, {string(v): k}) == {'1': 'a', '2': 'b'}",
    "[[1, 2], [3]].all(i, v, v.all(j, w, w > i && j < 2))",
    "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
    # Sets and lists.
    "sets.contains([1, 2], [1]) && !sets.contains([1], [1, 2]) && sets.contains([], [])",
    "sets.equivalent(['a', 'b'], ['b', 'a', 'a']) && sets.intersects([1, 2], [2, 3]) && !sets.intersects([1], [])",
    "[[1], [2, 3]].flatten() == [1, 2, 3] && [1, 2, 1].distinct() == [1, 2] && [1, 2, 3].slice(1, 3) == [2, 3]",
    "[3, 1, 2].sort() == [1, 2, 3] && [1, 2].reverse() == [2, 1] && lists.range(3) == [0, 1, 2]",
    "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && !([].first().hasValue())",
    # Texts.
    "'%s-%d %.2f %x'.format(['a', 2, 1.5, 255]) == 'a-2 1.50 ff'",
    "'%s%s'.format([['a', 'b'], {'a': 'b'}]) == '[\"a\", \"b\"]{\"a\":\"b\"}' && '%%'.format([]) == '%'",
    "strings.quote('a\"b') == '\"a\\\\\"b\"'",
    # Names.
    "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('A').hasValue()",
    "!format.dns1123LabelPrefix().validate('a-').hasValue() && format.dns1123Subdomain().validate('a..b').hasValue()",
    "format.uuid().validate('x').value() == ['does not match the UUID format']",
    "format.named('labelValue').value().validate('-').hasValue() && !format.named('zz').hasValue()",
    # Addresses.
    "isIP('::1') && !isIP('::ffff:1.2.3.4') && !isIP('01.2.3.4') && ip('10.0.0.1').family() == 4",
    "ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified() && ip('169.254.1.1').isLinkLocalUnicast()",
    "ip('8.8.8.8').isGlobalUnicast() && !ip('224.0.0.1').isGlobalUnicast() && ip('224.0.0.1').isLinkLocalMulticast()",
    "ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1') && string(ip('2001:DB8::1')) == '2001:db8::1'",
    "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0') && cidr('10.0.0.1/8').ip() == ip('10.0.0.1')",
    "cidr('10.0.0.0/8').containsIP('10.1.1.1') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.0'))",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.0.0.0/8').containsCIDR(cidr('10.0.0.0/7'))",
    "string(cidr('10.0.0.1/8').masked()) == '10.0.0.0/8' && cidr('::/0').prefixLength() == 0",
    # Quantities.
    "quantity('1Gi').isGreaterThan(quantity('5M')) && quantity('100m').isLessThan(quantity('1'))",
    "quantity('1k') == quantity('1000') && quantity('50k').compareTo(quantity('50')) == 1",
    "quantity('50k').add(20) == quantity('50020') && sign(quantity('50k').sub(quantity('50001'))) == -1",
    "quantity('50k').isInteger() && !quantity('500m').isInteger() && quantity('50k').asInteger() == 50000",
    "quantity('500m').asApproximateFloat() == 0.5 && !isQuantity('200K')",
    # Versions.
    "isSemver('1.0.0-a.1+b') && !isSemver('v1.0') && isSemver('v1.0', true) && !isSemver('01.0.0')",
    "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('v1.2', true).patch() == 0",
    "semver('1.2.3-a').isLessThan(semver('1.2.3')) && semver('1.10.0').isGreaterThan(semver('1.9.0'))",
    "semver('1.0.0-2').compareTo(semver('1.0.0-11')) == -1 && semver('1.0.0-a').compareTo(semver('1.0.0-1')) == 1",
]


@pytest.mark.parametrize("text", TRUE)
def test_each_library_is_known(text: str) -> None:
    assert compile_error(text, frozenset({"object"})) == ""
    assert cel.evaluated(text, {"object": cel.to_cel(OBJECT, None)}) == (True, "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1][3] == 1", "index out of bounds: 3"),
        ("10 / [1, 2][5] == 1", "index out of bounds: 5"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("quantity('500m').asInteger() == 1", "cannot convert value to integer"),
        ("[].max() == 1", "max called on empty list"),
    ],
)
def test_what_has_no_value_is_told(text: str, problem: str) -> None:
    assert cel.evaluated(text, {}) == (None, problem)


def _rule(field: dict[str, Any], **rule: Any) -> CustomSchema:
    rules = {**field, "x-kubernetes-validations": [rule]}
    return CustomSchema({"type": "object", "properties": {"a": rules}}, preserve_unknown=False)


@pytest.mark.parametrize(
    ("form", "rule", "good", "bad"),
    [
        ("duration", "self > duration('1s')", "2s", "500ms"),
        ("date-time", "self > timestamp('2020-01-01T00:00:00Z')", "2024-01-01T00:00:00Z", "2019-01-01T00:00:00Z"),
        ("date", "self.getFullYear() == 2024", "2024-02-01", "2023-02-01"),
        ("byte", "self == b'abc'", "YWJj", "YWJk"),
    ],
)
def test_a_text_has_the_type_of_its_format(form: str, rule: str, good: str, bad: str) -> None:
    schema = _rule({"type": "string", "format": form}, rule=rule)
    assert not schema.admit({"a": good})
    assert [one["message"] for one in schema.admit({"a": bad}).errors] == [
        f'Invalid value: "{bad}": failed rule: {rule}'
    ]


def test_a_rule_may_be_asked_without_an_old_value() -> None:
    rule = "!oldSelf.hasValue() || oldSelf.value() == self || self == 'free'"
    schema = _rule(
        {"type": "string"}, rule=rule, optionalOldSelf=True, messageExpression="'was ' + oldSelf.orValue('')"
    )
    assert not schema.admit({"a": "x"})
    assert not schema.admit({"a": "free"}, {"a": "x"})
    assert [one["message"] for one in schema.admit({"a": "y"}, {"a": "x"}).errors] == ['Invalid value: "y": was x']
    first = _rule({"type": "string"}, rule="oldSelf.hasValue() || self == 'new'", optionalOldSelf=True)
    assert first.admit({"a": "x"}).errors
    assert not first.admit({"a": "x"}, {"a": "y"})


def test_what_a_macro_does_not_name_is_undeclared() -> None:
    said = compile_error("self.all(i, v, v == w)", RULE_NAMES)
    assert said.startswith("ERROR: <input>:1:21: undeclared reference to 'w' (in container '')")
