# SPDX-License-Identifier: Apache-2.0
"""Keeps foreign web pages from an app that a browser may open: their requests are refused before the app sees them."""

from __future__ import annotations

from labkit.ground.guard import refusal
from labkit.ground.web import App, Request, Response

__all__ = ["guarded"]


_NO_GUESSING = ("X-Content-Type-Options", "nosniff")


def guarded(app: App) -> App:
    """`app`, answering 403 to requests that a foreign page may have sent."""

    def answer(request: Request) -> Response:
        headers = request.headers
        reason = refusal(request.method, headers.get("host", ""), headers.get("origin", ""), nameless=True)
        if reason:
            return Response(403, f"{reason}\n", content_type="text/plain; charset=utf-8")
        response = app(request)
        if _NO_GUESSING not in response.headers:  # a fixed page is answered again and again
            response.headers.append(_NO_GUESSING)
        return response

    return answer
