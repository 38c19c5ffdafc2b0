# SPDX-License-Identifier: Apache-2.0
"""What clusters say besides where they lead: names, metadata, the ones every proxy has, and the one for spans."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.translate import translate

from .objects import istio, pod, service, snapshot, workload
from .whole import whole_clusters

Json = dict[str, Any]

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
NO_LIMIT = 4294967295
DATABASE = "outbound|5432||db.bookinfo.svc.cluster.local"


def clusters(*, legacy: bool = False, source: str = "productpage-v1", **objects: Any) -> dict[str, Json]:
    snap = snapshot(legacy=legacy, **objects)
    return whole_clusters(translate(snap, workload(snap, source, "bookinfo")))


def test_every_proxy_can_pass_on_and_refuse() -> None:
    limits = {"thresholds": [{"max_connections": NO_LIMIT, "max_requests": NO_LIMIT}]}
    outside = {"filter_metadata": {"istio": {"service_name": "PassthroughCluster"}}}
    common = {"@type": CLUSTER, "connect_timeout": "10s"}
    passing = {**common, "circuit_breakers": limits, "lb_policy": "CLUSTER_PROVIDED", "metadata": outside}
    passing["alt_stat_name"] = "PassthroughCluster;"
    found = clusters()
    assert found["PassthroughCluster"] == {**passing, "name": "PassthroughCluster", "type": "ORIGINAL_DST"}
    by_name = found["PassthroughCluster_by_name"]
    assert by_name.pop("cluster_type")["typed_config"]["dns_cache_config"]["name"] == "http_proxy"
    assert by_name == {**passing, "name": "PassthroughCluster_by_name"}
    nowhere = {"filter_metadata": {"istio": {"service_name": "BlackHoleCluster"}}}
    counted = {"metadata": nowhere, "alt_stat_name": "BlackHoleCluster;"}
    assert found["BlackHoleCluster"] == {**common, "name": "BlackHoleCluster", "type": "STATIC", **counted}


def test_the_old_release_says_nothing_of_what_it_passes_on() -> None:
    found = clusters(legacy=True)
    assert "metadata" not in found["PassthroughCluster"]
    assert "metadata" not in found["BlackHoleCluster"]


def test_the_old_release_names_what_comes_in_after_the_service_or_as_management() -> None:
    own = pod("own-v1", "127.99.64.60", ports=(7000, 7001), app="own")
    served = service("own", ports=[{"name": "http-own", "port": 80, "targetPort": 7000}])
    found = clusters(legacy=True, source="own-v1", pods=[own], services=[served])
    assert [name for name in found if name.startswith("inbound|")] == [
        "inbound|80|http-own|own.bookinfo.svc.cluster.local",
        "inbound|7001||mgmtCluster",
    ]
    found = clusters(source="own-v1", pods=[own], services=[served])
    assert [name for name in found if name.startswith("inbound|")] == ["inbound|7000||", "inbound|7001||"]


def test_a_port_that_is_not_tcp_has_no_cluster() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    served = service("dns", ports=[*ports, {"name": "udp", "port": 54, "protocol": "UDP"}])
    names = [name for name in clusters(services=[served]) if "|dns." in name]
    assert names == ["outbound|53||dns.bookinfo.svc.cluster.local"]


@pytest.mark.parametrize(("legacy", "namespace"), [(True, "unknown"), (False, "bookinfo")])
def test_where_an_outside_host_was_defined_is_not_told_by_the_old_release(legacy: bool, namespace: str) -> None:
    ports = [{"number": 443, "name": "tls", "protocol": "TLS"}]
    entry = istio("api", {"hosts": ["api.example.com"], "ports": ports, "resolution": "NONE"})
    found = clusters(legacy=legacy, service_entries=[entry])
    outside = found["outbound|443||api.example.com"]
    assert outside["metadata"]["filter_metadata"]["istio"]["service_namespace"] == namespace
    # It goes wherever the caller was going: Envoy chooses among nothing.
    assert (outside["type"], outside["lb_policy"]) == ("ORIGINAL_DST", "CLUSTER_PROVIDED")
    assert "load_assignment" not in outside
    inside = found["outbound|9080||details.bookinfo.svc.cluster.local"]
    assert inside["metadata"]["filter_metadata"]["istio"]["service_namespace"] == "bookinfo"


@pytest.mark.parametrize(
    ("mode", "port", "role", "match"),
    [
        ("STRICT", "tcp", "sidecar", {"tlsMode": "istio", "proxy": "sidecar"}),
        ("DISABLE", "tcp", "sidecar", {"proxy": "sidecar"}),
        ("STRICT", "http", "sidecar", {"tlsMode": "istio"}),
        ("DISABLE", "http", "sidecar", None),
        ("STRICT", "tcp", "", None),
    ],
)
def test_an_endpoint_says_what_its_proxy_understands(mode: str, port: str, role: str, match: Json | None) -> None:
    pods = [pod("db-v1", "127.99.64.60", role=role, ports=(5432,)), pod("caller-v1", "127.99.64.61")]
    mtls = istio("default", {"mtls": {"mode": mode}})
    found = clusters(
        source="caller-v1", pods=pods, services=[service("db", (port, 5432))], peer_authentications=[mtls]
    )[DATABASE]
    (endpoint,) = found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["metadata"]["filter_metadata"].get("envoy.transport_socket_match") == match
    assert endpoint["load_balancing_weight"] == 1


def test_grpc_from_browsers_comes_in_as_http2() -> None:
    own = pod("own-v1", "127.99.64.60", ports=(7000,), app="own")
    found = clusters(source="own-v1", pods=[own], services=[service("own", ("grpc-web", 7000))])["inbound|7000||"]
    (options,) = found["typed_extension_protocol_options"].values()
    assert options["explicit_http_config"] == {"http2_protocol_options": {}}


@pytest.mark.parametrize("name", ["details.bookinfo.svc.cluster.local", "details.bookinfo.svc.cluster.local."])
def test_a_name_that_is_a_service_leads_to_its_endpoints(name: str) -> None:
    alias = service("alias", ("http", 9080), type="ExternalName", externalName=name)
    found = clusters(services=[alias])["outbound|9080||alias.bookinfo.svc.cluster.local"]
    assert found["type"] == "EDS"
    (endpoint,) = found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"]["address"] == "127.99.64.2"


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("zipkin.tracing:9411", "127.99.64.70"),
        ("zipkin.tracing.svc.cluster.local:9411", "127.99.64.70"),
        ("zipkin.tracing", "127.99.64.70"),
        ("zipkin", "127.99.64.71"),
        ("zipkin:9412", "127.99.64.71"),
        ("zipkin.tracing:9412", ""),
        ("jaeger.tracing:9411", ""),
    ],
)
def test_spans_go_to_the_service_that_the_mesh_names(told: str, address: str) -> None:
    there = [
        service("zipkin", ("http", 9411), namespace="tracing"),
        service("zipkin", ("http", 9411), ("http-more", 9412), namespace="istio-system"),
    ]
    pods = [
        pod("zipkin-0", "127.99.64.70", namespace="tracing", role="", app="zipkin"),
        pod("zipkin-1", "127.99.64.71", namespace="istio-system", role="", app="zipkin"),
        pod("caller-v1", "127.99.64.61"),
    ]
    mesh = f"enableTracing: true\ndefaultConfig: {{tracing: {{zipkin: {{address: '{told}'}}}}}}"
    found = clusters(source="caller-v1", mesh=mesh, services=there, pods=pods)["zipkin"]
    groups = found.pop("load_assignment")
    assert found == {"@type": CLUSTER, "name": "zipkin", "type": "STATIC", "connect_timeout": "1s"}
    assert groups["cluster_name"] == "zipkin"
    addresses = [
        one["endpoint"]["address"]["socket_address"]["address"]
        for group in groups["endpoints"]
        for one in group["lb_endpoints"]
    ]
    assert addresses == ([address] if address else [])


def test_a_cluster_says_its_own_name() -> None:
    rule = istio("reviews", {"host": "reviews", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]})
    found = clusters(destination_rules=[rule])
    name = "outbound|9080|v1|reviews.bookinfo.svc.cluster.local"
    subset = found[name]
    assert (subset["name"], subset["alt_stat_name"]) == (name, f"{name};")
    assert subset["load_assignment"]["cluster_name"] == name
    assert subset["metadata"]["filter_metadata"]["istio"]["subset"] == "v1"
