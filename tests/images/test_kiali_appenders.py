# SPDX-License-Identifier: Apache-2.0
"""What Kiali's graph shows beyond the traffic: nodes without any, service entries, classes of requests, badges."""

from __future__ import annotations

from typing import Any

import pytest

from tests.images.kiali_world import meta, requests, to, virtual_service
from tests.images.test_kiali_api import get

SPIFFE = "spiffe://cluster.local/ns/bookinfo/sa/"


def asked(api: str, appenders: str = "", path: str = "namespaces/graph", **more: str) -> Any:
    query = {"namespaces": "bookinfo", "graphType": "versionedApp", "duration": "60s", "appenders": appenders} | more
    status, found = get(f"{api}/{path}?{'&'.join(f'{name}={value}' for name, value in query.items())}")
    assert status == 200, found
    return found["elements"]


def name(data: dict[str, Any]) -> str:
    if data["nodeType"] in ("service", "aggregate"):
        return f"[{data['service'] if data['nodeType'] == 'service' else data['aggregate']}]"
    return " ".join(filter(None, (data.get("app") or data.get("workload"), data.get("version"))))


def nodes(elements: Any) -> dict[str, dict[str, Any]]:
    return {name(one["data"]): one["data"] for one in elements["nodes"] if "isBox" not in one["data"]}


def edges(elements: Any) -> dict[tuple[str, str], dict[str, Any]]:
    names = {one["data"]["id"]: name(one["data"]) for one in elements["nodes"]}
    return {(names[one["data"]["source"]], names[one["data"]["target"]]): one["data"] for one in elements["edges"]}


def outside(host: str, rate: float = 1.0, **labels: str) -> dict[str, Any]:
    """Requests from reviews v1 to a host that is no Service, as the sender counts them."""
    one = requests("reviews-v1", "nobody", rate)
    one["metric"] |= {"destination_service": host, "destination_service_name": host} | labels
    return one


def test_idle_nodes(api, world):
    world.traffic = [requests("productpage-v1", "reviews-v1", 1.0)]
    found = nodes(asked(api, "idleNode", injectServiceNodes="true"))
    idle = {name for name, data in found.items() if data.get("isIdle")}
    assert idle == {"details v1", "ratings v1", "reviews v2", "reviews v3", "[details]", "[productpage]", "[ratings]"}
    assert found["details v1"]["traffic"] == []
    assert "isRoot" not in found["details v1"]
    workloads = nodes(asked(api, "idleNode", graphType="workload"))
    assert {data["workload"] for data in workloads.values() if data.get("isIdle")} == {
        "details-v1",
        "ratings-v1",
        "reviews-v2",
        "reviews-v3",
    }
    services = nodes(asked(api, "idleNode", graphType="service"))
    assert {name for name, data in services.items() if data.get("isIdle")} == {
        "[details]",
        "[productpage]",
        "[ratings]",
    }
    assert not any(data.get("isIdle") for data in nodes(asked(api)).values())


def test_edges_on_which_nothing_goes(api, world):
    world.traffic = [requests("productpage-v1", "reviews-v1", 0.0), requests("productpage-v1", "details-v1", 1.0)]
    assert set(edges(asked(api))) == {("productpage v1", "details v1")}
    found = edges(asked(api, includeIdleEdges="true"))
    assert found["productpage v1", "reviews v1"]["traffic"] == {"protocol": "http"}
    assert found["productpage v1", "details v1"]["traffic"]["rates"] == {"http": "1.00", "httpPercentReq": "100.0"}


def test_what_is_gone(api, world):
    gone = requests("productpage-v1", "old-v1", 0.0)
    world.traffic = [gone, requests("unknown", "reviews-v1", 0.0), requests("productpage-v1", "details-v1", 1.0)]
    dead = asked(api, "deadNode", includeIdleEdges="true")
    assert set(nodes(dead)) == {"productpage v1", "details v1", "reviews v1"}
    assert set(edges(dead)) == {("productpage v1", "details v1")}
    assert set(nodes(asked(api, includeIdleEdges="true"))) >= {"old v1", "unknown"}


def test_a_workload_without_pods(api, world):
    made = world.objects()
    made["/api/v1/pods"] = [pod for pod in made["/api/v1/pods"] if not pod["metadata"]["name"].startswith("reviews")]
    world.objects = lambda: made
    world.traffic = [requests("productpage-v1", "reviews-v1", 0.0), requests("productpage-v1", "details-v1", 1.0)]
    found = nodes(asked(api, "deadNode", includeIdleEdges="true"))
    assert (found["reviews v1"].get("isDead"), found["details v1"].get("isDead")) == (True, None)


