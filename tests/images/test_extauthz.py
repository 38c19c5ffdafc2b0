# SPDX-License-Identifier: Apache-2.0
"""Istio's sample authorizer and its server of keys."""

from __future__ import annotations

import json

import pytest

from labkit.ground.web import Request
from meshbox.images import find
from meshbox.images.extauthz import keys, messages
from meshbox.images.extauthz.server import DENIED, asked_by_grpc, asked_by_http


def part(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def check(principal: str = "", **headers: str) -> bytes:
    entries = b"".join(
        part(3, part(1, name.replace("_", "-").encode()) + part(2, value.encode())) for name, value in headers.items()
    )
    # A number and eight bytes that mean nothing here are passed over.
    http = part(2, b"GET") + entries + part(4, b"/a?b=c") + part(5, b"shop") + bytes([9 << 3, 1]) + b"\x61" + b"\0" * 8
    return part(1, part(1, part(4, principal.encode())) + part(4, part(2, http)))


@pytest.mark.parametrize(
    "reference",
    ["registry.istio.io/testing/ext-authz:latest", "gcr.io/istio-testing/ext-authz:latest", "istio/jwt-server:0.5"],
)
def test_the_samples_own_references_are_known(reference: str) -> None:
    image = find(reference)
    assert image is not None
    assert image.stands_in


def test_a_check_over_http_is_answered_and_told_to_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    sent = {"host": "shop", "x-ext-authz": "allow", "accept": "*/*"}
    reply = asked_by_http(Request("GET", "/a", sent, items=list(sent.items())))
    assert (reply.status, reply.body) == (200, "")
    found = dict(reply.headers)
    assert found["x-ext-authz-check-result"] == "allowed"
    said = "GET shop/a, headers: map[Accept:[*/*] X-Ext-Authz:[allow]], body: []"
    assert found["x-ext-authz-check-received"] == said
    assert f"[HTTP][allowed]: {said}" in capsys.readouterr().out
    refused = asked_by_http(Request("GET", "/a", {"host": "shop"}))
    assert (refused.status, refused.body) == (403, DENIED)
    assert DENIED == "denied by ext_authz for not found header `x-ext-authz: allow` in the request"


def test_the_log_tells_all_that_envoy_said_of_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    def number(field: int, value: int) -> bytes:
        return bytes([field << 3, value])

    def peer(address: bytes, port: int, principal: bytes) -> bytes:
        return part(1, part(1, part(2, address) + number(3, port))) + part(4, principal)

    called = [part(3, part(1, name) + part(2, b'a"b')) for name in (b"x-b", b"x-a")]
    less = bytes([9 << 3]) + b"\xff" * 9 + b"\x01"
    http = (
        b"".join(called)
        + less
        + part(10, b"HTTP/1.1")
        + part(1, b"7")
        + part(2, b"GET")
        + part(4, b"/a")
        + part(5, b"h")
    )
    request = part(4, part(1, number(1, 5) + number(2, 6)) + part(2, http))
    asked_by_grpc("a")(
        Request(
            "POST",
            "/",
            {},
            _framed(part(1, peer(b"10.0.0.1", 9, b"one")) + part(2, peer(b"10.0.0.2", 80, b"two")) + request),
        )
    )
    assert capsys.readouterr().out.split("attributes: ")[1].strip() == (
        'source:{address:{socket_address:{address:"10.0.0.1" port_value:9}} principal:"one"} '
        'destination:{address:{socket_address:{address:"10.0.0.2" port_value:80}} principal:"two"} '
        'request:{time:{seconds:5 nanos:6} http:{id:"7" method:"GET" headers:{key:"x-a" value:"a\\"b"} '
        'headers:{key:"x-b" value:"a\\"b"} path:"/a" host:"h" size:-1 protocol:"HTTP/1.1"}}'
    )


def _framed(attributes: bytes) -> bytes:
    size = len(attributes)
    return bytes([1 << 3 | 2, size & 127 | 128, size >> 7]) + attributes


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        (check(x_ext_authz="allow"), True),
        (check(x_ext_authz="deny"), False),
        (check(), False),
        (check("spiffe://cluster.local/ns/x/sa/a"), True),
        (check("spiffe://cluster.local/ns/x/sa/a", x_ext_authz="no"), False),
        (check("spiffe://cluster.local/ns/x/sa/b"), False),
    ],
)
def test_a_check_over_grpc_is_read_and_answered(sent: bytes, allowed: bool) -> None:
    reply = asked_by_grpc("a")(Request("POST", "/", {}, sent))
    assert isinstance(reply.body, bytes)
    assert reply.content_type == "application/grpc+proto"
    fields = dict(messages._fields(reply.body))
    assert (3 in fields, 2 in fields) == (allowed, not allowed)
    assert (DENIED.encode() in reply.body) is not allowed
    read = messages.read(sent)
    assert (read.method, read.host, read.path) == ("GET", "shop", "/a?b=c")


@pytest.mark.parametrize("sent", [b"\x0a", b"\x0a\x05abc", b"\xff" * 12, b"\x0f"])
def test_bytes_that_are_no_check_are_refused(sent: bytes) -> None:
    assert asked_by_grpc("a")(Request("POST", "/", {}, sent)).status == 400


def test_the_published_keys_are_served() -> None:
    reply = keys.answer(Request("GET", "/jwks", {}))
    assert isinstance(reply.body, str)
    (key,) = json.loads(reply.body)["keys"]
    assert key["kid"] == "DHFbpoIUqrY8t2zpA2qXfCmr5VO5ZEr4RzHU_-envvQ"
