# SPDX-License-Identifier: Apache-2.0
"""The graph's generator: fixed answers of Prometheus in, nodes and edges with their numbers out."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.ground import web
from meshbox.images.kiali import telemetry
from meshbox.images.kiali.elements import elements, number
from meshbox.images.kiali.graph import GraphBuilder
from meshbox.images.kiali.sources import Prometheus
from tests.images.kiali_world import TRAFFIC, World, requests


def drawn(traffic: list[dict], graph_type: str = "versionedApp", inject: bool = False, boxes: tuple = ()) -> Any:
    world = World(traffic=traffic)
    (server,) = web.listen({0: world.prometheus}, "127.0.0.1")
    prometheus = Prometheus(f"http://127.0.0.1:{server.server_address[1]}")
    try:
        asked = telemetry.TrafficQuery(("bookinfo",))
        builder = GraphBuilder(graph_type, inject)
        builder.add(telemetry.flows(prometheus, asked))
        for found in telemetry.response_times(prometheus, asked):
            builder.add_time(*found)
        for found in telemetry.mutual_tls(prometheus, asked):
            builder.add_security(found)
    finally:
        prometheus.close()
        server.server_close()
    return elements(builder.graph, ("bookinfo",), ("bookinfo", "istio-system"), boxes)


def label(data: dict) -> str:
    if data["nodeType"] == "service":
        return f"[{data['service']}]"
    return " ".join(filter(None, (data.get("app") or data.get("workload"), data.get("version"))))


def edges(made: dict) -> dict[tuple[str, str], dict]:
    names = {node["data"]["id"]: label(node["data"]) for node in made["nodes"] if "isBox" not in node["data"]}
    return {(names[one["data"]["source"]], names[one["data"]["target"]]): one["data"] for one in made["edges"]}


def nodes(made: dict) -> dict[str, dict]:
    return {label(node["data"]): node["data"] for node in made["nodes"] if "isBox" not in node["data"]}


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (2.357, 2, "2.36"),
        (0.0, 2, "0.00"),
        (0.001, 2, "0.001"),
        (0.0000123, 2, "0.00001"),
        (9.25, 1, "9.2"),
        (100, 1, "100.0"),
    ],
)
def test_numbers_are_strings_with_more_decimals_for_tiny_values(value, decimals, text):
    assert number(value, decimals) == text


def test_versioned_apps_with_their_rates():
    made = drawn(TRAFFIC)
    found = edges(made)
    rates = {pair: one["traffic"]["rates"] for pair, one in found.items()}
    assert rates == {
        ("istio-ingressgateway", "productpage v1"): {"http": "6.00", "httpPercentReq": "100.0"},
        ("productpage v1", "details v1"): {"http": "6.00", "httpPercentReq": "50.0"},
        ("productpage v1", "reviews v1"): {"http": "2.00", "httpPercentReq": "16.7"},
        ("productpage v1", "reviews v2"): {"http": "2.00", "httpPercentReq": "16.7"},
        ("productpage v1", "reviews v3"): {
            "http": "2.00",
            "http5xx": "0.50",
            "httpPercentErr": "25.0",
            "httpPercentReq": "16.7",
        },
        ("reviews v2", "ratings v1"): {"http": "2.00", "httpPercentReq": "100.0"},
        ("reviews v3", "ratings v1"): {"http": "1.50", "httpPercentReq": "100.0"},
    }
    assert nodes(made)["reviews v3"]["traffic"] == [
        {"protocol": "http", "rates": {"httpIn": "2.00", "httpIn5xx": "0.50", "httpOut": "1.50"}}
    ]


def test_responses_tell_codes_flags_and_hosts():
    edge = edges(drawn(TRAFFIC))["productpage v1", "reviews v3"]
    host = "reviews.bookinfo.svc.cluster.local"
    assert edge["traffic"]["responses"] == {
        "200": {"flags": {"-": "75.0"}, "hosts": {host: "75.0"}},
        "503": {"flags": {"UF": "25.0"}, "hosts": {host: "25.0"}},
    }


def test_seconds_of_mixer_become_milliseconds_and_mutual_tls_a_share():
    edge = edges(drawn(TRAFFIC))["productpage v1", "details v1"]
    assert (edge["responseTime"], edge["isMTLS"]) == ("25", "100")


def test_where_a_node_stands():
    found = nodes(drawn(TRAFFIC))
    gateway, page = found["istio-ingressgateway"], found["productpage v1"]
    assert (gateway.get("isRoot"), gateway.get("isOutside"), gateway["namespace"]) == (True, True, "istio-system")
    assert "isRoot" not in page
    assert "isOutside" not in page
    assert page["destServices"] == [{"cluster": "Kubernetes", "namespace": "bookinfo", "name": "productpage"}]


def test_services_stand_between():
    rates = {pair: one["traffic"]["rates"]["http"] for pair, one in edges(drawn(TRAFFIC, inject=True)).items()}
    assert rates["productpage v1", "[reviews]"] == "6.00"
    assert rates["[reviews]", "reviews v3"] == "2.00"
    assert rates["[ratings]", "ratings v1"] == "3.50"
    assert ("productpage v1", "reviews v3") not in rates


@pytest.mark.parametrize(
    ("graph_type", "expected"),
    [
        ("app", {("productpage", "reviews"): "6.00", ("reviews", "ratings"): "3.50"}),
        ("workload", {("productpage v1", "reviews v1"): "2.00", ("reviews v2", "ratings v1"): "2.00"}),
        ("service", {("[productpage]", "[reviews]"): "6.00", ("[reviews]", "[ratings]"): "3.50"}),
    ],
)
def test_other_graphs(graph_type, expected):
    rates = {pair: one["traffic"]["rates"]["http"] for pair, one in edges(drawn(TRAFFIC, graph_type)).items()}
    assert rates.items() >= expected.items()


def test_nobody_answered():
    made = drawn([requests("productpage-v1", "reviews", 1.0, "0", "NR")])
    edge = edges(made)["productpage v1", "[reviews]"]
    assert edge["traffic"]["rates"] == {
        "http": "1.00",
        "httpNoResponse": "1.00",
        "httpPercentErr": "100.0",
        "httpPercentReq": "100.0",
    }
    assert list(edge["traffic"]["responses"]) == ["-"]


def test_an_unknown_sender():
    made = drawn([requests("unknown", "productpage-v1", 1.0)])
    sender = nodes(made)["unknown"]
    assert (sender["nodeType"], sender["isInaccessible"]) == ("unknown", True)


def test_boxes_come_before_what_is_in_them():
    made = drawn(TRAFFIC, inject=True, boxes=("app", "namespace"))
    seen: set[str] = set()
    for node in made["nodes"]:
        parent = node["data"].get("parent")
        assert parent is None or parent in seen
        seen.add(node["data"]["id"])
    boxes = [(node["data"]["isBox"], node["data"].get("app")) for node in made["nodes"] if "isBox" in node["data"]]
    assert boxes.count(("app", "reviews")) == 1
    # The gateway is alone in its namespace: around it no box is drawn.
    assert [kind for kind, _ in boxes].count("namespace") == 1


def test_what_is_asked_counts_each_request_once():
    unknown, inward, outward = telemetry.selectors(["bookinfo", "a.b"])
    assert 'reporter="destination"' in unknown
    assert 'source_workload="unknown"' in unknown
    assert 'source_workload_namespace!~"a\\\\.b|bookinfo"' in inward
    assert 'source_workload_namespace=~"a\\\\.b|bookinfo"' in outward