ENTRY = {
    "metadata": meta("shops"),
    "spec": {"hosts": ["shop.example.com", "*.example.org"], "location": "MESH_EXTERNAL"},
}


def test_service_entries_gather_their_hosts(api, world):
    world.istio = {"serviceentries": [ENTRY]}
    world.traffic = [outside("shop.example.com", 1.0), outside("*.example.org", 2.0), outside("other.example.com", 4.0)]
    found = asked(api, "serviceEntry")
    assert set(nodes(found)) == {"reviews v1", "[shops]", "[other.example.com]"}
    shops = nodes(found)["[shops]"]
    assert shops["isServiceEntry"] == {"location": "MESH_EXTERNAL", "hosts": ["shop.example.com", "*.example.org"]}
    assert shops["namespace"] == "bookinfo"
    assert [one["name"] for one in shops["destServices"]] == ["*.example.org", "shop.example.com"]
    assert shops["traffic"] == [{"protocol": "http", "rates": {"httpIn": "3.00"}}]
    assert edges(found)["reviews v1", "[shops]"]["traffic"]["rates"]["http"] == "3.00"
    assert "[shop.example.com]" in nodes(asked(api))


@pytest.mark.parametrize(
    ("spec", "host", "known"),
    [
        ({"hosts": ["shop.example.com"], "exportTo": ["."]}, "shop.example.com", False),
        ({"hosts": ["shop.example.com"], "exportTo": ["bookinfo"]}, "shop.example.com", True),
        ({"hosts": ["legacy.elsewhere.local"], "location": "MESH_INTERNAL"}, "legacy", True),
        ({"hosts": ["legacy.elsewhere.local"]}, "legacy", False),
    ],
)
def test_which_service_entry_is_meant(api, world, spec, host, known):
    world.istio = {"serviceentries": [{"metadata": meta("shops", "istio-system"), "spec": spec}]}
    world.traffic = [outside(host)]
    assert ("[shops]" in nodes(asked(api, "serviceEntry"))) is known


def test_what_leaves_the_mesh_without_a_name(api, world):
    world.traffic = [outside("PassthroughCluster", destination_service_namespace="unknown")]
    found = nodes(asked(api))["[PassthroughCluster]"]
    assert (found["isInaccessible"], found.get("isOutside")) == (True, None)


def test_an_unknown_destination_is_not_the_unknown_caller(api, world):
    lost = outside("unknown", destination_service_namespace="unknown")
    world.traffic = [requests("unknown", "productpage-v1", 1.0), lost]
    found = nodes(asked(api))
    assert (found["unknown"]["nodeType"], found["unknown"]["isInaccessible"]) == ("unknown", True)
    assert (found["[unknown]"]["nodeType"], found["[unknown]"]["isInaccessible"]) == ("service", True)
    assert "destServices" not in found["[unknown]"]
    assert set(edges(asked(api))) == {("unknown", "productpage v1"), ("reviews v1", "[unknown]")}


def test_what_was_counted_while_a_pod_came_is_left_out(api, world):
    world.traffic = [outside("10.11.12.13:80"), outside("shop.example.com")]
    assert set(nodes(asked(api))) == {"reviews v1", "[shop.example.com]"}


def test_classes_of_requests(api, world):
    for one in world.traffic:
        if one["metric"]["destination_app"] == "details":
            one["metric"]["request_operation"] = "Details"
    found = asked(api, "aggregateNode", injectServiceNodes="true")
    made = nodes(found)["[request_operation=Details]"]
    assert (made["nodeType"], made["namespace"], made["app"]) == ("aggregate", "bookinfo", "details")
    assert made["traffic"] == [{"protocol": "http", "rates": {"httpIn": "6.00", "httpOut": "6.00"}}]
    ways = edges(found)
    assert ways["productpage v1", "[request_operation=Details]"]["traffic"]["rates"]["http"] == "6.00"
    assert ("[request_operation=Details]", "[details]") in ways
    assert ("productpage v1", "[details]") not in ways
    assert nodes(found)["productpage v1"]["traffic"][0]["rates"]["httpOut"] == "12.00"
    assert "[request_operation=Details]" in nodes(found)
    around = asked(api, "", "namespaces/bookinfo/aggregates/request_operation/Details/graph", graphType="versionedApp")
    assert set(edges(around)) == {
        ("productpage v1", "[request_operation=Details]"),
        ("[request_operation=Details]", "details v1"),
    }


