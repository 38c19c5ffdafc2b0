# SPDX-License-Identifier: Apache-2.0
"""What istioctl asks istiod: by xDS, by HTTP, and of its injector; the stand-in hands it on to the mesh."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labkit.ground import web
from meshbox.images.grpc import server as grpc
from meshbox.images.grpc import wire
from meshbox.images.istio import components, pages
from meshbox.images.istio.xds import STREAM, answerer
from tests.mesh.syncz import SYNCZ

CONNECTIONS = {"totalClients": 1, "clients": [{"connectionId": "web-1.bookinfo", "node": "sidecar~10.0.0.1~web-1~x"}]}
TOKENS = {"istio": "istio-system", "other": "bookinfo"}


def mesh(request: web.Request) -> web.Response:
    if request.path == "/control-plane/debug/syncz":
        return web.json_response([SYNCZ])
    if request.path == "/control-plane/debug/connections":
        return web.json_response(CONNECTIONS)
    if request.path == "/control-plane/debug/mesh":
        return web.json_response(dict(request.query).get("pretty", "plain"))
    if request.path == "/control-plane/authority":
        if "own" not in dict(request.query) and "1.2.2" in os.environ["LABKIT_IMAGE"]:
            return web.json_response({"plugged": False})
        return web.Response(409, "failed to create an istiod CA: not whole\n", content_type="text/plain")
    if request.path == "/control-plane/inject" and request.method == "POST":
        return web.json_response({"reviewed": json.loads(request.body)})
    return web.Response(404, "no such page\n", content_type="text/plain")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (server,) = web.listen({0: mesh}, "127.0.0.1")
    monkeypatch.setenv("LABKIT_MESH", f"127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("LABKIT_IMAGE", "docker.io/istio/pilot:1.30.3")
    monkeypatch.setenv("HOSTNAME", "istiod-1")
    yield
    server.server_close()


def ask(type_url: str, *names: str, token: str = "istio") -> dict[int, list[Any]]:
    """A DiscoveryResponse's fields."""
    message = b"".join(wire.text(3, name) for name in names) + wire.text(4, type_url)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    method: Callable[[grpc.Call], bytes] = answerer(lambda one: TOKENS.get(one, ""), "istio-system")
    return read(method(grpc.Call(STREAM, headers, [], message, "127.0.0.1", 15012)))


