# SPDX-License-Identifier: Apache-2.0
"""The map beside the notebook: what is on it, when it looks, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import ipykernel.connect
import pytest

from labkit import kernel, ui
from labkit.cluster import target
from labkit.display import Rich
from labkit.ground.errors import ClusterError
from labkit.observe.flows import Call
from labkit.ui import embedding, mesh_map
from tests.cluster.fake_kubectl import FakeKubectl
from tests.conftest import wait_until


def service(name: str) -> dict[str, Any]:
    return {"kind": "Service", "apiVersion": "v1", "metadata": meta(name), "spec": {"selector": {"app": name}}}


def deployment(app: str, version: str = "v1") -> dict[str, Any]:
    spec = {"template": {"metadata": {"labels": {"app": app, "version": version}}}}
    return {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": meta(f"{app}-{version}"), "spec": spec}


def meta(name: str, namespace: str = "bookinfo") -> dict[str, str]:
    return {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1"}


class World:
    """What there is to see, how often somebody looked, and what was shown."""

    def __init__(self) -> None:
        self.calls: list[Call] = [Call("istio-ingressgateway", "istio-system", "reviews", "reviews-v2", "http", 3.0)]
        self.asked = self.watched_for = 0
        self.watched = False
        self.broken = ""
        self.shown: list[str] = []

    def ask(self, *_: object) -> list[Call]:
        self.asked += 1
        if self.broken:
            raise ClusterError(self.broken)
        return self.calls

    def somebody(self) -> bool:
        self.watched_for += 1
        return self.watched

    def update(self, what: Rich) -> None:
        self.shown.append(what.text)

    def show(self, what: Rich) -> World:
        self.update(what)
        return self


@pytest.fixture
def world(kubectl: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    kubectl.api.items = [service("reviews"), deployment("reviews"), deployment("reviews", "v2"), deployment("lonely")]
    monkeypatch.setattr(mesh_map, "calls", made.ask)
    monkeypatch.setattr(mesh_map, "address_of", lambda name, show: "http://127.0.0.1:9090")
    monkeypatch.setattr(mesh_map, "somebody_looks", made.somebody)
    monkeypatch.setattr(mesh_map.display, "show", made.show)
    monkeypatch.setattr(mesh_map, "_EVERY", 0.02)
    yield made
    target.end_lesson()
    wait_until(lambda: not threads(), 60, "the thread to end")


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "map of bookinfo"]


def test_services_workloads_callers_and_rules_are_on_it(world: World, kubectl: FakeKubectl) -> None:
    gateway = {"kind": "Gateway", "apiVersion": "networking.istio.io/v1", "metadata": meta("door")}
    kubectl.api.items += [{**gateway, "spec": {"selector": {"app": "lonely"}}}]
    seen = ui.mesh()
    lines = world.shown[0].splitlines()
    assert lines[:4] == [
        "reviews: reviews-v1, reviews-v2",
        "lonely-v1: lonely-v1 [Gateway door]",
        "istio-ingressgateway: istio-ingressgateway",
        "istio-ingressgateway → reviews (reviews-v2): 3.0/s",
    ]
    assert "over 1m: 3.0 requests a second between workloads, none of them an error" in lines[4]
    assert seen.edges[["caller", "workload", "rate"]].to_numpy().tolist() == [
        ["istio-ingressgateway", "reviews-v2", 3.0]
    ]
    assert seen.rules[["kind", "name", "workload"]].to_numpy().tolist() == [["Gateway", "door", "lonely-v1"]]


def test_without_traffic_or_prometheus_it_says_so(world: World) -> None:
    world.calls = []
    ui.mesh()
    assert "Nobody has asked anything within 1m: `bookinfo.traffic(ingress.url)` does" in world.shown[-1]
    assert "reviews: reviews-v1, reviews-v2" in world.shown[-1]
    world.broken = "there is no Istio to see with prometheus"
    ui.mesh()
    assert "Without traffic, as Prometheus cannot be asked: there is no Istio" in world.shown[-1]


def test_where_nobody_can_look_it_is_one_picture(world: World) -> None:
    ui.mesh()
    assert (world.asked, world.watched_for, len(world.shown), threads()) == (1, 1, 1, [])


def test_it_looks_while_somebody_does_and_asks_nobody_else_meanwhile(world: World) -> None:
    world.watched = True
    seen = ui.mesh()
    wait_until(lambda: world.asked >= 3, 60, "further looks")
    world.watched = False
    # A look may have begun before.
    at = world.watched_for
    wait_until(lambda: world.watched_for > at + 1, 60, "the next questions")
    before, at = world.asked, world.watched_for
    wait_until(lambda: world.watched_for > at + 5, 60, "some questions")
    assert world.asked == before
    world.watched = True
    wait_until(lambda: world.asked > before, 60, "a look once somebody is there again")
    seen.stop()
    wait_until(lambda: not threads(), 60, "its end")
    assert "This is what was seen last." in world.shown[-1]


def test_its_time_the_next_map_and_the_next_lesson_end_it(world: World) -> None:
    world.watched = True
    ui.mesh(seconds=0.1)
    wait_until(lambda: not threads(), 60, "its time to be over")
    first = ui.mesh()
    second = ui.mesh()
    wait_until(lambda: len(threads()) == 1, 60, "the first to end")
    assert first._over.is_set()
    assert not second._over.is_set()
    target.end_lesson()
    wait_until(lambda: not threads(), 60, "the second to end")
    ui.mesh()
    target._set(target._UNFINISHED)
    wait_until(lambda: not threads(), 60, "the end of one whose cluster is lost")


def test_a_cluster_that_is_silent_for_a_while_is_told_and_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.watched = True
    answers = iter(["", "the API server is starting", "", ""])
    plain = mesh_map.MeshMap._look

    def look(self: mesh_map.MeshMap) -> None:
        if said := next(answers, ""):
            raise ClusterError(said)
        plain(self)

    monkeypatch.setattr(mesh_map.MeshMap, "_look", look)
    seen = ui.mesh()
    wait_until(lambda: len(world.shown) >= 3, 60, "a look after the silence")
    assert "the API server is starting" in world.shown[1]
    assert "the API server is starting" not in world.shown[2]
    seen.stop()


def test_the_jupyter_server_knows_whether_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    answers = ['{"connections": 2}', '{"connections": 0}', "no JSON", "[]"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            body = answers[len(asked) - 1].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        told = {"url": f"http://127.0.0.1:{server.server_port}/lab/", "token": "secret"}
        monkeypatch.setattr(embedding, "_server", lambda: told)
        assert not embedding.somebody_looks(), "this is no kernel"
        monkeypatch.setattr(kernel, "running", lambda: object())
        monkeypatch.setattr(ipykernel.connect, "get_connection_file", lambda: "/run/kernel-0a1b.json")
        assert [embedding.somebody_looks() for _ in answers] == [True, False, False, False]
        assert set(asked) == {("/lab/api/kernels/0a1b", "token secret")}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert not embedding.somebody_looks(), "nobody answers any more"
