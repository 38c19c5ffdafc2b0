# SPDX-License-Identifier: Apache-2.0
"""The graph of the mesh as tables and a figure, from the API that the stand-in serves (the same as Kiali's)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from labkit.ground import web
from labkit.ground.errors import ClusterError, NotReadyError, SettingError
from labkit.observe import layout
from labkit.observe.kiali import Kiali
from tests.images.kiali_world import World, kiali, to, virtual_service

APPENDERS = {"deadNode", "istio", "responseTime", "securityPolicy", "serviceEntry", "sidecarsCheck"}
TYPES = {"app", "service", "versionedApp", "workload"}
SWITCH = {"true", "false"}
BOTH = {"graphType": TYPES, "injectServiceNodes": SWITCH, "duration": None, "namespaces": None, "queryTime": None}
TAKEN: dict[str, dict[str, set[str] | None]] = {
    "0.20": {**BOTH, "appenders": APPENDERS | {"unusedNode"}, "groupBy": {"app", "none", "version"}},
    "1.31": {
        **BOTH,
        "appenders": APPENDERS | {"aggregateNode", "healthConfig", "idleNode"},
        "boxBy": {"app", "cluster", "namespace"},
        "includeIdleEdges": SWITCH,
    },
    "2.26": {
        **BOTH,
        "appenders": APPENDERS | {"aggregateNode", "idleNode", "meshCheck", "throughput", "workloadEntry"},
        "boxBy": {"app", "cluster", "namespace"},
        "includeIdleEdges": SWITCH,
        "responseTime": {"avg", "50", "95", "99"},
    },
}
"""Each Kiali's parameters of a graph, with their values where it refuses others; all but namespaces may be missing."""


def refusing(version: str) -> web.App:
    """What a Kiali of that version says to a request before it looks at the mesh; 404 where it takes it."""

    def answer(request: web.Request) -> web.Response:
        if not request.path.endswith("/namespaces/graph"):
            return web.Response(404)
        for name, value in parse_qsl(urlsplit(request.target).query):
            known = TAKEN[version].get(name, set())
            if known is not None and not set(value.split(",")) <= known:
                return web.json_response({"error": f"Invalid {name} [{value}]"}, 400)
        return web.Response(404)

    return answer


@pytest.fixture(params=TAKEN)
def mesh(request: pytest.FixtureRequest) -> Iterator[Kiali]:
    """Kiali's API as the stand-in has it, of which each version takes what it knows."""
    with kiali(World(), first=refusing(request.param)) as address:
        yield Kiali(f"{address}/kiali")


@pytest.mark.parametrize("version", TAKEN)
def test_a_request_that_no_kiali_takes_is_refused(version):
    with kiali(World(), first=refusing(version)) as address:
        query = {"namespaces": "bookinfo", "boxBy": "none"}
        with pytest.raises(ClusterError, match=r"Invalid boxBy \[none\]"):
            Kiali(f"{address}/kiali").get("namespaces/graph", query)


def test_edges_become_a_table(mesh):
    graph = mesh.graph("bookinfo")
    rates = {(row.source, row.target): row.rate for row in graph.edges.itertuples()}
    assert rates == {
        ("istio-ingressgateway", "productpage v1"): 6.0,
        ("productpage v1", "details v1"): 6.0,
        ("productpage v1", "reviews v1"): 2.0,
        ("productpage v1", "reviews v2"): 2.0,
        ("productpage v1", "reviews v3"): 2.0,
        ("reviews v2", "ratings v1"): 2.0,
        ("reviews v3", "ratings v1"): 1.5,
    }
    wrong = graph.edges.set_index(["source", "target"]).loc[("productpage v1", "reviews v3")]
    assert (wrong["error_percent"], wrong["response_ms"], wrong["mtls_percent"]) == (25.0, 25.0, 100.0)
    assert wrong["protocol"] == "http"


def test_nodes_become_a_table(mesh):
    nodes = mesh.graph("bookinfo", services=True).nodes
    assert nodes.loc["reviews (service)", "kind"] == "service"
    assert nodes.loc["reviews v3", ["namespace", "workload", "app", "version"]].tolist() == [
        "bookinfo",
        "reviews-v3",
        "reviews",
        "v3",
    ]
    assert (nodes.loc["productpage v1", "in_rate"], nodes.loc["productpage v1", "out_rate"]) == (6.0, 12.0)


def test_a_graph_without_traffic_has_its_columns():
    with kiali(World(traffic=[])) as address:
        graph = Kiali(f"{address}/kiali").graph("bookinfo")
    assert (len(graph.nodes), len(graph.edges)) == (0, 0)
    assert graph.edges["rate"].dtype == "float64"
    assert len(graph.figure().data) == 2


