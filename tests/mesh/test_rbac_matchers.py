# SPDX-License-Identifier: Apache-2.0
"""Which principals of requests a value of a rule means."""

from __future__ import annotations

import pytest

from meshbox.mesh.envoy import Json
from meshbox.mesh.rbac_matchers import whole_request_principal

Who = tuple[str, str]


def holds(ids: Json, claims: dict[str, str]) -> bool:
    """Whether Envoy would find somebody with these claims to be meant."""
    if "or_ids" in ids:
        return any(holds(one, claims) for one in ids["or_ids"]["ids"])
    if "and_ids" in ids:
        return all(holds(one, claims) for one in ids["and_ids"]["ids"])
    if "not_id" in ids:
        assert ids == {"not_id": {"any": True}}
        return False
    value = claims[ids["metadata"]["path"][1]["key"]]
    ((how, text),) = ids["metadata"]["value"]["string_match"].items()
    found: dict[str, bool] = {
        "exact": value == text,
        "prefix": value.startswith(str(text)),
        "suffix": value.endswith(str(text)),
        "safe_regex": value != "",
    }
    return found[how]


@pytest.mark.parametrize(
    ("value", "meant", "not_meant"),
    [
        ("*", [("a", "b"), ("https://a/x", "b/c")], [("", "b"), ("a", "")]),
        ("a/b", [("a", "b")], [("a", "b/c"), ("x/a", "b"), ("b", "a")]),
        # Where the issuer ends and the subject begins, nothing tells.
        ("https://a/b", [("https://a", "b"), ("https:/", "a/b")], [("https://a", "c"), ("https", "a/b")]),
        ("https://a/*", [("https://a", "b"), ("https://a/x", "b"), ("https:/", "a/b")], [("https://ab", "c")]),
        ("a*", [("a", "b"), ("abc", "b")], [("ba", "a")]),
        ("a/b*", [("a", "b"), ("a", "bc"), ("a/b", "c")], [("a", "cb"), ("xa", "b")]),
        ("*/b", [("a", "b"), ("a/x", "b"), ("a", "x/b")], [("a", "xb"), ("b", "a")]),
        ("*a/b", [("xa", "b"), ("a", "b"), ("x", "a/b")], [("ab", "b"), ("a", "bb")]),
        ("a", [], [("a", "a"), ("a", "b")]),
    ],
)
def test_a_whole_principal_is_one_text(value: str, meant: list[Who], not_meant: list[Who]) -> None:
    ids = whole_request_principal(value)
    found = [who for who in (*meant, *not_meant) if holds(ids, dict(zip(("iss", "sub"), who, strict=True)))]
    assert found == meant
