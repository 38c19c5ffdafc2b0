# SPDX-License-Identifier: Apache-2.0
"""Where the keys of tokens are fetched from, and why they could not be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.ground.reading import ReadingError
from labkit.ground.web import Request, Response, listen
from meshbox.images.extauthz.keys import KEYS as PUBLISHED
from meshbox.mesh import jwks
from meshbox.mesh.jwks import fetch
from meshbox.mesh.jwt import key_source, nobodys_keys
from meshbox.mesh.kinds import REQUEST_AUTHENTICATIONS
from tests.conftest import PATIENCE

from .objects import PLAN, istio, service, snapshot

Obj = dict[str, Any]
KEYS = {"keys": [{"kty": "oct", "k": "YQ"}]}
POD = str(PLAN.pod_cidr[40])


@pytest.fixture
def port() -> Iterator[int]:
    """A server of keys, at the address of a pod."""

    def app(request: Request) -> Response:
        pages = {
            "/jwks": json.dumps(KEYS),
            "/empty": '{"keys": []}',
            "/words": "none",
            "/.well-known/openid-configuration": json.dumps({"jwks_uri": f"http://{request.headers['host']}/jwks"}),
            "/odd/.well-known/openid-configuration": "{}",
        }
        if request.path not in pages:
            return Response(404, "")
        return Response(200, pages[request.path], content_type="application/json")

    (server,) = listen({0: app}, POD)
    yield server.server_address[1]
    server.server_close()


def test_keys_come_from_where_the_rule_or_the_issuer_says(port: int) -> None:
    snap = snapshot()
    assert json.loads(fetch(snap, f"http://{POD}:{port}/jwks", PATIENCE)) == KEYS
    found = key_source({"issuer": f"http://{POD}:{port}/"})
    assert found == f"http://{POD}:{port}/.well-known/openid-configuration"
    assert json.loads(fetch(snap, found, PATIENCE)) == KEYS
    assert key_source({"issuer": "books"}) == ""
    assert key_source({"issuer": "books", "jwks": "{}", "jwksUri": "http://a/"}) == ""
    assert key_source({"issuer": "http://a", "jwksUri": "http://b/c"}) == "http://b/c"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/empty", "what was answered holds no keys"),
        ("/words", "."),
        ("/none", "status 404"),
        ("/odd/.well-known/openid-configuration", "its discovery document has no jwks_uri"),
    ],
)
def test_what_is_answered_may_be_no_keys(port: int, path: str, why: str) -> None:
    with pytest.raises((OSError, ReadingError), match=why):
        fetch(snapshot(), f"http://{POD}:{port}{path}", PATIENCE)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("http://127.0.0.1:80/", "no pod has this address"),
        ("http://localhost/", "the control plane's own pod serves no keys"),
        *((f"http://{host}:80/", "no pod has this address") for host in ("127.1", "2130706433", "0x7f.1", "0.0.0.0")),
        ("http://localhost.:80/", "the control plane's own pod serves no keys"),
        ("http://[::1]:80/", "no pod has this address"),
        ("http://[::ffff:127.0.0.1]:80/", "no pod has this address"),
        ("http://keys.bookinfo:80/", "Service bookinfo/keys has no port 80"),
        ("http://keys.bookinfo.svc:8000/", "Service bookinfo/keys has no ready endpoints"),
        ("http://keys.bookinfo.svc.cluster.local:8000/", "Service bookinfo/keys has no ready endpoints"),
    ],
)
def test_the_cluster_is_asked_and_nothing_else_of_this_machine(place: str, why: str) -> None:
    snap = snapshot(services=[service("keys", ("http", 8000))])
    with pytest.raises(OSError, match=why):
        fetch(snap, place, PATIENCE)


@pytest.mark.parametrize("place", ["http://[x/", "http://a:99999/", "http://a..b/", "http://" + "a" * 70 + ".test/"])
async def test_what_is_no_url_is_told_of_and_stops_nothing(place: str) -> None:
    obj = {
        **istio("r", {"jwtRules": [{"issuer": "x", "jwksUri": place, "timeout": "x"}]}),
        "kind": "RequestAuthentication",
    }
    snap = snapshot(kept={REQUEST_AUTHENTICATIONS: [obj]})
    told: Any = Told()
    fetcher = jwks.KeyFetcher(told, lambda: snap, lambda: None, "istiod")
    fetcher.follow()
    async with asyncio.timeout(240):
        while not told.messages:
            await asyncio.sleep(0)
    fetcher.follow()
    await fetcher.stop()
    assert told.messages[0].endswith("its tokens are refused (401): that is no URL, or names no host")


@pytest.mark.parametrize(("timeout", "waited"), [(None, 5.0), ("2s", 2.0), ("10000h", 30.0), ("x", 5.0)])
def test_no_rule_keeps_a_thread_for_hours(timeout: str | None, waited: float) -> None:
    rule: Obj = {"issuer": "x", "jwksUri": "http://a.test/", "timeout": timeout}
    obj = {**istio("r", {"jwtRules": [rule]}), "kind": "RequestAuthentication"}
    (source,) = jwks._wanted(snapshot(kept={REQUEST_AUTHENTICATIONS: [obj]})).values()
    assert source.wait == waited


def test_nobodys_keys_are_one_key_and_always_the_same() -> None:
    (key,) = json.loads(nobodys_keys())["keys"]
    assert (key["kty"], key["alg"], sorted(key)) == ("EC", "ES256", ["alg", "crv", "kid", "kty", "x", "y"])
    assert nobodys_keys() is nobodys_keys()


class Told:
    """Takes events as the API does."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def event(self, _involved: Obj, _type: str, _reason: str, message: str, _component: str) -> None:
        self.messages.append(message)


@pytest.mark.parametrize(
    ("branch", "held"),
    [("istio/istio/release-1.30/security/tools/jwt/samples", True), ("other/istio/main/security", False)],
)
async def test_the_keys_of_istios_own_samples_are_known_without_a_network(
    branch: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"https://raw.githubusercontent.com/{branch}/jwks.json"

    def nowhere(*_: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(jwks, "fetch", nowhere)
    spec = {"jwtRules": [{"issuer": "testing@secure.istio.io", "jwksUri": place}]}
    snap = snapshot(request_authentications=[istio("r", spec)])
    told: Any = Told()
    changes: list[bool] = []
    fetcher = jwks.KeyFetcher(told, lambda: snap, lambda: changes.append(True), "istiod")
    fetcher.follow()
    async with asyncio.timeout(240):
        while not told.messages:
            await asyncio.sleep(0)
    await fetcher.stop()
    (said,) = told.messages
    assert place in said
    assert "no route to host" in said
    assert ("publishes with its samples" in said, "refused (401)" in said) == (held, not held)
    assert (fetcher.keys, changes) == (({place: json.dumps(PUBLISHED)}, [True]) if held else ({}, []))
