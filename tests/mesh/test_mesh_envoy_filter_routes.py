# SPDX-License-Identifier: Apache-2.0
"""What each operation of an EnvoyFilter makes of route tables and clusters."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.envoy_filters.patches import patches
from meshbox.mesh.envoy_filters.routes import patched_table
from meshbox.mesh.envoy_filters.site import Site

from .objects import PLAN
from .patching import Obj, envoy_filter, made, patch, read

HOST = "reviews.bookinfo.svc.cluster.local:9080"


def in_host(name: str = HOST, table: str = "9080", **vhost: Any) -> Obj:
    return {"routeConfiguration": {"name": table, "vhost": {"name": name, **vhost}}}


def hosts(*patches: Obj, table: str = "9080") -> dict[str, Obj]:
    found = read(made(envoy_filter(*patches)).config.routes, table)["virtual_hosts"]
    return {one["name"]: one for one in found}


def test_route_tables() -> None:
    match = {"routeConfiguration": {"portNumber": 9080}}
    config = made(envoy_filter(patch("ROUTE_CONFIGURATION", "MERGE", {"internalOnlyHeaders": ["x"]}, **match))).config
    found = {name for name in config.routes if read(config.routes, name).get("internal_only_headers") == ["x"]}
    assert found == {"9080", "inbound|9080||"}


@pytest.mark.parametrize("table", ["9080", "http_proxy"])
def test_virtual_hosts(table: str) -> None:
    merge = patch("VIRTUAL_HOST", "MERGE", {"domains": ["more.test"]}, **in_host())
    found = hosts(merge, table=table)
    assert found[HOST]["domains"][-1] == "more.test"
    assert "more.test" not in found["client.bookinfo.svc.cluster.local:9080"]["domains"]
    assert HOST not in hosts(patch("VIRTUAL_HOST", "REMOVE", None, **in_host()), table=table)


def test_a_virtual_host_is_added_or_replaced() -> None:
    own = {"name": "own", "domains": ["own.test"]}
    table = {"routeConfiguration": {"name": "9080"}}
    assert hosts(patch("VIRTUAL_HOST", "ADD", own, **table))["own"] == own
    replaced = hosts(patch("VIRTUAL_HOST", "REPLACE", own, **in_host()))
    assert (replaced["own"], HOST in replaced) == (own, False)


@pytest.mark.parametrize(
    ("operation", "route", "expected"),
    [
        ("ADD", {}, ["default", "own"]),
        ("INSERT_FIRST", {}, ["own", "default"]),
        ("INSERT_BEFORE", {"name": "default"}, ["own", "default"]),
        ("INSERT_AFTER", {"name": "default"}, ["default", "own"]),
        ("INSERT_AFTER", {"name": "other"}, ["default"]),
        ("INSERT_BEFORE", {"action": "REDIRECT"}, ["default"]),
        ("INSERT_BEFORE", {"action": "ROUTE"}, ["own", "default"]),
        ("REMOVE", {"name": "default"}, []),
    ],
)
def test_routes(operation: str, route: Obj, expected: list[str]) -> None:
    own = {"name": "own", "match": {"prefix": "/"}, "directResponse": {"status": 418}}
    vhost = {"route": route} if route else {}
    found = hosts(patch("HTTP_ROUTE", operation, own, **in_host(**vhost)))[HOST]["routes"]
    assert [one["name"] for one in found] == expected


def test_a_route_is_merged() -> None:
    value = {"route": {"clusterHeader": "x-to", "timeout": "3s"}}
    (route,) = hosts(patch("HTTP_ROUTE", "MERGE", value, **in_host(route={"name": "default"})))[HOST]["routes"]
    # Of a choice the patch's member takes the place of the other.
    assert (route["route"]["cluster_header"], route["route"]["timeout"]) == ("x-to", "3s")
    assert "cluster" not in route["route"]


REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"


@pytest.mark.parametrize(
    ("context", "cluster", "hit"),
    [
        ("ANY", {"name": REVIEWS}, {REVIEWS}),
        ("ANY", {"service": "reviews.bookinfo.svc.cluster.local", "portNumber": 9080}, {REVIEWS}),
        ("SIDECAR_OUTBOUND", {"service": "reviews.bookinfo.svc.cluster.local", "subset": "v1"}, set()),
        ("SIDECAR_INBOUND", {"portNumber": 9080}, {"inbound|9080||"}),
        ("SIDECAR_INBOUND", {"portNumber": 1}, set()),
        ("SIDECAR_INBOUND", {"service": "client.bookinfo.svc.cluster.local"}, {"inbound|9080||"}),
        ("GATEWAY", {}, set()),
    ],
)
def test_clusters(context: str, cluster: Obj, hit: set[str]) -> None:
    config = made(envoy_filter(patch("CLUSTER", "MERGE", {"connectTimeout": "9s"}, context, cluster=cluster))).config
    assert {name for name in config.clusters if read(config.clusters, name).get("connect_timeout") == "9s"} == hit
    gone = made(envoy_filter(patch("CLUSTER", "REMOVE", None, context, cluster=cluster))).config
    assert set(config.clusters) - set(gone.clusters) == hit


def test_of_a_choice_of_transport_sockets_the_one_of_the_same_name_is_merged() -> None:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    socket = {"name": "envoy.transport_sockets.tls", "typedConfig": {"@type": kind, "maxSessionKeys": 7}}
    value = {"transportSocket": socket, "connectTimeout": "9s"}
    config = made(envoy_filter(patch("CLUSTER", "MERGE", value, cluster={"name": REVIEWS}))).config
    before, after = (read(one.clusters, REVIEWS) for one in (made().config, config))
    merged = after["transport_socket_matches"][0]["transport_socket"]["typed_config"]
    assert merged.pop("max_session_keys") == 7
    # And nothing else of the patch: Istio stops there as well.
    assert after == before


def test_a_cluster_is_added() -> None:
    config = made(envoy_filter(patch("CLUSTER", "ADD", {"name": "own", "connectTimeout": "1s"}))).config
    assert read(config.clusters, "own")["connect_timeout"] == "1s"


GATEWAY = Site(
    gateway=True, legacy=False, ip="127.99.64.9", plan=PLAN, behind={80: frozenset({8080}), 8080: frozenset({80})}
)


@pytest.mark.parametrize(
    ("asked", "hit"),
    [
        ({}, True),
        ({"name": "http.80"}, True),
        ({"name": "http.8080"}, True),
        ({"name": "http.443"}, False),
        ({"portNumber": 8080}, True),
        ({"portNumber": 443}, False),
        ({"gateway": "bookinfo/any"}, False),
        ({"vhost": {"name": "a.test:8080"}}, True),
        ({"vhost": {"name": "a.test:80"}}, True),
        ({"vhost": {"name": "b.test:80"}}, False),
        ({"vhost": {"domainName": "a.test:*"}}, True),
        ({"vhost": {"domainName": "b.test"}}, False),
    ],
)
def test_a_gateways_ports_are_found_under_both_numbers(asked: Obj, hit: bool) -> None:
    table = {
        "name": "http.80",
        "virtual_hosts": [{"name": "a.test:80", "domains": ["a.test", "a.test:*"], "routes": []}],
    }
    one = patch("VIRTUAL_HOST", "MERGE", {"domains": ["more.test"]}, "GATEWAY", routeConfiguration=asked)
    given = patches(envoy_filter(one), legacy=False)
    found = patched_table(table, given, GATEWAY, lambda _: None)["virtual_hosts"][0]["domains"]
    assert ("more.test" in found) is hit


def test_a_gateways_listener_has_both_names() -> None:
    place = GATEWAY.listener({"name": "0.0.0.0_80"})
    assert (place.context, place.names, place.ports) == ("GATEWAY", {"0.0.0.0_80", "0.0.0.0_8080"}, {80, 8080})


def test_a_table_of_https_is_one_gateways() -> None:
    table = {"name": "https.443.secure.edge.bookinfo", "virtual_hosts": []}

    def hits(**asked: Any) -> bool:
        found: list[object] = []
        one = patch("ROUTE_CONFIGURATION", "MERGE", {"internal_only_headers": ["x"]}, routeConfiguration=asked)
        patched_table(table, patches(envoy_filter(one), legacy=False), GATEWAY, found.append)
        return bool(found)

    assert hits(gateway="bookinfo/edge", portName="secure", portNumber=443)
    assert not hits(gateway="bookinfo/other")
    assert not hits(portName="other")
    assert not hits(portNumber=80)


@pytest.mark.parametrize(("name", "kind"), [
    ("reviews.bookinfo.svc.cluster.local", "STRICT_DNS"),
    ("reviews.bookinfo.svc.cluster.local.", "LOGICAL_DNS"),
    ("reviews", "STRICT_DNS"),
    ("reviews.bookinfo", "STRICT_DNS"),
])  # fmt: skip
def test_a_services_name_in_an_added_cluster_is_where_its_pods_are(name: str, kind: str) -> None:
    where, other = ({"socketAddress": {"address": one, "portValue": 9080}} for one in (name, "example.test"))
    ends = [{"endpoint": {"address": one}, "loadBalancingWeight": 2} for one in (where, other)]
    value = {
        "name": "own",
        "type": kind,
        "loadAssignment": {"clusterName": "own", "endpoints": [{"lbEndpoints": ends}]},
    }
    found = read(made(envoy_filter(patch("CLUSTER", "ADD", value))).config.clusters, "own")
    assert found["type"] == "STRICT_DNS"
    listed = found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    sockets = [one["endpoint"]["address"]["socket_address"] for one in listed]
    assert [(one["address"], one["port_value"]) for one in sockets] == [("127.99.64.2", 9080), ("example.test", 9080)]
    assert {one["load_balancing_weight"] for one in listed} == {2}


def test_localhost_of_an_added_cluster_is_the_pods() -> None:
    where = {"socketAddress": {"address": "127.0.0.1", "portValue": 7000}}
    assignment = {"clusterName": "own", "endpoints": [{"lbEndpoints": [{"endpoint": {"address": where}}]}]}
    config = made(envoy_filter(patch("CLUSTER", "ADD", {"name": "own", "loadAssignment": assignment}))).config
    endpoint = read(config.clusters, "own")["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"] == {"socket_address": {"address": PLAN.local("127.99.64.1"), "port_value": 7000}}
