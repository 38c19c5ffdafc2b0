# SPDX-License-Identifier: Apache-2.0
"""What a rule of a VirtualService does to a request, field by field, without any Envoy."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.headers import literal

from .objects import istio
from .test_mesh_hosts import V1, V3, Json
from .test_mesh_routes import routes

REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"
SUBSET = "outbound|9080|v1|reviews.bookinfo.svc.cluster.local"
PREVIOUS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}


def action(legacy: bool = False, **rule: Any) -> Json:
    return dict(routes({"route": [V1], **rule}, legacy=legacy)[0]["route"])


def filter_of(name: str, *, legacy: bool = False, **rule: Any) -> Json:
    found: Json = routes({"route": [V1], **rule}, legacy=legacy)[0]["typed_per_filter_config"][
        f"envoy.filters.http.{name}"
    ]
    return {key: value for key, value in found.items() if key != "@type"}


@pytest.mark.parametrize(
    ("legacy", "expected"),
    [
        (
            False,
            {
                "num_retries": 2,
                "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                "host_selection_retry_max_attempts": 5,
                "retry_host_predicate": [PREVIOUS],
            },
        ),
        (
            True,
            {
                "num_retries": 2,
                "retry_on": "connect-failure,refused-stream,unavailable,cancelled,resource-exhausted,"
                "retriable-status-codes",
                "host_selection_retry_max_attempts": 3,
                "retriable_status_codes": [503],
                "retry_host_predicate": [PREVIOUS],
            },
        ),
    ],
)
def test_retries_by_default(legacy: bool, expected: Json) -> None:
    grpc = {} if legacy else {"max_grpc_timeout": "0s"}
    assert action(legacy) == {"cluster": SUBSET, "timeout": "0s", **grpc, "retry_policy": expected}


@pytest.mark.parametrize(
    ("retries", "expected"),
    [
        ({"attempts": 1}, {"num_retries": 1}),
        ({"attempts": 2, "retryOn": "5xx"}, {"retry_on": "5xx", "retriable_status_codes": []}),
        (
            {"attempts": 2, "retryOn": "503,reset,retriable-status-codes"},
            {"retry_on": "reset,retriable-status-codes", "retriable_status_codes": [503]},
        ),
        ({"attempts": 2, "perTryTimeout": "250ms"}, {"per_try_timeout": "0.25s"}),
        ({"attempts": 2, "backoff": "10ms"}, {"retry_back_off": {"base_interval": "0.01s"}}),
        ({"attempts": 2, "retryIgnorePreviousHosts": False}, {"retry_host_predicate": None}),
        ({"attempts": 2, "retryIgnorePreviousHosts": True}, {"retry_host_predicate": [PREVIOUS]}),
    ],
)
def test_retries_field_by_field(retries: Json, expected: Json) -> None:
    policy = action(retries=retries)["retry_policy"]
    assert {key: policy.get(key) for key in expected} == expected
    assert set(policy) == {*action()["retry_policy"], *expected} - {key for key in expected if expected[key] is None}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([V1], {"cluster": SUBSET}),
        ([{**V1, "weight": 0}], {"cluster": SUBSET}),
        ([{**V1, "weight": 100}, V3], {"cluster": SUBSET}),
        ([{"destination": {"host": "reviews"}}], {"cluster": REVIEWS}),
        ([{"destination": {"host": "reviews", "port": {"number": 9080}}}], {"cluster": REVIEWS}),
        ([{"destination": {"host": "reviews", "port": {"number": 81}}}], {"cluster": REVIEWS.replace("9080", "81")}),
        (
            [{**V1, "headers": {"request": {"add": {"x": "1"}}}}],
            {
                "weighted_clusters": {
                    "clusters": [
                        {
                            "name": SUBSET,
                            "weight": 100,
                            "request_headers_to_add": [
                                {"header": {"key": "x", "value": "1"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
                            ],
                        }
                    ]
                }
            },
        ),
    ],
)
def test_destinations(targets: list[Json], expected: Json) -> None:
    found = action(route=targets)
    assert {key: found[key] for key in found if key in ("cluster", "weighted_clusters")} == expected


@pytest.mark.parametrize(
    ("match", "rewrite", "expected"),
    [
        ({"prefix": "/a"}, {"uri": "/b"}, {"prefix_rewrite": "/b"}),
        ({"exact": "/a"}, {"uri": "/b"}, {"prefix_rewrite": "/b"}),
        (
            {"regex": "/a.*"},
            {"uri": "/\\b"},
            {"regex_rewrite": {"pattern": {"regex": "^[^?]*"}, "substitution": "/\\\\b"}},
        ),
        ({"prefix": "/a"}, {"authority": "x.y"}, {"host_rewrite_literal": "x.y"}),
        (
            {"prefix": "/a"},
            {"uriRegexRewrite": {"match": "^/a$", "rewrite": "/c"}},
            {"regex_rewrite": {"pattern": {"regex": "^/a$"}, "substitution": "/c"}},
        ),
    ],
)
def test_rewrites(match: Json, rewrite: Json, expected: Json) -> None:
    found = action(match=[{"uri": match}], rewrite=rewrite)
    others = ("cluster", "timeout", "max_grpc_timeout", "retry_policy")
    assert {key: value for key, value in found.items() if key not in others} == expected


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ({"uri": "/x"}, {"path_redirect": "/x", "response_code": "MOVED_PERMANENTLY"}),
        ({"authority": "a.b"}, {"host_redirect": "a.b", "response_code": "MOVED_PERMANENTLY"}),
        ({"uri": "/x", "redirectCode": 303}, {"path_redirect": "/x", "response_code": "SEE_OTHER"}),
        ({"uri": "/x", "redirectCode": 307}, {"path_redirect": "/x", "response_code": "TEMPORARY_REDIRECT"}),
        ({"uri": "/x", "redirectCode": 308}, {"path_redirect": "/x", "response_code": "PERMANENT_REDIRECT"}),
        ({"uri": "%PREFIX()%/b"}, {"prefix_rewrite": "/b", "response_code": "MOVED_PERMANENTLY"}),
        ({"derivePort": "FROM_REQUEST_PORT"}, {"port_redirect": 9080, "response_code": "MOVED_PERMANENTLY"}),
        ({"derivePort": "FROM_PROTOCOL_DEFAULT"}, {"response_code": "MOVED_PERMANENTLY"}),
        ({"port": 80}, {"response_code": "MOVED_PERMANENTLY"}),
        ({"port": 443}, {"port_redirect": 443, "response_code": "MOVED_PERMANENTLY"}),
        ({"scheme": "https", "port": 443}, {"scheme_redirect": "https", "response_code": "MOVED_PERMANENTLY"}),
        (
            {"scheme": "https", "port": 80},
            {"scheme_redirect": "https", "port_redirect": 80, "response_code": "MOVED_PERMANENTLY"},
        ),
        ({"uri": "%PREFIX()%", "authority": "a.b"}, {"host_redirect": "a.b", "response_code": "MOVED_PERMANENTLY"}),
    ],
)
def test_redirects(redirect: Json, expected: Json) -> None:
    found = routes({"match": [{"uri": {"prefix": "/a"}}], "redirect": redirect})[0]
    assert found["redirect"] == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"string": "tea"}, {"status": 418, "body": {"inline_string": "tea"}}),
        ({"bytes": "dGVh"}, {"status": 418, "body": {"inline_bytes": "dGVh"}}),
        (None, {"status": 418}),
    ],
)
def test_direct_responses(body: Json | None, expected: Json) -> None:
    found = routes({"directResponse": {"status": 418, **({"body": body} if body else {})}})[0]
    assert found["direct_response"] == expected
    assert "route" not in found


def percent(numerator: int) -> Json:
    return {"numerator": numerator, "denominator": "MILLION"}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            {"delay": {"fixedDelay": "7s", "percentage": {"value": 0.5}}},
            {"delay": {"fixed_delay": "7s", "percentage": percent(5000)}},
        ),
        ({"delay": {"fixedDelay": "7s"}}, {"delay": {"fixed_delay": "7s", "percentage": percent(0)}}),
        (
            {"abort": {"httpStatus": 400, "percentage": {"value": 100}}},
            {"abort": {"http_status": 400, "percentage": percent(1000000)}},
        ),
        ({"abort": {"percentage": {"value": 1}}}, {"abort": {"http_status": 503, "percentage": percent(10000)}}),
        (
            {"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 100}}},
            {"abort": {"grpc_status": 14, "percentage": percent(1000000)}},
        ),
    ],
)
def test_faults(fault: Json, expected: Json) -> None:
    assert filter_of("fault", fault=fault) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"mirror": {"host": "ratings"}}, [1000000]),
        ({"mirror": {"host": "ratings"}, "mirrorPercentage": {"value": 0.5}}, [5000]),
        ({"mirror": {"host": "ratings"}, "mirrorPercent": 25}, [250000]),
        ({"mirror": {"host": "ratings"}, "mirror_percent": 25}, [250000]),
        ({"mirrors": [{"destination": {"host": "ratings"}, "percentage": {"value": 1}}]}, [10000]),
        ({"mirrors": [{"destination": {"host": "ratings"}, "percentage": {"value": 0}}]}, []),
    ],
)
def test_mirrors(rule: Json, expected: list[int]) -> None:
    found = action(**rule).get("request_mirror_policies", [])
    assert [one["runtime_fraction"]["default_value"] for one in found] == [percent(share) for share in expected]
    assert {one["cluster"] for one in found} <= {"outbound|9080||ratings.bookinfo.svc.cluster.local"}


@pytest.mark.parametrize(
    ("cors", "expected"),
    [
        (
            {"allowOrigins": [{"prefix": "http://"}], "exposeHeaders": ["a", "b"]},
            {"allow_origin_string_match": [{"prefix": "http://"}], "expose_headers": "a,b"},
        ),
        ({"allowOrigins": [], "maxAge": "90s"}, {"allow_origin_string_match": [], "max_age": "90"}),
        ({"allowCredentials": False}, {"allow_origin_string_match": [], "allow_credentials": False}),
        (
            {"unmatchedPreflights": "IGNORE"},
            {"allow_origin_string_match": [], "forward_not_matching_preflights": False},
        ),
        ({"unmatchedPreflights": "FORWARD"}, {"allow_origin_string_match": []}),
    ],
)
def test_cors_field_by_field(cors: Json, expected: Json) -> None:
    assert filter_of("cors", corsPolicy=cors) == {"filter_enabled": {"default_value": {"numerator": 100}}, **expected}


def test_cors_of_the_old_release_names_origins_as_they_are() -> None:
    found = filter_of("cors", legacy=True, corsPolicy={"allowOrigin": ["http://a.test", "*"]})
    assert found["allow_origin_string_match"] == [{"exact": "http://a.test"}, {"safe_regex": {"regex": ".*"}}]


@pytest.mark.parametrize(
    ("ring", "expected"),
    [
        ({"httpHeaderName": "x"}, {"header": {"header_name": "x"}}),
        (
            {"httpCookie": {"name": "u", "ttl": "5s", "path": "/p"}},
            {"cookie": {"name": "u", "ttl": "5s", "path": "/p"}},
        ),
        (
            {"httpCookie": {"name": "u", "attributes": [{"name": "SameSite", "value": "Strict"}, {"name": "Secure"}]}},
            {
                "cookie": {
                    "name": "u",
                    "attributes": [{"name": "SameSite", "value": "Strict"}, {"name": "Secure", "value": ""}],
                }
            },
        ),
        ({"useSourceIp": True}, {"connection_properties": {"source_ip": True}}),
        ({"httpQueryParameterName": "q"}, {"query_parameter": {"name": "q"}}),
    ],
)
def test_what_a_hash_is_made_of(ring: Json, expected: Json) -> None:
    spec = {"host": "reviews", "trafficPolicy": {"loadBalancer": {"consistentHash": ring}}, "subsets": []}
    spec["subsets"] = [{"name": "v1", "labels": {"version": "v1"}}]
    found = routes({"route": [V1]}, destination_rules=[istio("reviews", spec)])[0]["route"]
    assert found["hash_policy"] == [expected]
    assert "retry_host_predicate" not in found["retry_policy"]


def test_a_subset_may_have_a_hash_of_its_own() -> None:
    spec: Json = {"host": "reviews", "subsets": []}
    spec["subsets"] = [{"name": f"v{number}", "labels": {"version": f"v{number}"}} for number in (1, 3)]
    spec["subsets"][0]["trafficPolicy"] = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}
    first, third = routes(
        {"match": [{"uri": {"prefix": "/a"}}], "route": [V1]},
        {"route": [V3]},
        destination_rules=[istio("reviews", spec)],
    )
    assert first["route"]["hash_policy"] == [{"header": {"header_name": "x"}}]
    assert "hash_policy" not in third["route"]


def test_filters_of_a_route_say_of_which_kind_they_are() -> None:
    (found,) = routes({"route": [V1], "fault": {"abort": {"httpStatus": 500}}, "corsPolicy": {"maxAge": "1s"}})
    kinds = {name: one["@type"] for name, one in found["typed_per_filter_config"].items()}
    assert kinds == {
        "envoy.filters.http.fault": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "envoy.filters.http.cors": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
    }


@pytest.mark.parametrize(
    ("rule", "operation"),
    [
        ({"route": [V1]}, "reviews.bookinfo.svc.cluster.local:9080/*"),
        ({"match": [{"uri": {"prefix": "/a"}}], "route": [V1]}, "reviews.bookinfo.svc.cluster.local:9080/a*"),
        ({"match": [{"uri": {"exact": "/a"}}], "route": [V1]}, "reviews.bookinfo.svc.cluster.local:9080/a"),
        ({"match": [{"uri": {"regex": "/a.*"}}], "route": [V1]}, "reviews.bookinfo.svc.cluster.local:9080/a.*"),
        ({"redirect": {"uri": "/x"}}, "reviews:9080/*"),
    ],
)
def test_a_route_says_what_it_is_and_whose(rule: Json, operation: str) -> None:
    (found,) = routes(rule)
    assert found["decorator"] == {"operation": operation}
    config = "/apis/networking.istio.io/v1/namespaces/bookinfo/virtual-service/reviews"
    assert found["metadata"] == {"filter_metadata": {"istio": {"config": config}}}


def test_an_operator_that_envoy_would_refuse_means_itself() -> None:
    assert literal("%REQ(a?b)%") == "%REQ(a?b)%"
    assert literal("%REQ(a?b?c)%") == "%%REQ(a?b?c)%%"
