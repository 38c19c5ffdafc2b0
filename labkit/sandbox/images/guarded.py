"""Keeps foreign web pages from an app that a browser may open.

A web page from elsewhere can make a browser send requests to loopback addresses. Such a request shows itself: its
`Host` is a foreign name (DNS rebinding), or its `Origin` is another site. Both are refused before the app sees them.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from labkit.sandbox.images.web import App, Request, Response

__all__ = ["guarded", "own_host", "refusal"]


_NO_GUESSING = ("X-Content-Type-Options", "nosniff")


def own_host(host: str) -> bool:
    """Whether a `Host` header names an address that only this machine or cluster answers to.

    Args:
        host: The header, with or without a port. An IP address, "localhost" and a Service's name ("tracing",
            "tracing.istio-system", "tracing.istio-system.svc…") are our own; any other name could have been pointed
            here by somebody else's DNS.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ipaddress.ip_address(name)
    except ValueError:
        labels = name.split(".") if host else []
        return len(labels) == 1 or labels[1:] == ["istio-system"] or labels[2:3] == ["svc"]
    return True


def refusal(method: str, host: str, origin: str) -> str:
    """Why a request must not be answered; empty if it may.

    Args:
        method: "GET", "POST", …
        host: The Host header, empty if there is none.
        origin: The Origin header, empty if there is none.
    """
    # A browser always sends the header; probes and scripts that speak HTTP/1.0 do not.
    if host and not own_host(host):
        return f"this server does not answer to the name {host!r}"
    if origin and urlsplit(origin).netloc != host and (method not in ("GET", "HEAD") or origin == "null"):
        return f"requests from {origin} are refused"
    return ""


def guarded(app: App) -> App:
    """`app`, answering 403 to requests that a foreign page may have sent."""

    def answer(request: Request) -> Response:
        headers = request.headers
        reason = refusal(request.method, headers.get("host", ""), headers.get("origin", ""))
        if reason:
            return Response(403, f"{reason}\n", content_type="text/plain; charset=utf-8")
        response = app(request)
        if _NO_GUESSING not in response.headers:  # a fixed page is answered again and again
            response.headers.append(_NO_GUESSING)
        return response

    return answer
