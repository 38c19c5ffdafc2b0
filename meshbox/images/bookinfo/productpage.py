# SPDX-License-Identifier: Apache-2.0
"""productpage: calls details and reviews, and makes the page that visitors see."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import threading
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labkit.ground.guard import same_secret
from labkit.ground.web import Request, Response, json_response
from meshbox.exposition import CONTENT_TYPE, Counter, exposition
from meshbox.images.bookinfo import page
from meshbox.images.bookinfo.common import call, forwarded, is_modern, run

__all__ = ["main"]

_TIMEOUT = 3.0
_REVIEWS_TRIES = 2
"""More than one on purpose: with a slow ratings service it is what makes reviews fail."""

_STATIC = {file.name: file.read_bytes() for file in (Path(__file__).parent / "static").iterdir()}
_TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_COOKIE = "session"
# Nothing depends on who signs in: any name is accepted, as in the sample itself.
_KEY = b"bookinfo"

_results = Counter("request_result_total", "Results of requests", "destination_app", "response_code")
_results_lock = threading.Lock()


def _ask(service: str, path: str, headers: dict[str, str], tries: int = 1) -> tuple[int, Any]:
    """Status and content of another service's answer; in place of an answer that is of no use, an error's text."""
    status = 500
    for _ in range(tries):
        with contextlib.suppress(OSError, ValueError):
            status, body = call(service, path, headers, _TIMEOUT)
            with _results_lock:
                _results.add(service, str(status))
            if status == 200:
                return status, json.loads(body)
            continue
        with _results_lock:
            _results.add(service, "500")
        status = 500
    what = {"details": "product details", "reviews": "product reviews", "ratings": "product ratings"}[service]
    return status, {"error": f"Sorry, {what} are currently unavailable for this book."}


def _details(product: int | str, headers: dict[str, str]) -> tuple[int, Any]:
    return _ask("details", f"/details/{product}", headers)


def _reviews(product: int | str, headers: dict[str, str]) -> tuple[int, Any]:
    return _ask("reviews", f"/reviews/{product}", headers, _REVIEWS_TRIES)


def _flood(headers: dict[str, str]) -> None:
    """Ask reviews again and again, for the variant that shows what a circuit breaker is for."""
    for _ in range(int(os.environ.get("FLOOD_FACTOR") or 0)):
        threading.Thread(target=_reviews, args=(page.PRODUCT["id"], headers), daemon=True).start()


def _signed(user: str) -> str:
    data = base64.urlsafe_b64encode(user.encode()).decode().rstrip("=")
    return f"{data}.{hmac.new(_KEY, data.encode(), hashlib.sha256).hexdigest()[:32]}"


def _user(request: Request) -> str:
    """Who is signed in; empty if nobody is, or the cookie is not one of ours."""
    value = request.cookies().get(_COOKIE, "")
    data = value.partition(".")[0]
    with contextlib.suppress(ValueError):
        user = base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)).decode()
        if same_secret(value, _signed(user)):
            return user
    return ""


def _back(request: Request, cookie: str) -> Response:
    """Back to where the visitor came from, on this site only."""
    referrer = request.headers.get("referer", "")
    own = referrer.partition("//")[2].startswith(request.headers.get("host", "\0") + "/")
    target = referrer if own else "/productpage"
    headers = [("Location", target), ("Set-Cookie", f"{_COOKIE}={cookie}; HttpOnly; Path=/; SameSite=Lax")]
    return Response(302, f'<a href="{escape(target)}">Redirecting</a>', headers)


def _headers(request: Request, user: str) -> dict[str, str]:
    headers = forwarded(request, "user-agent")
    if user:
        # A name may have letters that no header can carry.
        headers["end-user"] = user.encode("ascii", errors="replace").decode()
    return headers


def _page(request: Request) -> Response:
    user = _user(request)
    headers = _headers(request, user)
    _flood(headers)
    product = page.PRODUCT
    details = _details(product["id"], headers)
    reviews = _reviews(product["id"], headers)
    return Response(200, page.product_page(user, details, reviews, modern=is_modern()))


def _api(request: Request) -> Response:
    parts = request.path.removeprefix("/api/v1/products").strip("/").split("/")
    if parts == [""]:
        return json_response([page.PRODUCT])
    if len(parts) > 2:
        return json_response({"error": "not found"}, 404)
    # Which products there are the services know, and they have every one that is a number.
    product, headers = quote(parts[0], safe=""), _headers(request, _user(request))
    if len(parts) == 1:
        status, content = _details(product, headers)
    elif parts[1] == "reviews":
        status, content = _reviews(product, headers)
    elif parts[1] == "ratings":
        status, content = _ask("ratings", f"/ratings/{product}", headers)
    else:
        return json_response({"error": "not found"}, 404)
    return json_response(content, status)


def _metrics() -> Response:
    with _results_lock:
        return Response(200, exposition(_results.lines()), content_type=CONTENT_TYPE)


def answer(request: Request) -> Response:
    """One request."""
    path = request.path
    if path == "/productpage":
        return _page(request)
    if path == "/health":
        return Response(200, "Product page is healthy")
    if path.startswith("/static/"):
        name = path.rpartition("/")[2]
        if name in _STATIC:
            kind = _TYPES.get(Path(name).suffix, "application/octet-stream")
            return Response(200, _STATIC[name], [("Cache-Control", "max-age=300")], kind)
    if path == "/login" and request.method == "POST":
        return _back(request, _signed(request.form().get("username", "")))
    if path == "/logout":
        return _back(request, "; Max-Age=0")
    if path in ("/", "/index.html"):
        return Response(200, page.front_page(modern=is_modern()))
    if path == "/metrics" and is_modern():
        return _metrics()
    if path == "/api/v1/products" or path.startswith("/api/v1/products/"):
        return _api(request)
    return Response(404, page.not_found())


def main() -> int:
    """The program."""
    return run(answer)