def test_principals_of_both_ends(api, world):
    for one in world.traffic:
        one["metric"] |= {"source_principal": f"{SPIFFE}sender", "destination_principal": f"{SPIFFE}receiver"}
    edge = edges(asked(api, "securityPolicy"))["productpage v1", "details v1"]
    assert (edge["sourcePrincipal"], edge["destPrincipal"]) == (f"{SPIFFE}sender", f"{SPIFFE}receiver")
    assert edge["isMTLS"] == "100"
    plain = edges(asked(api))["productpage v1", "details v1"]
    assert not {"sourcePrincipal", "destPrincipal", "isMTLS", "responseTime"} & plain.keys()


def rule(host: str, *, whole: bool = False, version: str = "", namespace: str = "bookinfo") -> dict[str, Any]:
    limit = {"trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}}}}
    subset = {"name": "one", "labels": {"version": version}, **limit}
    spec = {"host": host} | (limit if whole else {}) | ({"subsets": [subset]} if version else {})
    return {"metadata": meta("a", namespace), "spec": spec}


def test_services_that_get_routed_requests_are_badged(api, world):
    world.istio = {"virtualservices": [virtual_service("a", to("details"), to("ratings.bookinfo.svc.cluster.local"))]}
    found = nodes(asked(api, "istio", injectServiceNodes="true"))
    # The object is about the host reviews, but sends its requests elsewhere.
    assert {name for name, data in found.items() if data.get("hasVS")} == {"[details]", "[ratings]"}


def test_a_virtual_service_of_another_namespace_badges_nothing(api, world):
    one = virtual_service("a", to("details.bookinfo.svc.cluster.local"))
    world.istio = {"virtualservices": [one | {"metadata": meta("a", "istio-system")}]}
    found = nodes(asked(api, "istio", injectServiceNodes="true"))
    assert not any(data.get("hasVS") for data in found.values())


@pytest.mark.parametrize(
    ("made", "badged"),
    [
        (rule("reviews", whole=True), {"[reviews]", "reviews v1", "reviews v2", "reviews v3"}),
        (rule("reviews", version="v2"), {"[reviews]", "reviews v2"}),
        (rule("reviews"), set()),
        (rule("reviews.bookinfo.svc.cluster.local", whole=True, namespace="istio-system"), set()),
    ],
)
def test_circuit_breakers(api, world, made, badged):
    world.istio = {"destinationrules": [made]}
    found = nodes(asked(api, "istio", injectServiceNodes="true"))
    assert {name for name, data in found.items() if data.get("hasCB")} == badged


def test_pods_without_a_proxy(api, world):
    made = world.objects()
    for pod in made["/api/v1/pods"]:
        if pod["metadata"]["name"].startswith("reviews-v2"):
            pod["spec"]["containers"].pop()
    world.objects = lambda: made
    found = nodes(asked(api, "sidecarsCheck"))
    assert {name for name, data in found.items() if data.get("hasMissingSC")} == {"reviews v2"}
    apps = nodes(asked(api, "sidecarsCheck", graphType="app"))
    assert {name for name, data in apps.items() if data.get("hasMissingSC")} == {"reviews"}


def test_limits_that_a_service_has_of_its_own(api, world):
    made = world.objects()
    (details,) = [one for one in made["/api/v1/services"] if one["metadata"]["name"] == "details"]
    details["metadata"]["annotations"] = {"health.kiali.io/rate": "400,10,20,http,inbound", "other": "x"}
    world.objects = lambda: made
    found = nodes(asked(api, "healthConfig", injectServiceNodes="true"))
    assert found["[details]"]["hasHealthConfig"] == {"health.kiali.io/rate": "400,10,20,http,inbound"}
    assert "hasHealthConfig" not in found["[reviews]"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {("app", "reviews")}),
        ({"boxBy": "namespace", "graphType": "workload"}, {("namespace", None)}),
        ({"boxBy": "cluster", "graphType": "workload"}, set()),
        ({"graphType": "workload"}, set()),
        ({"boxBy": "app", "graphType": "workload"}, {("app", "reviews")}),
    ],
)
def test_boxes(api, given, expected):
    found = [one["data"] for one in asked(api, **given)["nodes"]]
    boxes = [one for one in found if "isBox" in one]
    assert {(one["isBox"], one.get("app")) for one in boxes} == expected
    assert all(one["nodeType"] == "box" for one in boxes)


def test_two_workloads_that_say_the_same_of_themselves_stay_two(api, world):
    again = requests("productpage-v1", "reviews-v1", 3.0)
    again["metric"]["destination_workload"] = "reviews-copy"
    world.traffic = [requests("productpage-v1", "reviews-v1", 1.0), again]
    found = [one["data"].get("workload") for one in asked(api)["nodes"] if "isBox" not in one["data"]]
    assert sorted(found) == ["productpage-v1", "reviews-copy", "reviews-v1"]
