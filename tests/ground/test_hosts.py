# SPDX-License-Identifier: Apache-2.0
"""Hosts mean what Istio means by them."""

from __future__ import annotations

import pytest
import re2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from labkit.ground.hosts import fqdn, gateway_key, names_of_service, overlap, scoped, specificity, visible, within


@pytest.mark.parametrize(
    ("host", "whole"),
    [
        ("reviews", "reviews.b.svc.cluster.local"),
        ("Reviews", "reviews.b.svc.cluster.local"),
        *(
            (one, one)
            for one in ("reviews.b", "reviews.b.svc.cluster.local", "*", "*.a.com", "10.0.0.1", "::1", "fd00::2", "")
        ),
    ],
)
def test_a_name_without_a_dot_is_a_service_beside_it(host: str, whole: str) -> None:
    assert fqdn(host, "b") == whole
    assert fqdn(whole, "other") == whole


def test_the_names_of_a_service() -> None:
    names = names_of_service("reviews", "b")
    assert names == ["reviews.b.svc.cluster.local", "reviews.b", "reviews.b.svc"]
    assert names[0] == fqdn("reviews", "b")


NAMES = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3).map(".".join)
HOSTS = NAMES | NAMES.map(lambda name: f"*.{name}") | st.just("*")


def pattern(host: str) -> str:
    """The regular expression of all names that a host means."""
    return ".*" + re2.escape(host[1:]) if host.startswith("*") else re2.escape(host)


@given(HOSTS, NAMES)
def test_a_wildcard_holds_the_names_that_its_pattern_matches(host: str, name: str) -> None:
    assert within(name, host) == bool(re2.fullmatch(pattern(host), name)) == overlap(name, host)


@given(HOSTS, HOSTS, NAMES)
def test_of_two_hosts_one_holds_the_other_or_they_are_strangers(one: str, other: str, name: str) -> None:
    if within(name, one) and within(name, other):
        assert overlap(one, other)
    if within(one, other):
        assert not within(name, one) or within(name, other)
        assert specificity(one) >= specificity(other)
    assert overlap(one, other) == overlap(other, one) == (within(one, other) or within(other, one))
    assert within(one, one)


@pytest.mark.parametrize(
    ("host", "pattern", "is_within"),
    [
        *(("a.com", "*.com", True), ("com", "*.com", False), ("a.b.com", "*.com", True), ("*.b.com", "*.com", True)),
        *(
            ("*.com", "*.b.com", False),
            ("*", "*.com", False),
            ("*.com", "*", True),
            ("a", "*", True),
            ("ab.com", "*b.com", True),
        ),
    ],
)
def test_wildcards(host: str, pattern: str, is_within: bool) -> None:
    assert within(host, pattern) is is_within


def test_the_most_specific_host_is_a_name_and_then_the_longest_wildcard() -> None:
    assert sorted(["*", "a.com", "*.b.com", "*.com"], key=specificity) == ["*", "*.com", "*.b.com", "a.com"]


@pytest.mark.parametrize(
    ("export_to", "sees"),
    [
        *(
            (None, "own other"),
            ([], "own other"),
            (["*"], "own other"),
            (["."], "own"),
            (["other"], "other"),
            (["~"], ""),
        ),
        *(([".", "other"], "own other"), (["third"], "")),
    ],
)
def test_who_sees_what_is_exported(export_to: list[str] | None, sees: str) -> None:
    assert " ".join(one for one in ("own", "other") if visible(export_to, "own", one)) == sees


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *(("a.com", ("*", "a.com")), ("*", ("*", "*")), ("./a.com", ("own", "a.com")), ("b/*", ("b", "*"))),
        *(("*/*.com", ("*", "*.com")), ("~/*", ("~", "*"))),
    ],
)
def test_hosts_of_gateways_and_sidecars_may_name_a_namespace(text: str, found: tuple[str, str]) -> None:
    assert scoped(text, "own") == found


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *(("mesh", "mesh"), ("gate", "own/gate"), ("./gate", "own/gate"), ("b/gate", "b/gate"), ("gate.b", "b/gate")),
        *(("gate.b.svc", "b/gate"), ("gate.b.svc.cluster.local", "b/gate")),
    ],
)
def test_which_gateway_a_virtual_service_names(name: str, key: str) -> None:
    assert gateway_key(name, "own") == key
