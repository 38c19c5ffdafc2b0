# SPDX-License-Identifier: Apache-2.0
"""What httpbin answers: one function a page."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import random
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlencode

from labkit.ground import reading
from labkit.ground.web import Request, Response
from meshbox.images import websocket

__all__ = ["PAGES", "Call", "answer"]

_LONGEST_DELAY = 10.0
_MOST_BYTES = 100 * 1024
_METHODS = ("get", "post", "put", "patch", "delete")
_ALLOWED = "GET, POST, HEAD, PUT, DELETE, PATCH, OPTIONS"
_TEAPOT = """
    -=[ teapot ]=-

        .--.
    ____|__|____   _
   /            \\_//
  |              |_/
   \\____________/
"""


@dataclass(frozen=True)
class Call:
    """A request, taken apart.

    Args:
        request: The request.
        parts: The segments of its path.
        lists: Whether values are shown as lists, as go-httpbin shows them.
    """

    request: Request
    parts: list[str]
    lists: bool

    def number(self, most: float, index: int = 1) -> float:
        """The number in the path.

        Raises:
            ValueError: there is none, or a negative one.
        """
        value = float(self.parts[index]) if len(self.parts) > index else -1.0
        if not 0 <= value < float("inf"):
            raise ValueError("a number is expected in the path")
        return min(value, most)

    def headers(self) -> dict[str, Any]:
        """The request's headers as they are shown."""
        shown: dict[str, Any] = {}
        for name, value in self.request.items:
            title = "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))
            shown.setdefault(title, []).append(value)
        return {name: values if self.lists else ",".join(values) for name, values in sorted(shown.items())}

    def pairs(self, items: list[tuple[str, str]]) -> dict[str, Any]:
        """Names and values: several of one name as a list."""
        shown: dict[str, list[str]] = {}
        for name, value in items:
            shown.setdefault(name, []).append(value)
        return {name: values if self.lists or len(values) > 1 else values[0] for name, values in shown.items()}

    def described(self) -> dict[str, Any]:
        """The request as /get and the like show it."""
        origin = self.request.headers.get("x-forwarded-for", self.request.client)
        scheme = self.request.headers.get("x-forwarded-proto", "http")
        url = f"{scheme}://{self.request.headers.get('host', '')}{self.request.target}"
        shown = {"args": self.pairs(self.request.query), "headers": self.headers(), "origin": origin, "url": url}
        if self.lists:
            shown["method"] = self.request.method
        return shown

    def described_with_body(self) -> dict[str, Any]:
        """The request with its body, as /post and the like show it."""
        text = self.request.body.decode(errors="replace")
        kind = self.request.headers.get("content-type", "")
        shown: dict[str, Any] = {"data": text, "files": {}, "form": {}, "json": None}
        if kind.startswith("application/x-www-form-urlencoded"):
            shown["form"] = self.pairs(list(self.request.form().items()))
            shown["data"] = ""
        try:
            shown["json"] = reading.json_value(text) if text else None
        except reading.ReadingError:
            pass
        return {**self.described(), **shown}