def read(message: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for number, value in wire.fields(message):
        found.setdefault(number, []).append(value)
    return found


def test_which_proxies_have_what_they_were_sent(asked: None) -> None:
    answer = ask("istio.io/debug/syncz")
    assert answer[4] == [b"istio.io/debug/syncz"]
    identity = json.loads(read(answer[6][0])[1][0])
    assert (identity["Component"], identity["ID"], identity["Info"]["version"]) == ("istiod", "istiod-1", "1.30.3")
    (resource,) = answer[2]
    assert read(resource)[1] == [b"type.googleapis.com/envoy.service.status.v3.ClientConfig"]
    client = read(read(resource)[2][0])
    node = read(client[1][0])
    assert node[1] == [b"web-1.bookinfo"]
    metadata = {entry[1][0].decode(): read(entry[2][0]) for entry in (read(one) for one in read(node[3][0])[1])}
    assert metadata["NAMESPACE"] == {3: [b"bookinfo"]}
    assert metadata["ISTIO_VERSION"] == {3: [b"1.30.3"]}
    # Without it istioctl takes a client for one of its own kind.
    assert metadata["PROXY_CONFIG"] == {5: [b""]}
    types = {one[1][0].decode().rpartition(".")[2]: (one[3][0], one[6][0]) for one in map(read, client[3])}
    # ConfigStatus: 1 SYNCED, 3 STALE, 4 ERROR.
    assert types == {
        "Cluster": (b"3", 1),
        "Listener": (b"2", 3),
        "ClusterLoadAssignment": (b"7", 1),
        "RouteConfiguration": (b"4", 4),
    }


def test_who_is_connected(asked: None) -> None:
    (resource,) = ask("istio.io/connections")[2]
    assert read(resource)[1] == [b"type.googleapis.com/envoy.config.core.v3.Node"]
    assert read(read(resource)[2][0])[1] == [b"sidecar~10.0.0.1~web-1~x"]


def test_debug_pages_come_as_they_are(asked: None) -> None:
    (resource,) = ask("istio.io/debug", "mesh?pretty=yes")[2]
    assert read(resource) == {1: [b"istio.io/debug"], 2: [b'"yes"']}


@pytest.mark.parametrize(
    ("type_url", "names", "token", "code", "words"),
    [
        ("istio.io/debug/syncz", [], "", 16, "authentication failure"),
        ("istio.io/debug/syncz", [], "nobody's", 16, "authentication failure"),
        ("istio.io/debug/syncz", [], "other", 16, "not available for current identity: bookinfo"),
        ("istio.io/debug", [], "istio", grpc.INVALID_ARGUMENT, "debug type is required"),
        ("istio.io/debug", ["a", "b"], "istio", grpc.INVALID_ARGUMENT, "only one debug request is allowed"),
        ("istio.io/debug/config_dump", ["a.b"], "istio", grpc.UNIMPLEMENTED, "istioctl proxy-config all POD"),
        ("type.googleapis.com/envoy.config.cluster.v3.Cluster", [], "istio", grpc.UNIMPLEMENTED, "over REST"),
    ],
)
def test_what_is_refused_in_words(
    asked: None, type_url: str, names: list[str], token: str, code: int, words: str
) -> None:
    with pytest.raises(grpc.CallError, match=words) as refused:
        ask(type_url, *names, token=token)
    assert refused.value.code == code


def test_no_token_can_be_reviewed_while_the_api_is_away(asked: None) -> None:
    def away(_: str) -> str:
        raise ConnectionRefusedError("nobody listens")

    call = grpc.Call(STREAM, {"authorization": "Bearer x"}, [], wire.text(4, "istio.io/debug/syncz"), "127.0.0.1", 1)
    with pytest.raises(grpc.CallError, match="nobody listens") as refused:
        answerer(away, "istio-system")(call)
    assert refused.value.code == grpc.UNAVAILABLE


def inner(request: web.Request) -> web.Response:
    return web.Response(200, f"inner {request.path}")


def test_pages_are_found_as_gos_router_finds_them(asked: None) -> None:
    app = pages.cleaned(pages.debug(inner))
    assert app(web.Request("GET", "//version", {})).body == "inner /version"
    assert app(web.Request("GET", "//debug/mesh?pretty=1", {})).body == b'"1"'
    assert app(web.Request("GET", "/debug/none", {})).status == 404


def test_a_mesh_that_is_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_MESH", raising=False)
    answer = pages.debug(inner)(web.Request("GET", "/debug/syncz", {}))
    assert answer.status == 503
    assert "the mesh does not answer" in str(answer.body)


def test_the_injectors_page_hands_reviews_on(asked: None) -> None:
    app = pages.injector(inner)
    review = b'{"kind": "AdmissionReview"}'
    assert json.loads(app(web.Request("POST", "/inject", {}, review)).body) == {  # type: ignore[arg-type]
        "reviewed": {"kind": "AdmissionReview"}
    }
    assert app(web.Request("GET", "/inject", {})).body == "inner /inject"


def test_controlz_says_that_there_are_no_scopes() -> None:
    app = pages.controlz(inner)
    (scope,) = json.loads(app(web.Request("GET", "/scopej", {})).body)  # type: ignore[arg-type]
    assert (scope["name"], scope["output_level"]) == ("default", "info")
    assert "no scopes are played" in scope["description"]
    assert json.loads(app(web.Request("GET", "/scopej/default", {})).body) == scope  # type: ignore[arg-type]
    assert app(web.Request("PUT", "/scopej/all", {})).status == 501
    assert app(web.Request("GET", "/", {})).body == "inner /"
    page = app(web.Request("GET", "/scopez/", {}))
    assert (page.status, page.body) == (501, "the sandbox's istiod has no log whose level could be set\n")


def test_an_istiod_ends_whose_authority_cannot_be_used(
    asked: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pilot-discovery", "discovery"])
    assert components.pilot() == 1
    assert "failed to create discovery service: failed to create an istiod CA: not whole" in capsys.readouterr().err
    # Citadel says whether it signs for itself; if not, there must be somebody else.
    monkeypatch.setenv("LABKIT_IMAGE", "docker.io/istio/citadel:1.2.2")
    for flag, words in (
        ("true", "failed to create an istiod CA: not whole"),
        ("false", "open /etc/cacerts/ca-cert.pem"),
    ):
        monkeypatch.setattr("sys.argv", ["istio_ca", f"--self-signed-ca={flag}"])
        assert components.citadel() == 1
        assert f"(error: {words}" in capsys.readouterr().err
