# SPDX-License-Identifier: Apache-2.0
"""The reader of outside text: what a text means, what is said of a bad one, and that none can do harm."""

from __future__ import annotations

import json
import re
import tracemalloc
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.ground.reading import (
    MOST_BYTES,
    MOST_DEPTH,
    MOST_VALUES,
    ReadingError,
    check_yaml,
    json_value,
    yaml_documents,
)
from labkit.ground.reading import yaml_value as from_yaml

DEEP, MANY, LONG = "nested too deeply", "more than", "longer than"


def doubling(form: str) -> str:
    """Ten lines of YAML, each of which stands for nine times the one before."""
    lines = [f"a0: &a0 {form.format('x, ' * 8 + 'x')}" if "[" in form else "a0: &a0 {k: 1}"]
    lines += [f"a{n}: &a{n} {form.format(', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, 10)]
    return "\n".join(lines)


YAML_BOMBS = {
    "brackets": ("a: " + "[" * 40_000, DEEP),
    "braces": ("{" * 40_000, DEEP),
    "dashes": ("- " * 40_000, DEEP),
    "questions": ("? " * 40_000, DEEP),
    "closed brackets": ("[" * 20_000 + "]" * 20_000, DEEP),
    "aliases": (doubling("[{}]"), "excessive aliasing"),
    "merged maps": (doubling("{{<<: [{}]}}"), "excessive aliasing"),
    "a chain of aliases": ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 500)), DEEP),
    "an alias to itself": ("a: &a [*a]", "contains itself"),
    "an unknown alias": ("a: *b", "unknown anchor 'b' referenced"),
    "values": ("- x\n" * (MOST_VALUES + 1), MANY),
    "documents": ("---\n" * (MOST_VALUES + 2), MANY),
    "directives": ("".join(f"%TAG !{n}! tag:x\n" for n in range(100_000)) + "--- a", MANY),
    "length": ("#" * (MOST_BYTES + 1), LONG),
    "a long integer": ("- " + "9" * 100_000, "out of range"),
    "a long hexadecimal": ("- 0x" + "f" * 1_000_000, "out of range"),
    "an object of Python": ("a: !!python/object/apply:os.system [x]", "is not known"),
    "a bad integer": ("a: !!int x", "as an integer"),
    "an empty integer": ('a: !!int ""', "as an integer"),
    "a bad boolean": ("a: !!bool maybe", "as a boolean"),
    "a map that is none": ("a: !!map x", "expected a mapping node"),
    "a string that is none": ("a: !!str [x]", "expected a scalar node"),
    "infinity": ("a: .inf", "unsupported value"),
    "control characters": ("a: \x01", "control characters are not allowed"),
}


@pytest.mark.long
@pytest.mark.parametrize(("text", "said"), YAML_BOMBS.values(), ids=YAML_BOMBS)
def test_yaml_bombs_are_refused_in_one_sentence(text: str, said: str) -> None:
    tracemalloc.start()
    with pytest.raises(ReadingError, match=said) as caught:
        yaml_documents(text)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert most < 60_000_000


JSON_BOMBS = {
    "brackets": ("[" * 1_000_000, DEEP),
    "closed brackets": ("[" * 100_000 + "]" * 100_000, DEEP),
    "a little too deep": ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), DEEP),
    "objects": ('{"a":' * 2000 + "1" + "}" * 2000, DEEP),
    "values": ("[" + "{}," * MOST_VALUES + "{}]", MANY),
    "commas": ("," * 3_000_000, MANY),
    "a string without end": ('"' + '\\"' * 1_500_000, "unexpected end of JSON input"),
    "length": (" " * (MOST_BYTES + 1), LONG),
    "a number": ("1e400", "out of range"),
    "an integer": ("9" * 1_000_000, "out of range"),
    "no UTF-8": (b"\xff", "not UTF-8: byte 0xff at position 0"),
}


@pytest.mark.long
@pytest.mark.parametrize(("text", "said"), JSON_BOMBS.values(), ids=JSON_BOMBS)
def test_json_bombs_are_refused_in_one_sentence(text: str | bytes, said: str) -> None:
    tracemalloc.start()
    with pytest.raises(ReadingError, match=said) as caught:
        json_value(text, repeated=[])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(str(caught.value)) < 200
    assert most < 60_000_000


