# SPDX-License-Identifier: Apache-2.0
"""The rules of VirtualServices as routes, without any Envoy."""

from __future__ import annotations

from typing import Any

from .objects import istio, pod
from .test_mesh_hosts import V1, V3, Json, hosts


def routes(*rules: Json, legacy: bool = False, **objects: Any) -> list[Json]:
    found = hosts(
        legacy=legacy, virtual_services=[istio("reviews", {"hosts": ["reviews"], "http": list(rules)})], **objects
    )
    return list(found["reviews.bookinfo.svc.cluster.local:9080"]["routes"])


def at_gateway(*rules: Json) -> list[Json]:
    """The same for a gateway, which alone may route by what a token claims."""
    server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    found = hosts(
        "http.8080",
        source="edge-v1",
        pods=[pod("edge-v1", "127.99.64.50", role="router", istio="edge")],
        gateways=[istio("edge", {"selector": {"istio": "edge"}, "servers": [server]})],
        virtual_services=[istio("reviews", {"hosts": ["reviews"], "gateways": ["edge"], "http": list(rules)})],
    )
    (host,) = found.values()
    return list(host["routes"])


def test_retries_by_default_are_the_releases_own() -> None:
    old = routes({"route": [V1]}, legacy=True)[0]["route"]["retry_policy"]
    new = routes({"route": [V1]})[0]["route"]["retry_policy"]
    assert old["num_retries"] == new["num_retries"] == 2
    assert old["retriable_status_codes"] == [503]
    assert "retriable_status_codes" not in new
    assert "connect-failure,refused-stream,unavailable,cancelled" in new["retry_on"]


