# SPDX-License-Identifier: Apache-2.0
"""istiod's pages for people and for istioctl: /version, /debug, the injector's, and ControlZ's."""

from __future__ import annotations

import re

from labkit.ground.web import App, Request, Response, json_response
from meshbox.images.istio.work import ask_mesh

__all__ = ["cleaned", "controlz", "debug", "injector"]

_TEXT = "text/plain; charset=utf-8"
_SCOPE = {
    "name": "default",
    "description": "no scopes are played: the sandbox does istiod's work, and its log is in `labkit report`",
    "output_level": "info",
    "stack_trace_level": "none",
    "log_callers": False,
}
_NO_SCOPES = "the sandbox's istiod has no log whose level could be set\n"


def cleaned(app: App) -> App:
    """`app`, with paths as Go's router sees them: istioctl asks for "//version"."""

    def answer(request: Request) -> Response:
        if request.target.startswith("//"):
            request.target = re.sub("^/+", "/", request.target)
        return app(request)

    return answer


def debug(app: App) -> App:
    """`app`, with istiod's debug pages."""

    def answer(request: Request) -> Response:
        path = request.path
        if path == "/debug":
            path = "/debug/list"
        if not path.startswith("/debug/"):
            return app(request)
        return _asked(f"/control-plane{path}", dict(request.query), None)

    return answer


def injector(app: App) -> App:
    """`app`, with the injector's own page: what is posted to /inject is reviewed."""

    def answer(request: Request) -> Response:
        if request.path.startswith("/inject") and request.method == "POST":
            return _asked("/control-plane/inject", {}, request.body)
        return app(request)

    return answer


def _asked(path: str, query: dict[str, str], body: bytes | None) -> Response:
    try:
        found = ask_mesh(path, query, body)
    except OSError as error:
        return Response(503, f"the mesh does not answer: {error}\n", content_type=_TEXT)
    return Response(found.status, found.body, content_type=found.header("content-type") or _TEXT)


def controlz(app: App) -> App:
    """`app`, with what ControlZ says of a log's scopes: one, which says that there are none; no level can be set."""

    def answer(request: Request) -> Response:
        if not request.path.startswith(("/scopej", "/scopez")):
            return app(request)
        # /scopez is the page of these for people.
        if request.method != "GET" or request.path.startswith("/scopez"):
            return Response(501, _NO_SCOPES, content_type=_TEXT)
        return json_response([_SCOPE] if request.path.rstrip("/") == "/scopej" else _SCOPE)

    return answer
