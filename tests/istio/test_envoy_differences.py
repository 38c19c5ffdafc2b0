# SPDX-License-Identifier: Apache-2.0
"""What differs between two states of a configuration, and in which words."""

from __future__ import annotations

from typing import Any

from labkit.istio.envoy import fields
from labkit.istio.envoy.differences import changes, short

ANY: dict[str, Any] = {"match": {"prefix": "/"}, "route": {"cluster": "outbound|9080|v1|reviews", "timeout": "0s"}}
JASON = {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]}


def table(*routes: dict[str, Any], domains: tuple[str, ...] = ("reviews",)) -> dict[str, Any]:
    return {
        "name": "9080",
        "virtual_hosts": [{"name": "reviews:9080", "domains": list(domains), "routes": list(routes)}],
    }


def told(before: dict[str, Any], after: dict[str, Any], kind: str = "routes") -> list[tuple[str, str, Any, Any]]:
    return [(one.change, one.field, one.before, one.after) for one in changes(before, after, kind)]


def test_nothing_differs() -> None:
    assert changes({"9080": table(ANY)}, {"9080": table(ANY)}, "routes") == []


def test_a_field_of_a_route() -> None:
    later = {**ANY, "route": {"cluster": "outbound|9080|v2|reviews", "timeout": "0s"}}
    assert told({"9080": table(ANY)}, {"9080": table(later)}) == [
        ("changed", "routes[any path].route.cluster", "outbound|9080|v1|reviews", "outbound|9080|v2|reviews")
    ]


def test_a_route_before_another_one_is_added_and_the_other_stays() -> None:
    first = {"match": JASON, "route": {"cluster": "outbound|9080|v2|reviews"}}
    label = "routes[any path, header end-user is 'jason']"
    assert told({"9080": table(ANY)}, {"9080": table(first, ANY)}) == [("added", label, None, first)]
    assert told({"9080": table(first, ANY)}, {"9080": table(ANY)}) == [("removed", label, first, None)]
    turned = told({"9080": table(first, ANY)}, {"9080": table(ANY, first)})
    assert [(change, field) for change, field, _, _ in turned] == [("changed", "routes (order)")]


def test_one_host_in_several_tables_is_told_once() -> None:
    later = {**ANY, "route": {"cluster": "x", "timeout": "0s"}}
    (one,) = changes(
        {"9080": table(ANY), "http_proxy": table(ANY)}, {"9080": table(later), "http_proxy": table(later)}, "routes"
    )
    assert one.tables == ("9080", "http_proxy")


def test_weights_by_cluster_and_domains_one_by_one() -> None:
    def split(*weights: int) -> dict[str, Any]:
        clusters = [{"name": f"v{n}", "weight": weight} for n, weight in enumerate(weights)]
        return {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}}}

    where = "routes[any path].route.weighted_clusters.clusters"
    assert told({"9080": table(split(90, 10))}, {"9080": table(split(50, 50))}) == [
        ("changed", f"{where}[v0].weight", 90, 50),
        ("changed", f"{where}[v1].weight", 10, 50),
    ]
    assert told({"9080": table(ANY)}, {"9080": table(ANY, domains=("reviews", "reviews:80"))}) == [
        ("added", "domains", None, ["reviews:80"])
    ]


def test_whole_resources() -> None:
    cluster = {"name": "outbound|9080|v2|reviews", "type": "EDS"}
    assert told({}, {"c": cluster}, "clusters") == [("added", "", None, cluster)]
    assert told({"c": cluster}, {}, "clusters") == [("removed", "", cluster, None)]
    assert told({"c": cluster}, {"c": {**cluster, "lb_policy": "RANDOM"}}, "clusters") == [
        ("added", "lb_policy", None, "RANDOM")
    ]


def test_what_has_no_names_is_laid_side_by_side() -> None:
    before = {"c": {"name": "c", "thresholds": [{"max_requests": 1}, {"max_requests": 2}]}}
    after = {"c": {"name": "c", "thresholds": [{"max_requests": 2}]}}
    assert [(change, old) for change, _, old, _ in told(before, after, "clusters")] == [
        ("removed", {"max_requests": 1})
    ]


def test_values_are_one_line_without_types() -> None:
    assert short({"@type": "type.googleapis.com/x", "timeout": "5s", "found": True}) == "{timeout: 5s, found: true}"
    assert (short(None), short(False), short(3), short("v1")) == ("", "false", "3", "v1")


def test_each_field_that_is_explained_has_a_page() -> None:
    known = fields.explained(["routes.match", {"retry_policy": {"num_retries": 2}}, [{"weight": 1}]])
    assert list(known) == ["routes", "match", "retry_policy", "num_retries", "weight"]
    assert fields.page("weight").startswith("https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/")
    assert fields.explained(["nothing.of_that"]) == {}
