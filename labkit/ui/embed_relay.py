# SPDX-License-Identifier: Apache-2.0
"""A way for browsers to an add-on's pages: below any prefix, known to this workshop only, whatever pod is behind it.

Consoles write addresses that begin at "/", which lead nowhere below the prefix of a proxy. The relay stands before a
port-forward and puts the prefix in. Web pages from elsewhere can send requests to any loopback port, so the relay
answers below a secret first part of the path only.
"""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from labkit.ground import peers
from labkit.ground.client import send
from labkit.ground.errors import LabError
from labkit.ground.guard import new_secret, same_secret
from labkit.ground.web import Request, Response, Server

__all__ = ["Relay", "rewritten"]

_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "date", "server"}
# What the browser says to Jupyter is none of the pod's business, and the prefix is put in here.
_NOT_ON = _HOP | {
    *("host", "origin", "referer", "authorization", "accept-encoding"),
    *("x-forwarded-prefix", "x-forwarded-context", "x-proxycontextpath"),
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NOT_BACK = _HOP | {"x-frame-options"}
_JUPYTER_COOKIE = re.compile(r"_xsrf|username-|jupyterhub-")

_ADDRESS = re.compile(rb"""((?:href|src|action)\s*=\s*["'])(/(?!/)[^"']*)""")
_SETTINGS = (
    re.compile(rb"""(\bPATH_PREFIX\s*=\s*["'])([^"']*)"""),  # Prometheus
    re.compile(rb"""("appSubUrl"\s*:\s*")([^"]*)"""),  # Grafana
    re.compile(rb"""(\bWEB_ROOT\s*=\s*["'])([^"']*)"""),  # Kiali
)


def rewritten(body: bytes, content_type: str, prefix: str) -> bytes:
    """A page with its own addresses moved below `prefix`; anything but HTML and short scripts is left as it is."""
    kind = content_type.partition(";")[0].strip()
    start = prefix.encode()

    def moved(found: re.Match[bytes]) -> bytes:
        path = found[2].rstrip(b"/") if found.re in _SETTINGS else found[2]
        return found[1] + (path if path.startswith(start) else start + path)

    if kind == "text/html":
        body = _ADDRESS.sub(moved, body)
    elif "javascript" not in kind or len(body) > 10_000:
        return body
    for setting in _SETTINGS:
        body = setting.sub(moved, body)
    return body


class Relay:
    """An HTTP server on a loopback port that hands requests on; `close` ends it.

    Args:
        upstream: Says where to, "http://127.0.0.1:PORT", for each request; raises LabError while there is nothing.
        port: The port of 127.0.0.1 to listen at; 0 for a free one.
        secret: First part of the path of every request; "" for a new one.
        home: Says where a request for "/" is sent, such as "/jaeger/"; None for nowhere else.
        silent: What its page says while nobody answers there.
    """

    def __init__(
        self,
        upstream: Callable[[], str],
        *,
        port: int = 0,
        secret: str = "",
        home: Callable[[], str] | None = None,
        silent: str = "The pod is being replaced.",
    ) -> None:
        self.secret = secret or new_secret()
        self._upstream, self._home, self._silent = upstream, home, silent
        self._server = _Server(("127.0.0.1", port), self._answer)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.run, name=f"relay {self.port}", daemon=True)
        self._thread.start()

    @property
    def path(self) -> str:
        """Where the pages begin, "/SECRET", below the relay's own address."""
        return f"/{self.secret}"

    def wait(self) -> None:
        """Stay until the relay is closed."""
        self._thread.join()

    def close(self) -> None:
        """End it; its port is free afterwards."""
        self._server.ending = True
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: Request) -> Response:
        found = self._refused(request) or self._shown(request, request.body)
        # The secret stands in the address: it must not travel on as a referrer.
        found.headers.append(("Referrer-Policy", "same-origin"))
        return found

    def _refused(self, request: Request) -> Response | None:
        if not same_secret(request.target[1:].partition("/")[0], self.secret):
            return _page(403, "This address is the workshop's own.", "Open it from a notebook or from the launcher.")
        if request.method not in _METHODS:
            return _page(501, f"{request.method} is no method of these pages.", "Nothing was handed on.")
        return None

    def _shown(self, request: Request, body: bytes) -> Response:
        try:
            return self._handed_on(request, body)
        except LabError as error:
            return _page(503, str(error), "This page tries again by itself.")
        except OSError:
            return _page(503, self._silent, "This page tries again by itself.")
        except Exception as error:
            # In a notebook a traceback would appear below whatever cell ran last.
            said = f"This page could not be handed on: {type(error).__name__}: {error}."
            return _page(
                500, said, "Load it again; if that does not help, `labkit report` packs what is needed to see why."
            )

    def _handed_on(self, request: Request, body: bytes) -> Response:
        first, slash, rest = request.target[1:].partition("/")
        if not slash:
            return Response(302, headers=[("Location", f"{request.target}/")], content_type="")
        inner = f"/{first}"
        prefix = request.headers.get("x-forwarded-prefix", "").rstrip("/") + inner
        if not rest and self._home is not None and (home := self._home()) != "/":
            return Response(302, headers=[("Location", inner + home)], content_type="")
        host = urlsplit(self._upstream()).netloc
        headers = {name: value for name, value in request.items if name.lower() not in _NOT_ON | {"cookie"}}
        sent = "; ".join(value for name, value in request.items if name.lower() == "cookie")
        cookies = [c for c in sent.split("; ") if c and not _JUPYTER_COOKIE.match(c)]
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        if came_from := _own_page(request.headers.get("referer", ""), prefix):
            headers["Referer"] = f"http://{host}{came_from}"
        answer = send(f"http://{host}/{rest}", request.method, headers, body or None, timeout=60)
        kept = [(name, value) for name, value in answer.headers if name.lower() not in _NOT_BACK]
        content = rewritten(answer.body, answer.header("Content-Type").lower(), prefix)
        return Response(
            answer.status, content, [_moved(name, value, prefix, inner) for name, value in kept], content_type=""
        )


class _Server(Server):
    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether who connects may: nobody but this user's browser or Jupyter server has a use for these pages."""
        return peers.ours(request)


def _page(status: int, said: str, next_step: str) -> Response:
    again = '<meta http-equiv="refresh" content="2">' if status == 503 else ""
    text = f"<p>{html.escape(said)}</p><p>{html.escape(next_step)}</p>"
    page = f'<!DOCTYPE html><html><head><meta charset="utf-8">{again}</head><body>{text}</body></html>'
    return Response(status, page)


def _own_page(referrer: str, prefix: str) -> str:
    """The page below our own secret that a request comes from, as the pod knows it; "" for any other.

    Who signs in is sent back to where they were.
    """
    parts = urlsplit(referrer)
    if not parts.path.startswith(f"{prefix}/"):
        return ""
    return parts.path.removeprefix(prefix) + (f"?{parts.query}" if parts.query else "")


def _moved(name: str, value: str, prefix: str, inner: str) -> tuple[str, str]:
    """A header with its path moved; a redirect only below our own secret, since jupyter-server-proxy adds its part."""
    if name.lower() == "location":
        parts = urlsplit(value)
        if parts.path.startswith("/") and not parts.path.startswith(f"{inner}/"):
            value = inner + parts._replace(scheme="", netloc="").geturl()
    elif name.lower() == "set-cookie":
        value = re.sub(r"(?i)(;\s*path=)(/[^;]*)", lambda found: found[1] + prefix + found[2].rstrip("/"), value)
    return name, value