def _told(content: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """An answer as both programs write theirs: a line for each value, for whoever looks with `grep`."""
    return Response(status, _written(content), list(headers), "application/json")


def _written(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _error(status: int, text: str) -> Response:
    return _told({"error": text}, status)


def _echo(call: Call) -> Response:
    allowed = call.parts[0].upper()
    if call.request.method != allowed and not (allowed == "GET" and call.request.method == "HEAD"):
        return Response(405, "Method Not Allowed\n", [("Allow", allowed)], "text/plain")
    return _told(call.described() if allowed == "GET" else call.described_with_body())


def _anything(call: Call) -> Response:
    return _told({**call.described_with_body(), "method": call.request.method})


def _status(call: Call) -> Response:
    choices, weights = [], []
    for item in (call.parts[1] if len(call.parts) > 1 else "").split(","):
        code, _, weight = item.partition(":")
        choices.append(int(code))
        weights.append(float(weight or 1))
    status = random.choices(choices, weights)[0]
    if not 200 <= status <= 599:
        raise ValueError("status codes are 200 to 599")
    headers = [("Location", "/redirect/1")] if status in (301, 302, 303, 307, 308) else []
    body: str | bytes = b""
    if status == 418:
        body = "I'm a teapot!" if call.lists else _TEAPOT
        headers += [] if call.lists else [("x-more-info", "http://tools.ietf.org/html/rfc2324")]
    return Response(status, body, headers, "text/plain" if body else "text/html; charset=utf-8")


def _delay(call: Call) -> Response:
    time.sleep(call.number(_LONGEST_DELAY))
    return _told(call.described_with_body())


def _redirect(call: Call) -> Response:
    count = int(call.number(100))
    if count < 1:
        raise ValueError("at least one redirect")
    target = "/get" if count == 1 else f"/relative-redirect/{count - 1}"
    if call.parts[0] == "absolute-redirect":
        target = f"http://{call.request.headers.get('host', '')}{target.replace('relative', 'absolute')}"
    return Response(302, b"", [("Location", target)])


def _redirect_to(call: Call) -> Response:
    query = dict(call.request.query)
    if "url" not in query:
        raise ValueError("the query needs url=")
    return Response(
        int(query.get("status_code", 302)), b"", [("Location", query["url"].replace("\r", "").replace("\n", ""))]
    )


def _cookies(call: Call) -> Response:
    action = call.parts[1] if len(call.parts) > 1 else ""
    if not action:
        shown = call.request.cookies()
        return _told(shown if call.lists else {"cookies": shown})
    wanted = list(call.request.query)
    if action == "set" and len(call.parts) == 4:
        wanted = [(call.parts[2], call.parts[3])]
    past = "; Expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=0" if action == "delete" else ""
    cookies = [("Set-Cookie", f"{urlencode({name: value})}; Path=/{past}") for name, value in wanted]
    return Response(302, b"", [("Location", "/cookies"), *cookies])


def _response_headers(call: Call) -> Response:
    query = [(name, value.replace("\r", "").replace("\n", "")) for name, value in call.request.query]
    return _told(call.pairs(query), headers=query)


def _bytes(call: Call) -> Response:
    seed = dict(call.request.query).get("seed")
    source = random.Random(seed)
    return Response(200, source.randbytes(int(call.number(_MOST_BYTES))), content_type="application/octet-stream")


def _stream(call: Call) -> Response:
    shown, count = call.described(), int(call.number(100))

    def lines() -> Iterator[bytes]:
        for number in range(count):
            yield json.dumps({**shown, "id": number}).encode() + b"\n"

    return Response(200, lines(), content_type="application/json")


def _drip(call: Call) -> Response:
    query = dict(call.request.query)
    count = min(int(query.get("numbytes", 10)), _MOST_BYTES)
    duration = min(float(query.get("duration", 2)), _LONGEST_DELAY)
    time.sleep(min(float(query.get("delay", 0)), _LONGEST_DELAY))

    def drops() -> Iterator[bytes]:
        for _ in range(count):
            yield b"*"
            time.sleep(duration / max(count, 1))

    return Response(int(query.get("code", 200)), drops(), content_type="application/octet-stream")


def _basic_auth(call: Call) -> Response:
    user, password = call.parts[1:3]
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    if call.request.headers.get("authorization") != wanted:
        if call.parts[0] == "hidden-basic-auth":
            return Response(404, b"")
        return Response(401, b"", [("WWW-Authenticate", 'Basic realm="Fake Realm"')])
    return _told({"authenticated": True, "user": user, **({"authorized": True} if call.lists else {})})


def _bearer(call: Call) -> Response:
    kind, _, token = call.request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or not token:
        return Response(401, b"", [("WWW-Authenticate", "Bearer")])
    return _told({"authenticated": True, "token": token})


def _compressed(call: Call) -> Response:
    name = call.parts[0]
    shown = _written({**call.described(), "gzipped" if name == "gzip" else "deflated": True}).encode()
    body = gzip.compress(shown) if name == "gzip" else zlib.compress(shown)
    return Response(200, body, [("Content-Encoding", name)], "application/json")


def _cache(call: Call) -> Response:
    if len(call.parts) > 1:
        return _told(call.described(), headers=[("Cache-Control", f"public, max-age={int(call.number(1e9))}")])
    if {"if-modified-since", "if-none-match"} & call.request.headers.keys():
        return Response(304)
    tag = hashlib.sha256(call.request.target.encode()).hexdigest()[:32]
    return _told(call.described(), headers=[("ETag", f'"{tag}"')])


def _etag(call: Call) -> Response:
    tag = call.parts[1]
    known = [part.strip().strip('"') for part in call.request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(304, b"", [("ETag", f'"{tag}"')])
    return _told(call.described(), headers=[("ETag", f'"{tag}"')])


def _base64(call: Call) -> Response:
    text = call.parts[-1]
    return Response(200, base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


_HTML = """<!DOCTYPE html>
<html><head><title>httpbin</title></head>
<body><h1>A page of httpbin</h1><p>Plain HTML, to try a client with.</p></body></html>
"""
_JSON = {"slideshow": {"title": "Sample", "author": "labkit", "slides": [{"title": "First", "type": "all"}]}}
_XML = '<?xml version="1.0"?>\n<slideshow title="Sample"><slide type="all"><title>First</title></slide></slideshow>\n'
_ROBOTS = "User-agent: *\nDisallow: /deny\n"


def _ip(call: Call) -> Response:
    return _told({"origin": call.described()["origin"]})


def _front(call: Call) -> Response:
    items = "".join(f"<li><a href='/{name}'>/{escape(name)}</a></li>" for name in sorted(PAGES) if name)
    body = f"<!DOCTYPE html><html><head><title>httpbin</title></head><body><h1>httpbin</h1><ul>{items}</ul>"
    return Response(200, body + "<p>Played by the workshop's own stand-in.</p></body></html>")


def _user_agent(call: Call) -> Response:
    return _told({"user-agent": call.request.headers.get("user-agent", "")})


def _hostname(_: Call) -> Response:
    # As the real one, which tells its host to nobody unless it is asked to.
    real = os.environ.get("USE_REAL_HOSTNAME", "").lower() in ("1", "true")
    return _told({"hostname": os.environ.get("HOSTNAME", "") if real else "dummy-hostname"})


def _websocket(call: Call) -> Response:
    if call.parts[1:] != ["echo"]:
        return _error(404, f"there is no {call.request.path}")
    return websocket.accept(call.request)


PAGES: dict[str, Callable[[Call], Response]] = {
    "": _front,
    **dict.fromkeys(_METHODS, _echo),
    "anything": _anything,
    "status": _status,
    "delay": _delay,
    **dict.fromkeys(("redirect", "relative-redirect", "absolute-redirect"), _redirect),
    "redirect-to": _redirect_to,
    "cookies": _cookies,
    "response-headers": _response_headers,
    "bytes": _bytes,
    "stream": _stream,
    "drip": _drip,
    **dict.fromkeys(("basic-auth", "hidden-basic-auth"), _basic_auth),
    "bearer": _bearer,
    **dict.fromkeys(("gzip", "deflate"), _compressed),
    "cache": _cache,
    "etag": _etag,
    "base64": _base64,
    "headers": lambda call: _told({"headers": call.headers()}),
    "ip": _ip,
    "user-agent": _user_agent,
    "hostname": _hostname,
    "websocket": _websocket,
    "uuid": lambda _: _told({"uuid": str(uuid.uuid4())}),
    "html": lambda _: Response(200, _HTML),
    "json": lambda _: _told(_JSON),
    "xml": lambda _: Response(200, _XML, content_type="application/xml"),
    "robots.txt": lambda _: Response(200, _ROBOTS, content_type="text/plain"),
    "deny": lambda _: Response(200, "this page is not for robots\n", content_type="text/plain"),
}
"""First segment of the path → what answers it."""


def answer(request: Request, *, lists: bool) -> Response:
    """One request, with what a page of another origin may do with the answer."""
    response = _preflight(request) if request.method == "OPTIONS" else _page(request, lists=lists)
    origin = request.headers.get("origin") or "*"
    response.headers += [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true")]
    return response


def _page(request: Request, *, lists: bool) -> Response:
    parts = request.path.strip("/").split("/")
    page = PAGES.get(parts[0])
    if page is None:
        return _error(404, f"there is no {request.path}")
    try:
        return page(Call(request, parts, lists))
    except (ValueError, IndexError) as error:
        return _error(400, str(error))


def _preflight(request: Request) -> Response:
    headers = [("Allow", _ALLOWED), ("Access-Control-Allow-Methods", _ALLOWED), ("Access-Control-Max-Age", "3600")]
    if wanted := request.headers.get("access-control-request-headers"):
        headers.append(("Access-Control-Allow-Headers", wanted))
    return Response(200, b"", headers)