def test_retries_can_be_switched_off_and_set() -> None:
    assert "retry_policy" not in routes({"route": [V1], "retries": {"attempts": 0}})[0]["route"]
    rule = {"route": [V1], "retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "gateway-error,418"}}
    policy = routes(rule)[0]["route"]["retry_policy"]
    assert (policy["num_retries"], policy["per_try_timeout"]) == (3, "2s")
    assert policy["retry_on"] == "gateway-error,retriable-status-codes"
    assert policy["retriable_status_codes"] == [418]


def test_retries_say_where_and_how_soon() -> None:
    def policy(**retries: Any) -> Json:
        return dict(routes({"route": [V1], "retries": {"attempts": 1, **retries}})[0]["route"]["retry_policy"])

    assert policy(backoff="1.5s")["retry_back_off"] == {"base_interval": "1.5s"}
    assert "retry_priority" not in policy()
    assert policy(retryRemoteLocalities=True)["retry_priority"]["name"] == "envoy.retry_priorities.previous_priorities"
    assert "retry_host_predicate" in policy()
    assert "retry_host_predicate" not in policy(retryIgnorePreviousHosts=False)


def test_the_mesh_says_how_often_where_a_route_does_not() -> None:
    mesh = "defaultHttpRetryPolicy: {attempts: 7, perTryTimeout: 1s, retryOn: gateway-error}"
    policy = routes({"route": [V1]}, mesh=mesh)[0]["route"]["retry_policy"]
    assert (policy["num_retries"], policy["per_try_timeout"], policy["retry_on"]) == (7, "1s", "gateway-error")
    assert (
        routes({"route": [V1], "retries": {"attempts": 3}}, mesh=mesh)[0]["route"]["retry_policy"]["num_retries"] == 3
    )
    other = hosts(mesh=mesh)["details.bookinfo.svc.cluster.local:9080"]["routes"][0]["route"]
    assert other["retry_policy"]["num_retries"] == 7
    never = hosts(mesh="defaultHttpRetryPolicy: {attempts: 0}")["details.bookinfo.svc.cluster.local:9080"]["routes"][0]
    assert "retry_policy" not in never["route"]
    # Istio 1.2 had no such setting.
    old = routes({"route": [V1]}, mesh=mesh, legacy=True)[0]["route"]["retry_policy"]
    assert old["num_retries"] == 2


def test_weights_become_weighted_clusters_in_order() -> None:
    action = routes({"route": [{**V1, "weight": 75}, {**V3, "weight": 25}]})[0]["route"]
    assert [(c["name"], c["weight"]) for c in action["weighted_clusters"]["clusters"]] == [
        ("outbound|9080|v1|reviews.bookinfo.svc.cluster.local", 75),
        ("outbound|9080|v3|reviews.bookinfo.svc.cluster.local", 25),
    ]


def test_a_destination_of_weight_zero_gets_nothing() -> None:
    action = routes({"route": [{**V1, "weight": 100}, {**V3, "weight": 0}]})[0]["route"]
    assert action["cluster"] == "outbound|9080|v1|reviews.bookinfo.svc.cluster.local"


def test_a_route_is_called_as_its_rule_and_its_match_are() -> None:
    paths = [{"name": "b", "uri": {"prefix": "/b"}}, {"uri": {"prefix": "/c"}}]
    found = routes({"name": "a", "match": paths, "route": [V1]}, {"match": paths, "route": [V1]}, {"route": [V1]})
    assert [one.get("name") for one in found] == ["a.b", "a", "b", None, "default"]


def test_a_destination_may_be_given_a_host_of_its_own() -> None:
    other = {**V3, "weight": 40, "headers": {"request": {"set": {"Host": "three.test"}}}}
    action = routes({"route": [{**V1, "weight": 60}, other]})[0]["route"]
    found = [one.get("host_rewrite_literal") for one in action["weighted_clusters"]["clusters"]]
    assert found == [None, "three.test"]


def test_redirect_rewrite_direct_response_and_timeout() -> None:
    redirect, rewrite, regex, direct = routes(
        {
            "match": [{"uri": {"exact": "/r"}}],
            "redirect": {"uri": "/new", "authority": "elsewhere", "redirectCode": 302, "scheme": "https", "port": 8443},
        },
        {
            "match": [{"uri": {"prefix": "/old"}}],
            "rewrite": {"uri": "/fresh", "authority": "x.y"},
            "route": [V1],
            "timeout": "0.5s",
        },
        {
            "match": [{"uri": {"regex": "/b.*"}}],
            "rewrite": {"uriRegexRewrite": {"match": "/b/(.*)", "rewrite": "/c/\\1"}},
            "route": [V1],
        },
        {"directResponse": {"status": 418, "body": {"string": "tea"}}},
    )
    assert redirect["redirect"] == {
        "path_redirect": "/new",
        "host_redirect": "elsewhere",
        "scheme_redirect": "https",
        "port_redirect": 8443,
        "response_code": "FOUND",
    }
    assert rewrite["route"]["prefix_rewrite"] == "/fresh"
    assert rewrite["route"]["host_rewrite_literal"] == "x.y"
    assert rewrite["route"]["timeout"] == "0.5s"
    assert regex["route"]["regex_rewrite"] == {"pattern": {"regex": "/b/(.*)"}, "substitution": "/c/\\1"}
    assert direct["direct_response"] == {"status": 418, "body": {"inline_string": "tea"}}


def test_faults_with_percentages_of_both_releases() -> None:
    def fault(spec: Json, *, legacy: bool = False) -> Json:
        config = routes({"fault": spec, "route": [V1]}, legacy=legacy)[0]["typed_per_filter_config"]
        return dict(config["envoy.filters.http.fault"])

    new = fault({"delay": {"percentage": {"value": 12.5}, "fixedDelay": "7s"}})
    assert new["delay"] == {"fixed_delay": "7s", "percentage": {"numerator": 125000, "denominator": "MILLION"}}
    old = fault({"abort": {"percent": 100, "httpStatus": 500}}, legacy=True)
    assert old["abort"] == {"http_status": 500, "percentage": {"numerator": 1000000, "denominator": "MILLION"}}
    unsaid = fault({"abort": {"httpStatus": 500}})
    assert unsaid["abort"]["percentage"]["numerator"] == 0


def test_mirrors_with_their_share() -> None:
    ratings = {"host": "ratings"}
    rule = {"route": [V1], "mirror": ratings, "mirrorPercentage": {"value": 10}}
    assert routes(rule)[0]["route"]["request_mirror_policies"] == [
        {
            "cluster": "outbound|9080||ratings.bookinfo.svc.cluster.local",
            "runtime_fraction": {"default_value": {"numerator": 100000, "denominator": "MILLION"}},
            "trace_sampled": False,
            "disable_shadow_host_suffix_append": True,
        }
    ]
    (copies,) = routes({"route": [V1], "mirror": ratings}, legacy=True)[0]["route"]["request_mirror_policies"]
    assert set(copies) == {"cluster", "runtime_fraction"}
    assert "request_mirror_policies" not in routes({**rule, "mirrorPercentage": {"value": 0}})[0]["route"]


def test_headers_are_set_added_and_removed_and_percent_signs_mean_themselves() -> None:
    operations = {"set": {"a": "100%%", "host": "new.host"}, "add": {"b": "%REQ(X)%"}, "remove": ["c"]}
    route = routes(
        {"route": [{**V1, "headers": {"response": {"add": {"d": "1"}}}}], "headers": {"request": operations}}
    )[0]
    added = {h["header"]["key"]: (h["header"]["value"], h["append_action"]) for h in route["request_headers_to_add"]}
    assert added == {"a": ("100%%", "OVERWRITE_IF_EXISTS_OR_ADD"), "b": ("%REQ(X)%", "APPEND_IF_EXISTS_OR_ADD")}
    assert route["request_headers_to_remove"] == ["c"]
    assert route["route"]["host_rewrite_literal"] == "new.host"
    target = route["route"]["weighted_clusters"]["clusters"][0]
    assert target["response_headers_to_add"][0]["header"] == {"key": "d", "value": "1"}


def test_cors() -> None:
    cors = {
        "allowOrigins": [{"exact": "https://a"}],
        "allowMethods": ["GET", "POST"],
        "allowHeaders": ["x"],
        "maxAge": "24h",
        "allowCredentials": True,
    }
    policy = routes({"route": [V1], "corsPolicy": cors})[0]["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert policy["allow_origin_string_match"] == [{"exact": "https://a"}]
    assert (policy["allow_methods"], policy["allow_headers"]) == ("GET,POST", "x")
    assert (policy["max_age"], policy["allow_credentials"]) == ("86400", True)


def test_consistent_hash_of_the_rule_is_in_the_route() -> None:
    rule = istio(
        "reviews",
        {
            "host": "reviews",
            "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpCookie": {"name": "u", "ttl": "0s"}}}},
        },
    )
    route = hosts(destination_rules=[rule])["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]
    assert route["route"]["hash_policy"] == [{"cookie": {"name": "u", "ttl": "0s"}}]
    # Only where a VirtualService routes is it known that another one would not do.
    assert "retry_host_predicate" in route["route"]["retry_policy"]
    (ruled,) = routes({"route": [{"destination": {"host": "reviews"}}]}, destination_rules=[rule])
    assert ruled["route"]["hash_policy"] == [{"cookie": {"name": "u", "ttl": "0s"}}]
    assert "retry_host_predicate" not in ruled["route"]["retry_policy"]


def test_delegates_bring_their_routes_under_the_roots_conditions() -> None:
    root = istio(
        "root",
        {
            "hosts": ["reviews"],
            "http": [{"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "part", "namespace": "library"}}],
        },
    )
    part = istio(
        "part",
        {
            "http": [
                {"match": [{"uri": {"prefix": "/a/b"}}], "route": [V1]},
                {"match": [{"uri": {"prefix": "/z"}}], "route": [V3]},
            ]
        },
        "library",
    )
    found = hosts(virtual_services=[root, part])["reviews.bookinfo.svc.cluster.local:9080"]["routes"]
    assert [r["match"] for r in found] == [{"prefix": "/a/b"}]
    assert found[0]["route"]["cluster"] == "outbound|9080|v1|reviews.library.svc.cluster.local"


def test_a_match_that_cannot_hold_hides_none_that_follows() -> None:
    matches = [{"port": 1, "uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}]
    (found,) = routes({"match": matches, "route": [V1]})
    assert found["match"] == {"prefix": "/b"}


def test_a_delay_may_say_its_share_as_istio_1_0_did() -> None:
    fault = {"delay": {"percent": 50, "fixedDelay": "1s"}}
    found = routes({"fault": fault, "route": [V1]})[0]["typed_per_filter_config"]["envoy.filters.http.fault"]
    assert found["delay"]["percentage"] == {"numerator": 500000, "denominator": "MILLION"}


def test_of_a_port_that_is_not_there_no_policy_is_known() -> None:
    hashed = {"host": "reviews", "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}}
    rules = [istio("reviews", hashed)]
    here = {"destination": {"host": "reviews", "port": {"number": 9080}}}
    away = {"destination": {"host": "reviews", "port": {"number": 1234}}}
    assert "hash_policy" in routes({"route": [here]}, destination_rules=rules)[0]["route"]
    assert "hash_policy" not in routes({"route": [away]}, destination_rules=rules)[0]["route"]


def test_a_redirect_to_the_port_of_the_request_names_no_port_of_plain_http() -> None:
    spec = {"hosts": ["web.test"], "http": [{"redirect": {"uri": "/b", "derivePort": "FROM_REQUEST_PORT"}}]}
    (route,) = hosts("80", virtual_services=[istio("web", spec)])["web.test:80"]["routes"]
    assert route["redirect"] == {"path_redirect": "/b", "response_code": "MOVED_PERMANENTLY"}
