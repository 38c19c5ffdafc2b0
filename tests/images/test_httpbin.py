# SPDX-License-Identifier: Apache-2.0
"""httpbin answers with what it was asked."""

from __future__ import annotations

import base64
import gzip
import json
import time
import zlib
from typing import Any

import pytest

from labkit.ground.web import Request, Response
from meshbox.images.httpbin.answers import PAGES, answer


def ask(path: str, method: str = "GET", body: bytes = b"", lists: bool = False, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in {"host": "httpbin:8000", **headers}.items()}
    return answer(Request(method, path, named, body, "127.0.0.1", list(named.items())), lists=lists)


def data(response: Response) -> bytes:
    if isinstance(response.body, str):
        return response.body.encode()
    return response.body if isinstance(response.body, bytes) else b"".join(response.body)


def content(response: Response) -> Any:
    return json.loads(data(response))


def test_get_shows_the_request() -> None:
    shown = content(ask("/get?a=1&b=2&b=3", user_agent="curl", x_forwarded_proto="https"))
    assert shown["args"] == {"a": "1", "b": ["2", "3"]}
    assert shown["headers"]["User-Agent"] == "curl"
    assert shown["origin"] == "127.0.0.1"
    assert shown["url"] == "https://httpbin:8000/get?a=1&b=2&b=3"
    assert content(ask("/get?a=1", lists=True))["args"] == {"a": ["1"]}
    assert content(ask("/headers", lists=True, accept="x"))["headers"]["Accept"] == ["x"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_methods_have_pages_of_their_own(method: str) -> None:
    shown = content(ask(f"/{method.lower()}", method, b'{"a": 1}', content_type="application/json"))
    assert (shown["json"], shown["data"]) == ({"a": 1}, '{"a": 1}')
    assert ask(f"/{method.lower()}").status == 405


def test_forms_and_anything() -> None:
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert content(ask("/post", "POST", b"a=1&b=%20", **form))["form"] == {"a": "1", "b": " "}
    shown = content(ask("/anything/else", "PUT", b"text"))
    assert (shown["method"], shown["data"], shown["json"]) == ("PUT", "text", None)


@pytest.mark.parametrize("status", [200, 204, 404, 418, 500, 503])
def test_status(status: int) -> None:
    assert ask(f"/status/{status}").status == status


def test_status_chooses_among_several_and_refuses_nonsense() -> None:
    assert {ask("/status/200,500").status for _ in range(100)} == {200, 500}
    assert {ask("/status/200:0,503:1").status for _ in range(20)} == {503}
    for path in ("/status/abc", "/status/", "/status/99", "/status/1000"):
        assert ask(path).status == 400


def test_delay_waits_at_most_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert ask("/delay/0.5").status == 200
    assert ask("/delay/1000").status == 200
    assert slept == [0.5, 10.0]
    for path in ("/delay/x", "/delay/-1", "/delay/nan", "/delay"):
        assert ask(path).status == 400


def test_redirects() -> None:
    assert dict(ask("/redirect/2").headers)["Location"] == "/relative-redirect/1"
    assert dict(ask("/relative-redirect/1").headers)["Location"] == "/get"
    assert dict(ask("/absolute-redirect/1").headers)["Location"] == "http://httpbin:8000/get"
    assert dict(ask("/redirect-to?url=/x&status_code=307").headers)["Location"] == "/x"
    assert ask("/redirect-to?url=/x&status_code=307").status == 307
    assert ask("/redirect/0").status == 400
    assert ask("/redirect-to").status == 400


def test_headers_cannot_be_split() -> None:
    for path in ("/redirect-to?url=/x%0d%0aEvil:1", "/response-headers?a=b%0d%0aEvil:1"):
        assert not any("\n" in value or "\r" in value for _, value in ask(path).headers)


def test_cookies() -> None:
    assert content(ask("/cookies", cookie="a=1; b=2")) == {"cookies": {"a": "1", "b": "2"}}
    assert ("Set-Cookie", "a=1; Path=/") in ask("/cookies/set?a=1").headers
    assert ("Set-Cookie", "a=1; Path=/") in ask("/cookies/set/a/1").headers
    assert any("Max-Age=0" in value for _, value in ask("/cookies/delete?a=").headers)


def test_authorization() -> None:
    basic = "Basic " + base64.b64encode(b"u:p").decode()
    assert content(ask("/basic-auth/u/p", authorization=basic)) == {"authenticated": True, "user": "u"}
    assert ask("/basic-auth/u/x", authorization=basic).status == 401
    assert ask("/hidden-basic-auth/u/p").status == 404
    assert content(ask("/bearer", authorization="Bearer t"))["token"] == "t"
    assert ask("/bearer").status == 401


def test_bodies() -> None:
    assert len(data(ask("/bytes/100"))) == 100
    assert data(ask("/bytes/9?seed=1")) == data(ask("/bytes/9?seed=1"))
    assert len(data(ask("/bytes/99999999"))) == 100 * 1024
    assert [json.loads(line)["id"] for line in data(ask("/stream/3")).splitlines()] == [0, 1, 2]
    assert data(ask("/drip?numbytes=5&duration=0")) == b"*****"
    assert json.loads(gzip.decompress(data(ask("/gzip"))))["gzipped"] is True
    assert json.loads(zlib.decompress(data(ask("/deflate"))))["deflated"] is True
    assert data(ask("/base64/aGVsbG8=")) == b"hello"


def test_caching() -> None:
    assert ask("/cache").status == 200
    assert ask("/cache", if_none_match="x").status == 304
    assert dict(ask("/cache/60").headers)["Cache-Control"] == "public, max-age=60"
    assert ask("/etag/abc", if_none_match='"abc"').status == 304
    assert dict(ask("/etag/abc").headers)["ETag"] == '"abc"'


def test_small_pages() -> None:
    assert content(ask("/ip"))["origin"] == "127.0.0.1"
    assert content(ask("/ip", x_forwarded_for="10.0.0.1"))["origin"] == "10.0.0.1"
    assert content(ask("/user-agent", user_agent="x"))["user-agent"] == "x"
    assert len(content(ask("/uuid"))["uuid"]) == 36
    assert content(ask("/json"))["slideshow"]["title"]
    for path in ("/html", "/xml", "/robots.txt", "/deny", "/"):
        assert ask(path).status == 200
    assert dict(ask("/response-headers?X-A=1").headers)["X-A"] == "1"
    assert ask("/nope").status == 404


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_page_breaks_on_odd_paths(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for rest in ("", "/", "/x", "/1/2/3", "/%00", "?=&&", "/-1", "/9" * 50):
        response = ask(f"/{page}{rest}")
        assert response.status < 500 or page == "status"
        data(response)