def test_the_figure_goes_from_left_to_right(mesh):
    graph = mesh.graph("bookinfo")
    figure = graph.figure()
    nodes = next(trace for trace in figure.data if trace.name == "nodes")
    # Names of neighbours stand in a row: in short lines they do not meet.
    assert max(len(line) for name in nodes.text for line in name.split("<br>")) <= 14
    column = dict(zip(nodes.text, nodes.x, strict=True))
    names = ("istio-<br>ingressgateway", "productpage<br>v1", "reviews<br>v2", "ratings<br>v1")
    assert [column[name] for name in names] == [
        0,
        1,
        2,
        3,
    ]
    arrows = [note for note in figure.layout.annotations if note.showarrow]
    assert len(arrows) == len(graph.edges)
    assert [note.text for note in figure.layout.annotations if "errors" in (note.text or "")] == [
        "2.00/s<br>25.0%<br>errors<br>mTLS"
    ]
    places = list(zip(nodes.x, nodes.y, strict=True))
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("edges", [[("a", "b"), ("b", "a")], [("a", "a")], [("a", "b"), ("b", "c"), ("c", "b")]])
def test_circles_have_columns_too(edges):
    names = sorted({name for edge in edges for name in edge})
    columns = layout.layers(names, edges)
    assert sorted(columns) == names
    assert columns["a"] == 0 or len(set(columns.values())) > 1


def test_a_login_opens_pages_for_frames(tmp_path: Path):
    (tmp_path / "username").write_text("admin")
    (tmp_path / "passphrase").write_text("admin")
    with kiali(World(), secret=tmp_path) as address:
        url = f"{address}/kiali"
        with pytest.raises(ClusterError, match="asks who you are"):
            Kiali(url).graph("bookinfo")
        with pytest.raises(ClusterError, match="refuses the password"):
            Kiali(url, user="admin", password="guess")
        found = Kiali(url, user="admin", password="admin")
        assert len(found.graph("bookinfo").edges) == 7
        page = found.page("graph/namespaces", namespaces="bookinfo")
        assert page.startswith("s/")
        assert page.endswith("/console/graph/namespaces?namespaces=bookinfo&kiosk=true")


def test_pages_without_a_login(mesh):
    assert mesh.page("overview", kiosk=False) == "console/overview"
    assert mesh.console_url == f"{mesh.url}/console"


def test_what_cannot_be_drawn(mesh):
    with pytest.raises(SettingError, match="cannot be drawn"):
        mesh.graph()
    with pytest.raises(SettingError, match="versionedApp"):
        mesh.graph("bookinfo", kind="mesh")
    with pytest.raises(ClusterError, match="is that Kiali"):
        Kiali(mesh.url.removesuffix("/kiali") + "/other").namespaces()


def test_who_calls_whom_as_pairs(mesh):
    assert ("reviews v2", "ratings v1") in mesh.graph("bookinfo").pairs
    assert len(mesh.graph("bookinfo").pairs) == 7


def test_a_graph_is_waited_for(mesh):
    looks = iter([False, False, True])
    found = mesh.until("three looks", lambda graph: len(graph.edges) == 7 and next(looks), "bookinfo", timeout=60)
    assert next(looks, None) is None
    assert len(found.edges) == 7
    with pytest.raises(NotReadyError, match="an edge in red; seen last: MeshGraph"):
        mesh.until("an edge in red", lambda graph: False, "bookinfo", timeout=0.1)


def test_what_newer_ones_say_is_wrong_is_told_as_well():
    check = {"code": "KIA1107", "message": "Subset not found", "severity": "warning", "path": "spec/http[0]"}
    said = {"networking.istio.io/v1, Kind=VirtualService": {"mistake.bookinfo": {"checks": [check]}}}

    def newer(request: web.Request) -> web.Response:
        about = request.path.endswith("/namespaces/bookinfo/istio")
        return web.json_response({"validations": said}) if about else web.Response(404)

    with kiali(World(), first=newer) as address:
        found = Kiali(f"{address}/kiali").problems("bookinfo", "virtualservice", "mistake", timeout=60)
    assert found == ["Subset not found"]


def test_what_is_wrong_with_an_object_is_told():
    wrong = virtual_service("mistake", to("ratings", "v99"), host="nobody")
    world = World(istio={"virtualservices": [wrong, virtual_service("mistaken", to("nowhere"))]})
    with kiali(world) as address:
        found = Kiali(f"{address}/kiali")
        problems = found.problems("bookinfo", "virtualservice", "mistake", timeout=60)
        assert any("Subset not found" in text for text in problems)
        assert not any("nowhere" in text for text in problems)
        with pytest.raises(NotReadyError, match="to complain of virtualservice other"):
            found.problems("bookinfo", "virtualservice", "other", timeout=0.1)
