# SPDX-License-Identifier: Apache-2.0
"""The graph of the mesh as tables and a figure, from the API that the stand-in serves (the same as Kiali's)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.ground import web
from labkit.ground.errors import ClusterError, NotReadyError, SettingError
from labkit.observe import layout
from labkit.observe.kiali import GRAPH_TYPES, Kiali
from tests.images.kiali_world import World, kiali, to, virtual_service
from tests.observe.kiali_refusals import NAMESPACES, PASSWORD, RULES, TOKEN, refusing


@pytest.fixture(params=RULES)
def mesh(request: pytest.FixtureRequest) -> Iterator[Kiali]:
    """Kiali's API as the stand-in has it, of which each version takes what it knows."""
    with kiali(World(), first=refusing(request.param)) as address:
        yield Kiali(f"{address}/kiali")


GRAPH = "namespaces/graph"
BOOKINFO = {"namespaces": "bookinfo"}
REFUSED: list[tuple[str, dict[str, str], str, str]] = [
    (GRAPH, {}, "400.*At least one namespace must be specified", "0.20 1.31 2.26"),
    (GRAPH, {"namespaces": "bookinfo,nowhere"}, "403.*nowhere. is not accessible", "0.20 1.31 2.26"),
    (GRAPH, BOOKINFO | {"graphType": "mesh"}, "400.*Invalid graphType", "0.20 1.31 2.26"),
    (GRAPH, BOOKINFO | {"duration": "60"}, "400.*Invalid duration", "0.20 1.31 2.26"),
    (GRAPH, BOOKINFO | {"duration": "1h30m"}, "400.*Invalid duration", "0.20 1.31"),
    (GRAPH, BOOKINFO | {"injectServiceNodes": "yes"}, "400.*Invalid injectServiceNodes", "0.20 1.31 2.26"),
    (GRAPH, BOOKINFO | {"queryTime": "now"}, "400.*Invalid queryTime", "0.20 1.31 2.26"),
    (GRAPH, BOOKINFO | {"boxBy": "none"}, r"400.*Invalid boxBy \[none\]", "1.31 2.26"),
    (GRAPH, BOOKINFO | {"groupBy": "namespace"}, "400.*Invalid groupBy", "0.20"),
    (GRAPH, BOOKINFO | {"includeIdleEdges": "2"}, "400.*Invalid includeIdleEdges", "1.31 2.26"),
    (GRAPH, BOOKINFO | {"appenders": "unusedNode"}, "400.*Invalid appenders", "1.31 2.26"),
    (GRAPH, BOOKINFO | {"appenders": "idleNode"}, "400.*Invalid appenders", "0.20"),
    (GRAPH, BOOKINFO | {"appenders": "throughput"}, "400.*Invalid appenders", "0.20 1.31"),
    (GRAPH, BOOKINFO | {"vendor": "common"}, "400.*Invalid vendor", "0.20"),
    (GRAPH, BOOKINFO | {"configVendor": "cytoscape"}, "400.*Invalid configVendor", "2.26"),
    (GRAPH, BOOKINFO | {"rateGrpc": "bytes"}, "400.*Invalid rateGrpc", "2.26"),
    (GRAPH, BOOKINFO | {"responseTime": "90"}, "400.*Invalid responseTime", "2.26"),
    ("namespaces/bookinfo/istio", {"validate": "yes"}, "400.*unsupported query parameter 'validate'", "2.26"),
    ("namespaces/bookinfo/istio", {"check": "true"}, "400.*unsupported query parameter 'check'", "2.26"),
    ("namespaces/bookinfo/services", {}, "404 without JSON", "2.26"),
    ("namespaces/bookinfo/istio/virtualservices/reviews", {}, "404 without JSON", "2.26"),
    ("clusters/services", BOOKINFO, "404 without JSON", "0.20 1.31"),
    ("istio/config", {}, "404 without JSON", "0.20 1.31"),
]
"""What the server refuses, so that a client that asks for it fails: path, query, the answer, and whose it is."""


@pytest.mark.parametrize("version", RULES)
def test_the_server_refuses_what_its_version_refuses(version: str) -> None:
    refuse = refusing(version)

    def alone(request: web.Request) -> web.Response:
        found = refuse(request)
        return web.json_response({}) if found.status == 404 and not found.body else found

    with kiali(World(), first=alone) as address:
        api = Kiali(f"{address}/kiali")
        said: dict[tuple[str, str], str] = {}
        for path, query, words, whose in REFUSED:
            try:
                api.get(path, query)
            except ClusterError as error:
                if re.search(words, str(error)):
                    said[path, str(query)] = whose
    assert said == {(path, str(query)): whose for path, query, _, whose in REFUSED if version in whose.split()}


@pytest.mark.parametrize("version", RULES)
def test_nothing_is_asked_of_a_graph_that_a_version_does_not_read(version: str) -> None:
    asked: set[str] = set()
    refuse = refusing(version)

    def read(request: web.Request) -> web.Response:
        asked.update(name for name, _ in request.query)
        return refuse(request)

    with kiali(World(), first=read) as address:
        for kind in GRAPH_TYPES:
            Kiali(f"{address}/kiali").graph("bookinfo", "istio-system", kind=kind, services=kind == "app")
    assert "appenders" in asked
    assert asked <= {*RULES[version].graph, "namespaces"}


LETS_IN = [
    ("0.20", "login", {"user": PASSWORD[0], "password": PASSWORD[1]}, "refuses the password"),
    ("1.31", "token", {"token": TOKEN}, "refuses the token"),
    ("2.26", "token", {"token": TOKEN}, "refuses the token"),
]


@pytest.mark.parametrize(("version", "strategy", "given", "words"), LETS_IN)
def test_who_has_what_a_version_asks_for_is_let_in(
    version: str, strategy: str, given: dict[str, str], words: str
) -> None:
    with kiali(World(), first=refusing(version, strategy)) as address:
        url = f"{address}/kiali"
        assert Kiali(url, **given).namespaces() == sorted(NAMESPACES)
        assert len(Kiali(url, **given).graph("bookinfo").edges) == 7
        with pytest.raises(ClusterError, match="asks who you are"):
            Kiali(url).namespaces()
        with pytest.raises(ClusterError, match=words):
            Kiali(url, **{**given, list(given)[-1]: "guess"})


def test_a_kiali_without_its_secret_asks_who_one_is() -> None:
    def nobody(request: web.Request) -> web.Response:
        return web.Response(520, "Credentials are missing. Create a secret.\n", content_type="text/plain")

    with kiali(World(), first=nobody) as address, pytest.raises(ClusterError, match="asks who you are"):
        Kiali(f"{address}/kiali").namespaces()


def test_a_token_harms_nobody_where_none_is_asked_for(mesh: Kiali) -> None:
    assert Kiali(mesh.url, token=TOKEN).namespaces() == sorted(NAMESPACES)
    assert Kiali(mesh.url).get("config")["prometheus"]["globalScrapeInterval"] > 0


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
