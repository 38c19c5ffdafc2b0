# SPDX-License-Identifier: Apache-2.0
"""What Istio's tasks ask of httpbin besides its pages."""

from __future__ import annotations

import pytest

from labkit.ground.web import Request, Response
from meshbox.images.httpbin.answers import answer


def ask(path: str, method: str = "GET", *, lists: bool = True, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(Request(method, path, named, b"", "127.0.0.1", list(named.items())), lists=lists)


@pytest.mark.parametrize("lists", [True, False])
def test_a_preflight_is_answered(lists: bool) -> None:
    asked = {"origin": "https://shop.example", "access_control_request_headers": "x-a, x-b"}
    headers = dict(ask("/get", "OPTIONS", lists=lists, **asked).headers)
    assert headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert headers["Access-Control-Allow-Headers"] == "x-a, x-b"
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, HEAD, PUT, DELETE, PATCH, OPTIONS"
    assert headers["Access-Control-Max-Age"] == "3600"
    assert dict(ask("/get", lists=lists).headers)["Access-Control-Allow-Origin"] == "*"


def test_teapots_differ() -> None:
    assert ask("/status/418").body == "I'm a teapot!"
    assert "-=[ teapot ]=-" in str(ask("/status/418", lists=False).body)


def test_the_host_is_told_only_if_it_is_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTNAME", "httpbin-1")
    assert ask("/hostname").body == '{\n  "hostname": "dummy-hostname"\n}\n'
    monkeypatch.setenv("USE_REAL_HOSTNAME", "1")
    assert ask("/hostname").body == '{\n  "hostname": "httpbin-1"\n}\n'
