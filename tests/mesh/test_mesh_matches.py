# SPDX-License-Identifier: Apache-2.0
"""What a VirtualService's matches are to Envoy, without any: paths, headers, claims, and what takes all there is."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.contracts import ApiError
from meshbox.mesh.matches import route_match

from .test_mesh_hosts import V1, V3, Json
from .test_mesh_routes import at_gateway, routes


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"uri": {"exact": "/a"}}, {"path": "/a"}),
        ({"uri": {"prefix": "/a"}}, {"prefix": "/a"}),
        ({"uri": {"regex": "/a.*"}}, {"safe_regex": {"regex": "/a.*"}}),
        ({"uri": {"prefix": "/a"}, "ignoreUriCase": True}, {"prefix": "/a", "case_sensitive": False}),
        (
            {"headers": {"end-user": {"exact": "jason"}}},
            {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]},
        ),
        ({"headers": {"x": {}}}, {"prefix": "/", "headers": [{"name": "x", "present_match": True}]}),
        (
            {"withoutHeaders": {"x": {"prefix": "a"}}},
            {
                "prefix": "/",
                "headers": [
                    {
                        "name": "x",
                        "string_match": {"prefix": "a"},
                        "invert_match": True,
                        "treat_missing_header_as_empty": True,
                    }
                ],
            },
        ),
        (
            {"withoutHeaders": {"x": {}}},
            # Taken for an empty one it would be there.
            {"prefix": "/", "headers": [{"name": "x", "present_match": True, "invert_match": True}]},
        ),
        (
            {"withoutHeaders": {"x": {"regex": "*"}}},
            # No pattern, but Istio's word for any value.
            {"prefix": "/", "headers": [{"name": "x", "present_match": True, "invert_match": True}]},
        ),
        ({"uri": {"prefix": ""}}, {"prefix": "/"}),
        (
            {"method": {"exact": "POST"}, "authority": {"regex": "r.*"}, "scheme": {"exact": "http"}},
            {
                "prefix": "/",
                "headers": [
                    {"name": ":method", "string_match": {"exact": "POST"}},
                    {"name": ":authority", "string_match": {"safe_regex": {"regex": "r.*"}}},
                    {"name": ":scheme", "string_match": {"exact": "http"}},
                ],
            },
        ),
        (
            {"queryParams": {"v": {"exact": "2"}, "w": {"regex": "\\d+"}}},
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "v", "string_match": {"exact": "2"}},
                    {"name": "w", "string_match": {"safe_regex": {"regex": "\\d+"}}},
                ],
            },
        ),
    ],
)
def test_matches(match: Json, expected: Json) -> None:
    assert routes({"match": [match], "route": [V1]})[0]["match"] == expected


@pytest.mark.parametrize(
    ("uri", "by_letters", "by_elements"),
    [
        ({}, {"prefix": "/"}, {"prefix": "/"}),
        ({"prefix": "/"}, {"prefix": "/"}, {"prefix": "/"}),
        ({"prefix": "/a"}, {"prefix": "/a"}, {"path_separated_prefix": "/a"}),
        ({"prefix": "/a/b/"}, {"prefix": "/a/b/"}, {"path_separated_prefix": "/a/b"}),
        ({"exact": "/a/"}, {"path": "/a/"}, {"path": "/a/"}),
        ({"regex": "/a/"}, {"safe_regex": {"regex": "/a/"}}, {"safe_regex": {"regex": "/a/"}}),
    ],
)
def test_a_prefix_ends_where_an_element_does_if_that_is_asked(uri: Json, by_letters: Json, by_elements: Json) -> None:
    match: Any = {"uri": uri} if uri else {}
    assert route_match(match, elements=False) == by_letters
    assert route_match(match, elements=True) == by_elements


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("@request.auth.claims.group", ["group"]),
        ("@request.auth.claims.a.b", ["a", "b"]),
        ("@request.auth.claims[group]", ["group"]),
        ("@request.auth.claims[a.b][c]", ["a.b", "c"]),
        ("@Request.Auth.Claims.group", ["group"]),
    ],
)
def test_claims_of_a_token_are_matched_by_what_the_jwt_filter_left(name: str, path: list[str]) -> None:
    text = {"string_match": {"exact": "admin"}}
    expected = {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": key} for key in ("payload", *path)],
        "value": {"or_match": {"value_matchers": [text, {"list_match": {"one_of": text}}]}},
    }
    found = at_gateway({"match": [{"headers": {name: {"exact": "admin"}}}], "route": [V1]})[0]["match"]
    assert found == {"prefix": "/", "dynamic_metadata": [expected]}
    without = at_gateway({"match": [{"withoutHeaders": {name: {"exact": "admin"}}}], "route": [V1]})[0]["match"]
    assert without == {"prefix": "/", "dynamic_metadata": [{**expected, "invert": True}]}
    present = at_gateway({"match": [{"headers": {name: {}}}], "route": [V1]})[0]["match"]
    assert present["dynamic_metadata"] == [{**expected, "value": {"present_match": True}}]


@pytest.mark.parametrize("name", ["@request.auth.claims", "@request.auth.claims[a", "@request.auth.claims.", "@x"])
def test_what_only_looks_like_a_claim_is_no_header(name: str) -> None:
    with pytest.raises(ApiError, match="is not a valid header name"):
        routes({"match": [{"headers": {name: {"exact": "admin"}}}], "route": [V1]})


def test_a_match_may_name_its_statistics() -> None:
    assert routes({"match": [{"uri": {"prefix": "/a"}, "statPrefix": "a"}], "route": [V1]})[0]["stat_prefix"] == "a"


def test_matches_of_other_ports_sources_and_gateways_are_left_out() -> None:
    found = routes(
        {"match": [{"port": 1234}], "route": [V3]},
        {"match": [{"sourceLabels": {"app": "ratings"}}], "route": [V3]},
        {"match": [{"sourceNamespace": "elsewhere"}], "route": [V3]},
        {"match": [{"gateways": ["some-gateway"]}], "route": [V3]},
        {
            "match": [{"sourceLabels": {"app": "productpage"}, "port": 9080, "sourceNamespace": "bookinfo"}],
            "route": [V1],
        },
    )
    assert [r["route"]["cluster"] for r in found] == ["outbound|9080|v1|reviews.bookinfo.svc.cluster.local"]


def test_of_a_rules_matches_each_stands_for_itself() -> None:
    paths = [{"uri": {"exact": "/a"}, "port": 1}, {"uri": {"exact": "/b"}}, {"uri": {"exact": "/c"}}]
    assert [one["match"] for one in routes({"match": paths, "route": [V1]})] == [{"path": "/b"}, {"path": "/c"}]


@pytest.mark.parametrize(
    ("match", "last"),
    [
        ({"uri": {"prefix": "/"}}, True),
        ({"uri": {"regex": ".*"}}, True),
        ({"uri": {"prefix": "/x"}}, False),
        ({"uri": {"regex": "/.*"}}, False),
        ({"headers": {"x": {"exact": "1"}}}, False),
        ({"queryParams": {"x": {"exact": "1"}}}, False),
        ({"uri": {"prefix": "/"}, "headers": {"x": {}}}, False),
        ({"headers": {"@request.auth.claims.sub": {"exact": "ann"}}}, False),
    ],
)
def test_what_follows_a_catch_all_is_left_out(match: Json, last: bool) -> None:
    found = at_gateway(
        {"match": [{"uri": {"prefix": "/x"}}], "route": [V3]}, {"match": [match], "route": [V1]}, {"route": [V3]}
    )
    assert len(found) == (2 if last else 3)


def test_only_a_pattern_of_re2_has_no_case_to_ignore() -> None:
    found = routes(
        {"match": [{"uri": {"regex": "/a"}, "ignoreUriCase": True}], "route": [V1]},
        {"match": [{"uri": {"exact": "/a"}, "ignoreUriCase": True}], "route": [V1]},
    )
    assert [one["match"] for one in found] == [
        {"safe_regex": {"regex": "/a"}},
        {"path": "/a", "case_sensitive": False},
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"name": "q", "present_match": True}),
        ({"exact": ""}, {"name": "q", "string_match": {"exact": ""}}),
        ({"prefix": "a"}, {"name": "q", "string_match": {"prefix": "a"}}),
    ],
)
def test_a_parameter_may_be_there_or_be_empty(asked: Json, expected: Json) -> None:
    (found, *_) = routes({"match": [{"queryParams": {"q": asked}}], "route": [V1]})
    assert found["match"] == {"prefix": "/", "query_parameters": [expected]}
