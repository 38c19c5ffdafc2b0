# SPDX-License-Identifier: Apache-2.0
"""Services and DestinationRules as clusters, without any Envoy."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.addresses import LOW_PORT_SHIFT, AddressPlan
from meshbox.mesh.model import protocol_of
from meshbox.mesh.translate import translate

from .objects import SLICES, bookinfo, endpoints, istio, pod, service, snapshot, stored, workload
from .whole import whole_clusters

Json = dict[str, Any]

REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"
NO_LIMIT = 4294967295


def clusters(
    *, legacy: bool = False, source: str = "productpage-v1", namespace: str = "bookinfo", **objects: Any
) -> dict[str, Json]:
    snap = snapshot(legacy=legacy, **objects)
    return whole_clusters(translate(snap, workload(snap, source, namespace)))


def rule(spec: Json, *, namespace: str = "bookinfo", name: str = "reviews", age: int = 0) -> Json:
    return istio(name, {"host": "reviews.bookinfo.svc.cluster.local", **spec}, namespace, age)


def policy(**spec: Any) -> Json:
    return clusters(destination_rules=[rule({"trafficPolicy": spec})])[REVIEWS]


def addresses(cluster: Json) -> list[str]:
    return [
        e["endpoint"]["address"]["socket_address"]["address"]
        for group in cluster["load_assignment"]["endpoints"]
        for e in group["lb_endpoints"]
    ]


def test_a_subset_holds_the_pods_with_its_labels() -> None:
    found = clusters(
        destination_rules=[rule({"subsets": [{"name": f"v{n}", "labels": {"version": f"v{n}"}} for n in (1, 2)]})]
    )
    assert addresses(found[REVIEWS]) == ["127.99.64.4", "127.99.64.5", "127.99.64.6"]
    assert addresses(found["outbound|9080|v1|reviews.bookinfo.svc.cluster.local"]) == ["127.99.64.4"]
    assert addresses(found["outbound|9080|v2|reviews.bookinfo.svc.cluster.local"]) == ["127.99.64.5"]
    assert "outbound|9080|v3|reviews.bookinfo.svc.cluster.local" not in found


def test_pods_that_are_not_ready_get_nothing() -> None:
    services, pods = bookinfo()
    (held,) = endpoints(services[3:], pods)[SLICES]
    held["endpoints"][1]["conditions"] = {"ready": False}
    held["endpoints"][2]["conditions"] = {"ready": True}
    snap = snapshot(kept={SLICES: [stored(SLICES, held)]})
    found = whole_clusters(translate(snap, workload(snap, "details-v1")))
    assert addresses(found[REVIEWS]) == ["127.99.64.4", "127.99.64.6"]


def test_istio_lifts_envoys_limits() -> None:
    thresholds = clusters()[REVIEWS]["circuit_breakers"]["thresholds"][0]
    assert {thresholds[k] for k in ("max_connections", "max_pending_requests", "max_requests", "max_retries")} == {
        NO_LIMIT
    }


@pytest.mark.parametrize(("legacy", "name"), [(True, "ROUND_ROBIN"), (False, "LEAST_REQUEST")])
def test_load_balancing_by_default_is_the_releases_own(legacy: bool, name: str) -> None:
    assert clusters(legacy=legacy)[REVIEWS]["lb_policy"] == name


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        ({"simple": "RANDOM"}, {"lb_policy": "RANDOM"}),
        ({"simple": "LEAST_CONN"}, {"lb_policy": "LEAST_REQUEST"}),
        ({"simple": "PASSTHROUGH"}, {"lb_policy": "CLUSTER_PROVIDED", "type": "ORIGINAL_DST"}),
        (
            {"consistentHash": {"httpHeaderName": "x"}},
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}},
        ),
        (
            {"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 65537}}},
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 65537}},
        ),
    ],
)
def test_load_balancers(balancer: Json, expected: Json) -> None:
    cluster = policy(loadBalancer=balancer)
    assert {key: cluster[key] for key in expected} == expected


def test_connection_pool() -> None:
    pool = {
        "tcp": {"maxConnections": 1, "connectTimeout": "30ms", "tcpKeepalive": {"time": "7200s", "interval": "75s"}},
        "http": {
            "http1MaxPendingRequests": 2,
            "http2MaxRequests": 3,
            "maxRequestsPerConnection": 4,
            "maxRetries": 5,
            "idleTimeout": "6s",
        },
    }
    cluster = policy(connectionPool=pool)
    thresholds = cluster["circuit_breakers"]["thresholds"][0]
    assert [thresholds[k] for k in ("max_connections", "max_pending_requests", "max_requests", "max_retries")] == [
        1,
        2,
        3,
        5,
    ]
    assert cluster["connect_timeout"] == "0.03s"
    assert cluster["upstream_connection_options"]["tcp_keepalive"] == {"keepalive_time": 7200, "keepalive_interval": 75}
    options = next(iter(cluster["typed_extension_protocol_options"].values()))
    assert options["common_http_protocol_options"] == {"max_requests_per_connection": 4, "idle_timeout": "6s"}


def test_outlier_detection() -> None:
    cluster = policy(
        outlierDetection={
            "consecutive5xxErrors": 3,
            "interval": "1s",
            "baseEjectionTime": "3m",
            "maxEjectionPercent": 100,
            "minHealthPercent": 50,
        }
    )
    found = cluster["outlier_detection"]
    assert (found["consecutive_5xx"], found["interval"], found["base_ejection_time"]) == (3, "1s", "180s")
    assert found["max_ejection_percent"] == 100
    assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 50.0}


def test_consecutive_errors_mean_gateway_failures_in_the_old_release() -> None:
    spec = rule({"trafficPolicy": {"outlierDetection": {"consecutiveErrors": 2}}})
    found = clusters(legacy=True, destination_rules=[spec])[REVIEWS]["outlier_detection"]
    assert found["consecutive_gateway_failure"] == 2
    assert found["enforcing_consecutive_5xx"] == 0


def test_a_ports_own_settings_replace_the_hosts() -> None:
    spec = {
        "connectionPool": {"tcp": {"maxConnections": 9}},
        "loadBalancer": {"simple": "RANDOM"},
        "portLevelSettings": [{"port": {"number": 9080}, "loadBalancer": {"simple": "ROUND_ROBIN"}}],
    }
    cluster = policy(**spec)
    assert cluster["lb_policy"] == "ROUND_ROBIN"
    assert cluster["circuit_breakers"]["thresholds"][0]["max_connections"] == NO_LIMIT


def test_a_subsets_policy_overrides_part_by_part() -> None:
    spec = {
        "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}, "connectionPool": {"tcp": {"maxConnections": 9}}},
        "subsets": [
            {"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}}
        ],
    }
    cluster = clusters(destination_rules=[rule(spec)])["outbound|9080|v1|reviews.bookinfo.svc.cluster.local"]
    assert cluster["lb_policy"] == "ROUND_ROBIN"
    assert cluster["circuit_breakers"]["thresholds"][0]["max_connections"] == 9


def test_the_clients_namespace_is_asked_before_the_services_and_the_root() -> None:
    def named(balancer: str, namespace: str) -> Json:
        return rule({"trafficPolicy": {"loadBalancer": {"simple": balancer}}}, namespace=namespace)

    client = pod("client-v1", "127.99.64.30", namespace="library")
    everywhere = [named("RANDOM", "istio-system"), named("ROUND_ROBIN", "bookinfo")]
    found = clusters(source="client-v1", namespace="library", pods=[client], destination_rules=everywhere)
    assert found[REVIEWS]["lb_policy"] == "ROUND_ROBIN"
    own = [*everywhere, named("LEAST_REQUEST", "library")]
    found = clusters(source="client-v1", namespace="library", pods=[client], destination_rules=own)
    assert found[REVIEWS]["lb_policy"] == "LEAST_REQUEST"


def test_sidecars_are_met_with_mtls_today_and_others_in_plain_text() -> None:
    stranger = pod("reviews-v9", "127.99.64.40", role="", version="v9", app="reviews")
    cluster = clusters(pods=[stranger])[REVIEWS]
    names = [m["name"] for m in cluster["transport_socket_matches"]]
    assert names == ["tlsMode-istio", "tlsMode-disabled"]
    metadata = {
        e["endpoint"]["address"]["socket_address"]["address"]: "envoy.transport_socket_match"
        in e["metadata"]["filter_metadata"]
        for e in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    }
    assert metadata == {"127.99.64.4": True, "127.99.64.5": True, "127.99.64.6": True, "127.99.64.40": False}


def test_the_old_release_speaks_plain_text_until_a_rule_asks_for_more() -> None:
    assert "transport_socket_matches" not in clusters(legacy=True)[REVIEWS]
    assert "transport_socket" not in clusters(legacy=True)[REVIEWS]
    mutual = rule({"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}})
    socket = clusters(legacy=True, destination_rules=[mutual])[REVIEWS]["transport_socket"]["typed_config"]
    assert socket["sni"] == "outbound_.9080_._.reviews.bookinfo.svc.cluster.local"
    names = socket["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    assert names["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews"}}
    ]


def test_a_rule_can_switch_mtls_off_or_originate_tls() -> None:
    assert "transport_socket_matches" not in policy(tls={"mode": "DISABLE"})
    simple = policy(tls={"mode": "SIMPLE", "sni": "a.b"})["transport_socket"]["typed_config"]
    assert simple["sni"] == "a.b"
    assert "tls_certificate_sds_secret_configs" not in simple["common_tls_context"]


@pytest.mark.parametrize(
    ("resolution", "kind", "endpoints"),
    [("DNS", "STRICT_DNS", []), ("NONE", "ORIGINAL_DST", None), ("STATIC", "EDS", [{"address": "10.1.2.3"}])],
)
def test_service_entries(resolution: str, kind: str, endpoints: list[Json] | None) -> None:
    spec = {
        "hosts": ["api.example.com"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": resolution,
        **({} if endpoints is None else {"endpoints": endpoints}),
    }
    cluster = clusters(service_entries=[istio("api", spec)])["outbound|80||api.example.com"]
    assert cluster["type"] == kind
    # What lies outside the mesh is never asked for an identity of it.
    assert "transport_socket_matches" not in cluster
    if kind == "EDS":
        assert addresses(cluster) == ["10.1.2.3"]


def test_an_external_name_that_is_a_service_leads_to_its_pods() -> None:
    alias = service(
        "books", ("http", 9080), type="ExternalName", externalName="reviews.bookinfo.svc.cluster.local", selector={}
    )
    cluster = clusters(services=[alias])["outbound|9080||books.bookinfo.svc.cluster.local"]
    assert addresses(cluster) == ["127.99.64.4", "127.99.64.5", "127.99.64.6"]


def test_low_ports_are_shifted_where_they_cannot_be_bound() -> None:
    web = pod("web-v1", "127.99.64.50", ports=(80,), app="web")
    found = clusters(plan=AddressPlan(99, low_ports=False), pods=[web], services=[service("web", ("http", 80))])
    endpoint = found["outbound|80||web.bookinfo.svc.cluster.local"]["load_assignment"]["endpoints"][0]["lb_endpoints"][
        0
    ]
    assert endpoint["endpoint"]["address"]["socket_address"]["port_value"] == 80 + LOW_PORT_SHIFT


def test_every_proxy_can_pass_through_and_drop() -> None:
    assert {"PassthroughCluster", "BlackHoleCluster", "PassthroughCluster_by_name"} <= set(clusters())


@pytest.mark.parametrize(
    ("name", "number", "app_protocol", "legacy", "expected"),
    [
        ("http", 80, "", True, "HTTP"),
        ("http-web", 80, "", False, "HTTP"),
        ("http2", 80, "", False, "HTTP2"),
        ("grpc-web", 80, "", False, "GRPC-WEB"),
        ("grpc-xds", 80, "", True, "GRPC"),
        ("https", 443, "", False, "HTTPS"),
        ("tcp", 1, "", False, "TCP"),
        ("query-http", 16686, "", True, "TCP"),
        ("query-http", 16686, "", False, "AUTO"),
        ("", 9000, "", True, "TCP"),
        ("", 3306, "", False, "TCP"),
        ("web", 80, "http", False, "HTTP"),
        ("web", 80, "kubernetes.io/h2c", False, "HTTP2"),
    ],
)
def test_protocols_are_told_by_the_ports_name(
    name: str, number: int, app_protocol: str, legacy: bool, expected: str
) -> None:
    assert protocol_of(name, number, app_protocol, legacy=legacy) == expected


def test_endpoints_serve_where_there_are_no_slices() -> None:
    snap = snapshot(legacy=True)
    assert snap.all(SLICES) == []
    found = whole_clusters(translate(snap, workload(snap, "details-v1")))
    assert addresses(found[REVIEWS]) == ["127.99.64.4", "127.99.64.5", "127.99.64.6"]
    assert endpoints([], []) == {SLICES: []}


@pytest.mark.parametrize(
    ("port", "options"),
    [
        ("http", None),
        ("tcp", None),
        ("http2", {"explicit_http_config": {"http2_protocol_options": {}}}),
        ("grpc", {"explicit_http_config": {"http2_protocol_options": {}}}),
        ("", {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}),
    ],
)
def test_an_applications_own_port_speaks_what_its_service_says(port: str, options: Json | None) -> None:
    own = pod("own-v1", "127.99.64.60", ports=(7000,), app="own")
    found = clusters(source="own-v1", pods=[own], services=[service("own", (port, 7000))])["inbound|7000||"]
    extensions = found.pop("typed_extension_protocol_options", None)
    assert (extensions is None) is (options is None)
    for extension in (extensions or {}).values():
        assert {key: value for key, value in extension.items() if key != "@type"} == options
    where = {"socket_address": {"address": "127.99.128.60", "port_value": 7000}}
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), NO_LIMIT)
    assert found == {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "inbound|7000||",
        "alt_stat_name": "inbound|7000||;",
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [limits]},
        "metadata": {
            "filter_metadata": {
                "istio": {
                    "services": [{"host": "own.bookinfo.svc.cluster.local", "name": "own", "namespace": "bookinfo"}]
                }
            }
        },
        "load_assignment": {
            "cluster_name": "inbound|7000||",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": where}}]}],
        },
    }


def test_what_is_passed_through_goes_by_address_or_by_name() -> None:
    found = clusters()
    by_address, by_name = found["PassthroughCluster"], found["PassthroughCluster_by_name"]
    assert (by_address["type"], by_address["lb_policy"]) == ("ORIGINAL_DST", "CLUSTER_PROVIDED")
    assert by_name["cluster_type"]["name"] == "envoy.clusters.dynamic_forward_proxy"
    cache = by_name["cluster_type"]["typed_config"]["dns_cache_config"]
    assert cache == {"name": "http_proxy", "dns_lookup_family": "V4_ONLY"}
    # Both are told apart by nobody who counts.
    assert by_name["metadata"] == by_address["metadata"]


def test_a_cluster_and_its_pods_say_whose_they_are() -> None:
    found = clusters()["outbound|9080||details.bookinfo.svc.cluster.local"]
    istio_says = found["metadata"]["filter_metadata"]["istio"]
    assert {key: istio_says[key] for key in ("service", "service_name", "service_namespace")} == {
        "service": "details.bookinfo.svc.cluster.local",
        "service_name": "details",
        "service_namespace": "bookinfo",
    }
    assert istio_says["services"] == [
        {"host": "details.bookinfo.svc.cluster.local", "name": "details", "namespace": "bookinfo"}
    ]
    assert "subset" not in istio_says
    assert "config" not in istio_says
    (endpoint,) = found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["metadata"]["filter_metadata"]["istio"] == {
        "workload": "details-v1",
        "namespace": "bookinfo",
        "canonical_service": "details",
        "canonical_revision": "v1",
        "app": "details",
        "version": "v1",
        "cluster": "Kubernetes",
        "principal": "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-details",
    }


def test_names_are_asked_of_dns_as_often_as_they_may_change() -> None:
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    entry = istio("api", {"hosts": ["api.example.com"], "ports": [port], "resolution": "DNS"})
    found = clusters(service_entries=[entry])["outbound|80||api.example.com"]
    fields = ("dns_lookup_family", "dns_refresh_rate", "respect_dns_ttl")
    assert {key: found[key] for key in fields} == dict(zip(fields, ("V4_ONLY", "60s", True), strict=True))
    assert not set(fields) & set(clusters()[REVIEWS])
