# SPDX-License-Identifier: Apache-2.0
"""Pages of programs that are not played in full: they are healthy, and they say what they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from html import escape

from labkit.ground.web import App, Request, Response
from meshbox.exposition import CONTENT_TYPE, exposition, gauge, process
from meshbox.images.context import ImageName
from meshbox.images.guarded import guarded

__all__ = ["about", "app", "healthy", "tag"]

_STYLE = (
    "body{margin:0;min-height:100vh;display:grid;place-items:center;background:#f5f7fa;color:#1f2933;"
    "font:16px/1.6 Helvetica,Arial,'Liberation Sans',sans-serif}"
    "main{max-width:34rem;margin:2rem;padding:2rem 2.4rem;background:#fff;border:1px solid #e4e7eb;"
    "border-radius:.8rem;box-shadow:0 6px 24px #0001}"
    "h1{margin:0 0 .4rem;font-size:1.5rem}p{margin:.4rem 0;color:#52606d}code{background:#f0f4f8;padding:0 .3rem}"
)


def tag() -> str:
    """The tag of the image that runs."""
    return ImageName.parse(os.environ.get("LABKIT_IMAGE", "stand-in")).tag


def about(name: str, text: str) -> Response:
    """A page that says: this is the workshop's stand-in for `name`, and `text`."""
    body = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(name)} (stand-in)</title><style>{_STYLE}</style></head>
<body><main><h1>{escape(name)}</h1>
<p>This is the workshop's <b>stand-in</b> for {escape(name)} {escape(tag())}.</p>
<p>{escape(text)}</p>
</main></body></html>
"""
    return Response(200, body)


def healthy(name: str) -> Response:
    """A health page."""
    return Response(200, f"{name} is healthy (the workshop's stand-in)\n", content_type="text/plain; charset=utf-8")


def metrics(component: str, more: str = "") -> Response:
    """The metrics that tell which version runs and what its process uses, and `more` lines."""
    build = gauge("istio_build", "Istio component build info", [({"component": component, "tag": tag()}, 1.0)])
    return Response(200, exposition(build, process()) + more, content_type=CONTENT_TYPE)


def app(
    name: str,
    text: str,
    pages: Mapping[str, Response],
    *,
    component: str = "",
    done: Callable[[], str] = str,
) -> App:
    """An app with fixed `pages` (path → answer), /metrics if it has a `component`, and what it is at every other path.

    What the component has done is asked of `done`: lines of metrics.

    Health checks look for a status, people for words: pages that are not known answer 404 with the same words.
    """

    def answer(request: Request) -> Response:
        if page := pages.get(request.path):
            return page
        if component and request.path == "/metrics":
            return metrics(component, done())
        response = about(name, text)
        if request.path != "/":
            response.status = 404
        return response

    return guarded(answer)
