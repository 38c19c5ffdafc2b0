# SPDX-License-Identifier: Apache-2.0
"""Which host, which route and which chain take a request, by Envoy's rules."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.istio.envoy import authorization, matching
from labkit.istio.envoy.authorization import Call
from labkit.istio.envoy.chains import Connection, chain_for
from labkit.istio.envoy.matching import Request, Verdict

JASON = Request(path="/reviews/0?star=4&all", authority="reviews:9080", headers={"end-user": "jason", "n": "7"})


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"prefix": "/"}, True),
        ({"prefix": "/reviews/0?star"}, False),  # the query is no part of the path
        ({"prefix": "/REVIEWS"}, False),
        ({"prefix": "/REVIEWS", "case_sensitive": False}, True),
        ({"path": "/reviews/0"}, True),
        ({"path": "/reviews"}, False),
        ({"path_separated_prefix": "/reviews"}, True),
        ({"path_separated_prefix": "/rev"}, False),
        ({"safe_regex": {"regex": "/reviews/[0-9]"}}, True),
        ({"safe_regex": {"regex": "/reviews"}}, False),  # the whole path, not a part of it
        ({"safe_regex": {"regex": r"\pN+"}}, None),
        ({"connect_matcher": {}}, False),
        ({"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]}, True),
        ({"prefix": "/", "headers": [{"name": "End-User", "exact_match": "jason"}]}, True),
        ({"prefix": "/", "headers": [{"name": "n", "string_match": {"exact": "7", "ignore_case": True}}]}, True),
        ({"prefix": "/", "headers": [{"name": "n", "string_match": {"prefix": "7"}, "invert_match": True}]}, False),
        ({"prefix": "/", "headers": [{"name": "other", "string_match": {"exact": "x"}, "invert_match": True}]}, False),
        (
            {
                "prefix": "/",
                "headers": [
                    {
                        "name": "other",
                        "string_match": {"exact": "x"},
                        "invert_match": True,
                        "treat_missing_header_as_empty": True,
                    }
                ],
            },
            True,
        ),
        ({"prefix": "/", "headers": [{"name": "other", "present_match": True, "invert_match": True}]}, True),
        ({"prefix": "/", "headers": [{"name": "end-user", "present_match": True}]}, True),
        ({"prefix": "/", "headers": [{"name": "n", "range_match": {"start": 7, "end": 8}}]}, True),
        ({"prefix": "/", "headers": [{"name": "n", "range_match": {"start": 1, "end": 7}}]}, False),
        ({"prefix": "/", "headers": [{"name": "user-agent", "string_match": {"contains": "curl"}}]}, None),
        ({"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]}, False),
        ({"prefix": "/", "query_parameters": [{"name": "star", "string_match": {"exact": "4"}}]}, True),
        ({"prefix": "/", "query_parameters": [{"name": "all", "present_match": True}]}, True),
        ({"prefix": "/", "query_parameters": [{"name": "none", "present_match": True}]}, False),
        ({"prefix": "/", "dynamic_metadata": [{}]}, None),
        ({"prefix": "/other", "dynamic_metadata": [{}]}, False),  # what does not hold decides
    ],
)  # fmt: skip
def test_a_route_takes_a_request_or_not(match: dict[str, Any], holds: bool | None) -> None:
    found = matching.route(match, JASON)
    assert found.holds is holds
    assert found.why


def test_why_not_names_the_condition_and_what_was_there() -> None:
    match = {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "tom"}}]}
    assert matching.route(match, JASON).why == "header end-user is 'tom': it is 'jason'"
    assert matching.route(match, Request()).why == "header end-user is 'tom': there is none"
    assert matching.route({"path": "/x"}, JASON).why == "path is /x: it is /reviews/0"


HOSTS = [
    {"name": "any", "domains": ["*"]},
    {"name": "short", "domains": ["reviews", "reviews:*"]},
    {"name": "org", "domains": ["*.example.org"]},
    {"name": "deep", "domains": ["*.deep.example.org"]},
    {"name": "whole", "domains": ["a.deep.example.org"]},
    {"name": "star", "domains": ["www.*"]},
]


@pytest.mark.parametrize(
    ("authority", "name", "domain"),
    [
        ("reviews", "short", "reviews"),
        ("Reviews:9080", "short", "reviews:*"),
        ("a.deep.example.org", "whole", "a.deep.example.org"),
        ("b.deep.example.org", "deep", "*.deep.example.org"),
        ("www.example.org", "org", "*.example.org"),  # an ending goes before a beginning
        ("www.example.com", "star", "www.*"),
        ("example.org", "any", "*"),
        (".example.org", "any", "*"),  # the star stands for something
    ],
)
def test_the_most_specific_domain_is_meant(authority: str, name: str, domain: str) -> None:
    host, by = matching.virtual_host(HOSTS, authority)
    assert host is not None
    assert (host["name"], by) == (name, domain)


def test_no_domain_fits_and_ports_may_not_count() -> None:
    assert matching.virtual_host(HOSTS[1:2], "ratings") == (None, "")
    hosts = [{"name": "one", "domains": ["one"]}]
    assert matching.virtual_host(hosts, "one:80") == (None, "")
    assert matching.virtual_host(hosts, "one:80", ignore_port=True)[0] == hosts[0]


CHAINS = {
    "filter_chains": [
        {"name": "mtls", "filter_chain_match": {"transport_protocol": "tls", "application_protocols": ["istio"]}},
        {"name": "plain", "filter_chain_match": {"transport_protocol": "raw_buffer"}},
        {"name": "tls", "filter_chain_match": {"transport_protocol": "tls"}},
        {"name": "8080", "filter_chain_match": {"destination_port": 8080}},
        {"name": "named", "filter_chain_match": {"server_names": ["*.example.org"], "transport_protocol": "tls"}},
        {"name": "near", "filter_chain_match": {"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}},
    ]
}


@pytest.mark.parametrize(
    ("connection", "name"),
    [
        (Connection("11.0.0.1", 9080), "plain"),
        (Connection("11.0.0.1", 9080, True, ("istio-peer-exchange", "istio")), "mtls"),
        (Connection("11.0.0.1", 9080, True, ("h2",)), "tls"),
        (Connection("11.0.0.1", 9080, True, ("h2",), "a.example.org"), "named"),
        (Connection("10.1.1.1", 9080, True, ("istio",)), "near"),  # the address counts before TLS
        (Connection("10.1.1.1", 8080, True, ("istio",)), "8080"),  # and the port before the address
    ],
)
def test_the_most_specific_chain_takes_a_connection(connection: Connection, name: str) -> None:
    chain, passed = chain_for(CHAINS, connection)
    assert chain is not None
    assert chain["name"] == name
    assert len(passed) == 5


def test_a_connection_that_no_chain_is_for() -> None:
    strict = {"filter_chains": CHAINS["filter_chains"][:1]}
    chain, passed = chain_for(strict, Connection("11.0.0.1", 9080))
    assert chain is None
    assert passed == ("mtls: its transport does not fit",)
    assert chain_for({**strict, "default_filter_chain": {"name": "rest"}}, Connection("", 1))[0] == {"name": "rest"}


def policy(principal: dict[str, Any], permission: dict[str, Any]) -> dict[str, Any]:
    return {"principals": [principal], "permissions": [permission]}


PAGE = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage"
OF_PAGE = {"authenticated": {"principal_name": {"exact": PAGE}}}
GET = {
    "and_rules": {
        "rules": [{"or_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": "GET"}}}]}}]
    }
}
NAME = "ns[bookinfo]-policy[viewer]-rule[0]"


def judged(action: str, policies: dict[str, Any], call: Call) -> tuple[list[bool | None], Verdict]:
    rbac = {"name": "envoy.filters.http.rbac", "typed_config": {"rules": {"action": action, "policies": policies}}}
    found, verdict = authorization.judge([rbac], (), call)
    return [one.holds for one in found], verdict


def test_what_is_allowed_passes_and_all_else_does_not() -> None:
    policies = {NAME: policy(OF_PAGE, GET)}
    holds, verdict = judged("ALLOW", policies, Call(Request(), PAGE, 9080))
    assert (holds, verdict.holds) == ([True], True)
    holds, verdict = judged("ALLOW", policies, Call(Request(method="POST"), PAGE, 9080))
    assert (holds, verdict.holds) == ([False], False)
    assert "viewer, rule 0 (namespace bookinfo)" in verdict.why
    holds, verdict = judged("ALLOW", policies, Call(Request(), "", 9080))
    assert (holds, verdict.holds) == ([False], False)
    assert judged("ALLOW", {}, Call(Request(), PAGE, 9080))[1] == Verdict(False, "nothing is allowed")


def test_what_is_denied_does_not_pass() -> None:
    policies = {NAME: policy({"not_id": OF_PAGE}, {"any": True})}
    assert judged("DENY", policies, Call(Request(), PAGE, 9080))[1].holds is True
    verdict = judged("DENY", policies, Call(Request(), "spiffe://cluster.local/ns/a/sa/b", 9080))[1]
    assert (verdict.holds, verdict.why) == (False, "viewer, rule 0 (namespace bookinfo) denies it")


def test_what_cannot_be_known_is_left_open() -> None:
    policies = {NAME: policy({"metadata": {"filter": "envoy.filters.http.jwt_authn"}}, {"any": True})}
    holds, verdict = judged("ALLOW", policies, Call(Request(), PAGE, 9080))
    assert (holds, verdict.holds) == ([None], None)
    assert "metadata, which is not known here" in verdict.why


def test_a_routes_own_rules_take_the_place_of_the_filters() -> None:
    of_route = {"typed_per_filter_config": {"istio.rbac.deny": {"rbac": {"rules": {"action": "DENY", "policies": {
        NAME: policy({"any": True}, {"destination_port": 9080})}}}}}}  # fmt: skip
    chain = [{"name": "istio.rbac.deny", "typed_config": {"@type": "type.googleapis.com/envoy.x.rbac.v3.RBAC"}}]
    found, verdict = authorization.judge(chain, ({}, of_route), Call(Request(), "", 9080))
    assert [one.action for one in found] == ["DENY"]
    assert verdict.holds is False
    assert authorization.judge(chain, ({}, of_route), Call(Request(), "", 80))[1].holds is True
