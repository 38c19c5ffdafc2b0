# SPDX-License-Identifier: Apache-2.0
"""What Kiali refuses to answer, and in which words; what it takes for granted where a request does not say it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from meshbox.images.kiali.parameters import APPENDERS, graph_options
from tests.images.kiali_world import World, kiali
from tests.images.test_kiali_api import get


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with kiali(World()) as address:
        yield f"{address}/kiali/api"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "At least one namespace must be specified via the namespaces query parameter."),
        ("namespaces=bookinfo&boxBy=none", "Invalid boxBy [none]"),
        ("namespaces=bookinfo&boxBy=app,junk", "Invalid boxBy [app,junk]"),
        ("namespaces=bookinfo&duration=x", "Invalid duration [x]"),
        ("namespaces=bookinfo&duration=600", "Invalid duration [600]"),
        ("namespaces=bookinfo&graphType=mesh", "Invalid graphType [mesh]"),
        ("namespaces=bookinfo&injectServiceNodes=yes", "Invalid injectServiceNodes [yes]"),
        ("namespaces=bookinfo&includeIdleEdges=2", "Invalid includeIdleEdges [2]"),
        ("namespaces=bookinfo&queryTime=now", "Invalid queryTime [now]"),
        ("namespaces=bookinfo&appenders=istio,unusedNode", "Invalid appender [unusedNode]"),
        ("namespaces=bookinfo&configVendor=d3", "Invalid configVendor [d3]"),
        ("namespaces=bookinfo&telemetryVendor=other", "Invalid telemetryVendor [other]"),
        (
            "namespaces=bookinfo&responseTimeQuantile=avg",
            "Invalid quantile, expecting float between 0.0 and 100.0 [avg]",
        ),
        ("namespaces=bookinfo&aggregate=" + quote("a} or up"), "Invalid aggregate [a} or up]"),
    ],
)
def test_a_graph_that_cannot_be_asked_for(api, query, words):
    assert get(f"{api}/namespaces/graph?{query}") == (400, {"error": words})


def test_a_namespace_that_is_not_there(api):
    words = "Requested namespace [nowhere] is not accessible."
    assert get(f"{api}/namespaces/graph?namespaces=bookinfo,nowhere") == (403, {"error": words})


def test_an_apps_graph_is_one_of_apps(api):
    status, found = get(f"{api}/namespaces/bookinfo/applications/reviews/graph")
    assert status == 400
    assert found["error"].startswith("Invalid graphType [workload]. This node detail graph supports only")
    assert get(f"{api}/namespaces/bookinfo/applications/reviews/graph?graphType=app")[0] == 200


def test_what_is_taken_for_granted():
    asked = graph_options({"namespaces": ["bookinfo, istio-system,bookinfo"]})
    assert asked.namespaces == ("bookinfo", "istio-system")
    assert (asked.duration, asked.graph_type, asked.boxes) == (600, "workload", ())
    assert (asked.inject, asked.idle_edges, asked.at, asked.quantile) == (False, False, 0, 0.95)
    assert asked.appenders == APPENDERS
    assert graph_options({"namespaces": ["a"], "appenders": [""]}).appenders == set()
    assert graph_options({"namespaces": ["a"], "graphType": ["service"]}).inject is True
    assert graph_options({"namespaces": ["a"], "injectServiceNodes": ["T"]}).inject is True


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("direction=both", "query parameter 'direction' must be either 'inbound' or 'outbound'"),
        ("reporter=waypoint", "query parameter 'reporter' must be either 'source' or 'destination'"),
        ("rateFunc=delta", "query parameter 'rateFunc' must be either 'rate' or 'irate'"),
        ("duration=1m", "cannot parse query parameter 'duration'"),
        ("step=1.5", "cannot parse query parameter 'step'"),
        ("queryTime=x", "cannot parse query parameter 'queryTime'"),
        ("avg=perhaps", "cannot parse query parameter 'avg'"),
        ("quantiles[]=half", "cannot parse query parameter 'quantiles', float expected"),
        ("quantiles[]=95", "invalid quantile(s): should be between 0 and 1"),
    ],
)
def test_metrics_that_cannot_be_asked_for(api, query, words):
    assert get(f"{api}/namespaces/bookinfo/services/reviews/metrics?{query}") == (
        400,
        {"error": f"bad request, {words}"},
    )


def test_a_health_of_nothing(api):
    words = "Bad request, query parameter 'type' must be one of ['app','service','workload']"
    assert get(f"{api}/namespaces/bookinfo/health?type=pod") == (400, {"error": words})


def test_metrics_of_an_aggregate_are_of_what_came_in(api):
    status, found = get(f"{api}/namespaces/bookinfo/aggregates/request_operation/Details/metrics")
    assert status == 400
    assert found["error"].startswith("AggregateMetrics 'direction' must be 'inbound'")
