# SPDX-License-Identifier: Apache-2.0
"""Names are taken, and refused, as Kubernetes' own validation does it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import re2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from labkit.ground import names

from .kubectl import refused

LONG = ["a" * 63, "a" * 64, "é" * 40, "a." * 126 + "a", "a." * 127 + "a"]
NEAR = st.text(alphabet="aZ0-_./\n ", max_size=12) | st.sampled_from(LONG)

Rule = Callable[[str], list[str]]
PATTERNS: list[tuple[Rule, int, str]] = [
    (names.dns1123_label, 63, r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"),
    (names.dns1123_subdomain, 253, r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"),
    (names.dns1035_label, 63, r"[a-z]([-a-z0-9]*[a-z0-9])?"),
    (names.label_value, 63, r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"),
]


@pytest.mark.parametrize(("rule", "most", "pattern"), PATTERNS)
@given(text=NEAR)
def test_the_pattern_in_the_words_is_the_one_that_decides(rule: Rule, most: int, pattern: str, text: str) -> None:
    allowed = re2.fullmatch(pattern, text) is not None and len(text.encode()) <= most
    assert (not rule(text)) == allowed
    told = [re.search(r"regex used for validation is '(.*?)'\)", words) for words in rule(text)]
    assert all(found[1] == pattern for found in told if found)


KEYS = {
    "a/b/c": "a valid label key must consist of",
    "A_/x": "prefix part a lowercase RFC 1123 subdomain must consist of",
    "/x": "prefix part must be non-empty",
    "x/": "name part must be non-empty; name part must consist of alphanumeric characters, '-', '_' or '.', and must",
    "-x": "name part must consist of",
    "a" * 64: "name part must be no more than 63 bytes",
    "a." * 127 + "a/x": "prefix part must be no more than 253 bytes",
}


@pytest.mark.parametrize(("key", "words"), KEYS.items())
def test_what_is_no_key_of_a_label_is_told_as_kubectl_tells_it(key: str, words: str) -> None:
    said = "; ".join(names.qualified_name(key))
    assert said.startswith(words)
    told = refused("pdb", "p", "--min-available=1", f"--selector={key}")
    assert told.endswith(f'Invalid value: "{key}": {said}')


@pytest.mark.parametrize("key", ["a", "A.b_c-9", "example.com/MyName", "a.b/" + "x" * 63, "0/0"])
def test_keys_of_labels(key: str) -> None:
    assert names.qualified_name(key) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [("-1", "a valid label must be an empty string or consist of"), ("a" * 64, "must be no more than 63 bytes")],
)
def test_what_is_no_value_of_a_label_is_told_as_kubectl_tells_it(value: str, words: str) -> None:
    [said] = names.label_value(value)
    assert said.startswith(words)
    assert refused("pdb", "p", "--min-available=1", f"--selector=x={value}").endswith(f'"{value}": {said}')


@pytest.mark.parametrize("key", ["..a", "a b", "..", ".", "a/b", "é", "a" * 254])
def test_what_is_no_key_of_a_configmap_is_told_as_kubectl_tells_it(key: str) -> None:
    said = names.config_key(key)
    told = refused("configmap", "c", f"--from-literal={key}=1")
    assert told.endswith(f'"{key}" is not a valid key name for a ConfigMap: {",".join(said)}')


@pytest.mark.parametrize("key", ["a", ".a", "A-b_c.d", "-", "a" * 253])
def test_keys_of_configmaps(key: str) -> None:
    assert names.config_key(key) == []


def test_a_name_with_dots_is_told_so() -> None:
    assert names.dns1123_label("a.b") == ["must not contain dots"]
    assert names.dns1123_label("a" * 64) == ["must be no more than 63 characters"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("http", []),
        ("80", ["must contain at least one letter (a-z)"]),
        ("a--b", ["must not contain consecutive hyphens"]),
        ("-a", ["must not begin or end with a hyphen"]),
        ("a-", ["must not begin or end with a hyphen"]),
        ("a" * 16, ["must be no more than 15 characters"]),
        ("Http_1", ["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"]),
    ],
)
def test_names_of_ports(name: str, said: list[str]) -> None:
    assert names.port_name(name) == said


ENDS = "and must start and end with an alphanumeric character"
SAID = {
    names.dns1123_label: "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    f"{ENDS} (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    names.dns1123_subdomain: "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' "
    f"or '.', {ENDS} (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    names.dns1035_label: "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
}


@pytest.mark.parametrize(("rule", "words"), SAID.items())
def test_what_kubectl_leaves_to_the_server_is_told_in_kubernetes_words(rule: Rule, words: str) -> None:
    assert rule("A") == [words]
    # What is no character has no place in a name either.
    assert rule("\ud800") == [words]


def test_a_length_is_told_in_characters_or_bytes() -> None:
    assert names.dns1123_subdomain("a" * 254) == ["must be no more than 253 characters"]
    assert names.dns1123_subdomain("a" * 254, "bytes") == ["must be no more than 253 bytes"]
    assert names.at_most("éé", 3) == ["must be no more than 3 characters"]
    assert names.at_most("éé", 4) == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("10.0.0.1", True),
        ("::1", True),
        ("10.0.0", False),
        ("", False),
        ("10.0.0.1/8", False),
        (1, False),
        (None, False),
    ],
)
def test_what_is_an_address(text: object, is_one: bool) -> None:
    assert names.is_ip(text) is is_one


@pytest.mark.parametrize("name", ["A_b.c", " ~!", "1"])
def test_names_of_variables(name: str) -> None:
    assert names.env_name(name) == []


@pytest.mark.parametrize("name", ["a=b", "a\nb", "\x1f", "\x7f", "é"])
def test_what_is_no_name_of_a_variable(name: str) -> None:
    assert names.env_name(name) == [
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a:b c", []),
        ("...", []),
        (".", ["may not be '.'"]),
        ("..", ["may not be '..'"]),
        ("a/b", ["may not contain '/'"]),
        ("a%", ["may not contain '%'"]),
        ("%/~", ["may not contain '/'", "may not contain '%'"]),
    ],
)
def test_names_of_roles(name: str, said: list[str]) -> None:
    assert names.path_segment(name) == said


def test_examples_stand_before_the_pattern() -> None:
    assert names.regex_words("w", "p") == "w (e.g. regex used for validation is 'p')"
    assert names.regex_words("w", "p", "a", "b") == "w (e.g. 'a',  or 'b', regex used for validation is 'p')"
