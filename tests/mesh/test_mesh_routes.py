"""VirtualServices as route tables, without any Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.mesh.translate import translate

from .objects import istio, pod, service, snapshot, workload

Json = dict[str, Any]

V1 = {"destination": {"host": "reviews", "subset": "v1"}}
V3 = {"destination": {"host": "reviews", "subset": "v3"}}


def hosts(
    table: str = "9080", *, legacy: bool = False, source: str = "productpage-v1", **objects: Any
) -> dict[str, Json]:
    snap = snapshot(legacy=legacy, **objects)
    config = translate(snap, workload(snap, source))
    return {h["name"]: h for h in json.loads(config.routes[table])["virtual_hosts"]}


def routes(*rules: Json, legacy: bool = False, **objects: Any) -> list[Json]:
    found = hosts(
        legacy=legacy, virtual_services=[istio("reviews", {"hosts": ["reviews"], "http": list(rules)})], **objects
    )
    return list(found["reviews.bookinfo.svc.cluster.local:9080"]["routes"])


@pytest.mark.parametrize("legacy", [True, False])
def test_every_service_of_a_port_is_a_virtual_host_under_all_its_names(legacy: bool) -> None:
    found = hosts(legacy=legacy)
    assert set(found) == {
        *(f"{n}.bookinfo.svc.cluster.local:9080" for n in ("productpage", "details", "ratings", "reviews")),
        "allow_any",
    }
    domains = found["reviews.bookinfo.svc.cluster.local:9080"]["domains"]
    for name in ("reviews", "reviews.bookinfo", "reviews.bookinfo.svc", "reviews.bookinfo.svc.cluster.local"):
        assert name in domains
        assert f"{name}:9080" in domains
    default = found["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]
    assert default["route"]["cluster"] == "outbound|9080||reviews.bookinfo.svc.cluster.local"
    assert default["decorator"]["operation"] == "reviews.bookinfo.svc.cluster.local:9080/*"


def test_a_service_of_another_namespace_has_no_short_name() -> None:
    other = service("books", namespace="library")
    found = hosts(services=[other])
    domains = found["books.library.svc.cluster.local:9080"]["domains"]
    assert "books" not in domains
    assert "books.library" in domains


def test_no_domain_appears_twice_in_a_table() -> None:
    entry = istio("own", {"hosts": ["reviews"], "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}]})
    snap = snapshot(service_entries=[entry])
    for table in translate(snap, workload(snap, "details-v1")).routes.values():
        domains = [d for h in json.loads(table)["virtual_hosts"] for d in h["domains"]]
        assert len(domains) == len(set(domains))


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


def test_weights_become_weighted_clusters_in_order() -> None:
    action = routes({"route": [{**V1, "weight": 75}, {**V3, "weight": 25}]})[0]["route"]
    assert [(c["name"], c["weight"]) for c in action["weighted_clusters"]["clusters"]] == [
        ("outbound|9080|v1|reviews.bookinfo.svc.cluster.local", 75),
        ("outbound|9080|v3|reviews.bookinfo.svc.cluster.local", 25),
    ]


def test_a_destination_of_weight_zero_gets_nothing() -> None:
    action = routes({"route": [{**V1, "weight": 100}, {**V3, "weight": 0}]})[0]["route"]
    assert action["cluster"] == "outbound|9080|v1|reviews.bookinfo.svc.cluster.local"


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
            {"prefix": "/", "headers": [{"name": "x", "string_match": {"prefix": "a"}, "invert_match": True}]},
        ),
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


def test_what_follows_a_catch_all_is_left_out() -> None:
    found = routes({"match": [{"uri": {"prefix": "/x"}}], "route": [V3]}, {"route": [V1]}, {"route": [V3]})
    assert len(found) == 2


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
    def fault(spec: Json) -> Json:
        config = routes({"fault": spec, "route": [V1]})[0]["typed_per_filter_config"]
        return dict(config["envoy.filters.http.fault"])

    new = fault({"delay": {"percentage": {"value": 12.5}, "fixedDelay": "7s"}})
    assert new["delay"] == {"fixed_delay": "7s", "percentage": {"numerator": 125000, "denominator": "MILLION"}}
    old = fault({"abort": {"percent": 100, "httpStatus": 500}})
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
        }
    ]
    assert "request_mirror_policies" not in routes({**rule, "mirrorPercentage": {"value": 0}})[0]["route"]


def test_headers_are_set_added_and_removed_and_percent_signs_mean_themselves() -> None:
    operations = {"set": {"a": "100%", "host": "new.host"}, "add": {"b": "%REQ(X)%"}, "remove": ["c"]}
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


def test_of_two_virtual_services_the_more_specific_then_the_older_speaks_for_a_host() -> None:
    def named(name: str, host: str, age: int) -> Json:
        rule = {"name": name, "route": [V1]}
        return istio(name, {"hosts": [host], "http": [rule]}, age=age)

    found = hosts(
        virtual_services=[
            named("wild", "*.bookinfo.svc.cluster.local", 0),
            named("young", "reviews", 5),
            named("old", "reviews", 1),
        ]
    )
    assert found["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]["name"] == "old"
    assert found["details.bookinfo.svc.cluster.local:9080"]["routes"][0]["name"] == "wild"


def test_a_virtual_service_of_a_gateway_leaves_the_mesh_alone() -> None:
    only = istio("r", {"hosts": ["reviews"], "gateways": ["gw"], "http": [{"route": [V3]}]})
    route = hosts(virtual_services=[only])["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]
    assert route["route"]["cluster"] == "outbound|9080||reviews.bookinfo.svc.cluster.local"


def test_export_keeps_a_virtual_service_in_its_namespace() -> None:
    private = istio(
        "r", {"hosts": ["reviews.bookinfo.svc.cluster.local"], "exportTo": ["."], "http": [{"route": [V3]}]}, "library"
    )
    route = hosts(virtual_services=[private])["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]
    assert route["route"]["cluster"] == "outbound|9080||reviews.bookinfo.svc.cluster.local"


def test_a_sidecar_narrows_what_a_proxy_sees() -> None:
    sidecar = istio(
        "default",
        {
            "egress": [{"hosts": ["./ratings.bookinfo.svc.cluster.local"]}],
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        },
    )
    found = hosts(sidecars=[sidecar])
    assert set(found) == {"ratings.bookinfo.svc.cluster.local:9080", "block_all"}
    assert found["block_all"]["routes"][0]["direct_response"]["status"] == 502


def test_a_sidecar_for_some_workloads_leaves_others_alone() -> None:
    sidecar = istio("few", {"workloadSelector": {"labels": {"app": "ratings"}}, "egress": [{"hosts": ["./*"]}]})
    far = service("far", namespace="library")
    mine = hosts(sidecars=[sidecar], services=[far], source="ratings-v1")
    other = hosts(sidecars=[sidecar], services=[far], source="details-v1")
    assert "far.library.svc.cluster.local:9080" not in mine
    assert "far.library.svc.cluster.local:9080" in other


def test_unknown_hosts_pass_or_are_refused_as_the_mesh_says() -> None:
    assert hosts()["allow_any"]["routes"][0]["route"]["cluster"] == "PassthroughCluster"
    closed = hosts(mesh="outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    assert closed["block_all"]["routes"][0]["direct_response"]["status"] == 502


def test_the_proxy_port_serves_every_port_of_every_host() -> None:
    found = hosts("http_proxy", services=[service("web", ("http", 80)), service("db", ("tcp-db", 5000))])
    assert "reviews:9080" in found["reviews.bookinfo.svc.cluster.local:9080"]["domains"]
    assert "reviews" not in found["reviews.bookinfo.svc.cluster.local:9080"]["domains"]
    assert {"web", "web:80"} <= set(found["web.bookinfo.svc.cluster.local:80"]["domains"])
    tunnel = found["db.bookinfo.svc.cluster.local:5000"]["routes"][0]
    assert tunnel["match"] == {"connect_matcher": {}}
    # A call to an address that nobody captured must never come back to the proxy itself.
    assert found["allow_any"]["routes"][-1]["route"]["cluster"] == "PassthroughCluster_by_name"


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
    assert "retry_host_predicate" not in route["route"]["retry_policy"]


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


@pytest.mark.parametrize(
    ("legacy", "name"), [(True, "inbound|9080|http|ratings.bookinfo.svc.cluster.local"), (False, "inbound|9080||")]
)
def test_inbound_tables_have_the_releases_name(legacy: bool, name: str) -> None:
    table = hosts(name, legacy=legacy, source="ratings-v1")
    assert table["inbound|http|9080"]["routes"][0]["route"]["cluster"] == name


def test_tables_are_made_of_the_same_bytes_for_proxies_that_see_the_same() -> None:
    snap = snapshot(pods=[pod("other-v1", "127.99.64.20")])
    one = translate(snap, workload(snap, "details-v1"))
    two = translate(snap, workload(snap, "other-v1"))
    assert one.routes["9080"] is two.routes["9080"]
    assert (
        one.clusters["outbound|9080||reviews.bookinfo.svc.cluster.local"]
        is two.clusters["outbound|9080||reviews.bookinfo.svc.cluster.local"]
    )
