# SPDX-License-Identifier: Apache-2.0
"""Requests that a foreign web page may have sent, and secrets."""

from __future__ import annotations

import pytest

from labkit.ground.guard import new_secret, own_host, refusal, same_secret
from labkit.ground.web import Request, Response
from meshbox.images.guarded import guarded


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:3000", True),
        ("[::1]:3000", True),
        ("localhost", True),
        ("grafana:3000", True),
        ("grafana.istio-system", True),
        ("grafana.istio-system.svc.cluster.local:3000", True),
        ("grafana.localhost:8080", True),
        ("localhost.evil.example", False),
        ("evillocalhost.example", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("grafana.istio-system.svc", True),
        ("grafana.istio-system.svc.cluster", True),
        ("istio-system.evil", False),
        ("grafana.istio-system.svc.evil.example", False),
        ("", False),
        ("[", False),
        ("[::1", False),
        ("a]b", False),
    ],
)
def test_names_of_our_own(host: str, own: bool) -> None:
    assert own_host(host) is own


def test_a_request_without_a_name_is_answered_where_probes_ask() -> None:
    assert refusal("GET", "", "") == "this server does not answer to the name ''"
    assert refusal("GET", "", "", nameless=True) == ""


def test_a_foreign_origin_may_look_and_change_nothing() -> None:
    assert refusal("GET", "127.0.0.1:1", "http://evil.example") == ""
    assert refusal("HEAD", "127.0.0.1:1", "http://evil.example") == ""
    assert refusal("POST", "127.0.0.1:1", "http://evil.example") == "requests from http://evil.example are refused"
    assert refusal("POST", "127.0.0.1:1", "http://[") == "requests from http://[ are refused"
    assert refusal("GET", "127.0.0.1:1", "null") == "requests from null are refused"
    assert refusal("POST", "127.0.0.1:1", "http://127.0.0.1:1") == ""


def test_a_guarded_app_sees_neither() -> None:
    seen: list[str] = []

    def app(request: Request) -> Response:
        seen.append(request.path)
        return Response(200, "shown")

    asked = guarded(app)
    assert asked(Request("GET", "/a", {"host": "evil.example"})).status == 403
    assert asked(Request("POST", "/b", {"host": "127.0.0.1", "origin": "http://evil.example"})).status == 403
    assert asked(Request("GET", "/c", {})).status == 200
    assert seen == ["/c"]


def test_secrets_are_long_and_never_the_same() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(one) for one in made} == {43}


def test_a_secret_opens_to_itself_only() -> None:
    secret = new_secret()
    assert same_secret(secret, secret)
    for given in ("", secret[:-1], secret + "x", secret.swapcase(), " " + secret, "ä", "\udcff"):
        assert not same_secret(given, secret)
    # A file may hold what is no character: it is compared as the bytes it is.
    assert same_secret("\udcff" * 32, "\udcff" * 32)


@pytest.mark.parametrize("lost", ["", " ", "short", "x" * 31])
def test_a_secret_that_was_lost_opens_to_nobody(lost: str) -> None:
    assert not same_secret(lost, lost)
    assert same_secret("x" * 32, "x" * 32)