@pytest.mark.long
def test_what_is_just_within_the_bounds_is_read() -> None:
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert json.dumps(json_value(deep)) == json.dumps(from_yaml(deep)) == deep
    wide = "[" + "1," * (MOST_VALUES - 2) + "1]"
    assert len(json_value(wide)) == len(from_yaml(wide)) == MOST_VALUES - 1
    text = "x" * (MOST_BYTES - 2)
    assert json_value(f'"{text}"') == from_yaml(text) == text
    # What looks like values inside a string is none.
    assert len(json_value('"' + ",[{" * 900_000 + '"')) == 2_700_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unexpected end of JSON input"),
        ('{"a":1', "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("foo", "invalid character 'o' in literal false (expecting 'a')"),
        ("[nul]", "invalid character ']' in literal null (expecting 'l')"),
        ("tr", "unexpected end of JSON input"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ("{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ('{"[": [1 2]}', "invalid character '2' after array element"),
        ("1 2", "invalid character '2' after top-level value"),
        ('"\n"', r"invalid character '\n' in string literal"),
        (r'"\x"', "invalid character 'x' in string escape code"),
        (r'"\u12g4"', r"invalid character 'g' in \u hexadecimal character escape"),
        ("[NaN]", "invalid character 'N' looking for beginning of value"),
    ],
)
def test_bad_json_is_told_in_the_words_of_go(text: str, words: str) -> None:
    with pytest.raises(ReadingError) as caught:
        json_value(text)
    assert caught.value.problem == words


def test_where_the_fault_is() -> None:
    for read in (json_value, from_yaml):
        with pytest.raises(ReadingError) as caught:
            read('{"a": 1,\n "b": ]}')
        assert (caught.value.line, caught.value.column) == (2, 7)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:30", "22:30"),
        ("2020-01-01", "2020-01-01"),
        ("2020-01-01T10:00:00Z", "2020-01-01T10:00:00Z"),
        ("010", 8),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000),
        ("1.0", 1),
        ("1.5", 1.5),
        ("9223372036854775808", 9.223372036854775808e18),
        ("yes", True),
        ("~", None),
        ("", None),
        ("=", "="),
        ("1: a\n2.5: b\nyes: c\n~: d", {"1": "a", "2.5": "b", "true": "c", "null": "d"}),
        ("- &a {x: 1}\n- {<<: *a, y: 2}", [{"x": 1}, {"x": 1, "y": 2}]),
    ],
)
def test_yaml_means_what_it_means_to_kubernetes(text: str, value: Any) -> None:
    seen = from_yaml(text)
    assert seen == value
    assert type(seen) is type(value)


def test_nothing_is_shared_between_the_parts() -> None:
    first, second = from_yaml("[&a {x: 1}, *a]")
    assert first == second
    assert first is not second


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_json_is_read_back(value: Any) -> None:
    assert json_value(json.dumps(value)) == value
    assert json_value(json.dumps(value, ensure_ascii=False)) == value


@given(VALUES)
def test_yaml_that_was_written_is_read_back(value: Any) -> None:
    # PyYAML itself loses line breaks of other scripts; what it takes for a date or a time it quotes.
    value = json.loads(re.sub(r"[\x7f-\x9f\u2028\u2029]", "", json.dumps(value, ensure_ascii=False)))
    text = yaml.safe_dump({"value": value}, allow_unicode=True)
    seen = from_yaml(text)
    assert seen == {"value": value}
    check_yaml(text)


@settings(max_examples=300)
@given(st.text("[]{}:,-?&*!|>'\"%#ab1 \n\t\\", max_size=60) | st.binary(max_size=60))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    for read in (json_value, yaml_documents):
        try:
            json.dumps(read(text), allow_nan=False)  # type: ignore[operator]
        except ReadingError as error:
            said = error.problem
        else:
            said = "it was read"
        assert said


def test_fields_that_appear_twice_are_found() -> None:
    repeated: list[str] = []
    value = json_value(
        '{"a": {"b": 1, "b": 2}, "c": [{"d": 1, "d": 2}], "a": {"b": 3, "e": 1, "e": 2}}', repeated=repeated
    )
    assert value == {"a": {"b": 3, "e": 2}, "c": [{"d": 2}]}
    assert repeated == ["a", "a.e", "c[0].d"]
