"""A way for browsers to an add-on's pages: below any prefix, known to this workshop only, whatever pod is behind it.

Consoles write addresses that begin at "/", which lead nowhere below the prefix of a proxy. The relay stands before a
port-forward and puts the prefix in. Web pages from elsewhere can send requests to any loopback port, so the relay
answers below a secret first part of the path only.
"""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from labkit.ground import framing, peers
from labkit.ground.client import send
from labkit.ground.errors import LabError
from labkit.ground.framing import FramingError
from labkit.ground.guard import new_secret, same_secret
from labkit.ground.handler import BoundedHandler, BoundedServer

__all__ = ["Relay", "rewritten"]

_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "date", "server"}
# What the browser says to Jupyter is none of the pod's business, and the prefix is put in here.
_NOT_ON = _HOP | {
    *("host", "origin", "referer", "authorization", "accept-encoding"),
    *("x-forwarded-prefix", "x-forwarded-context", "x-proxycontextpath"),
}
_MOST_BODY = 8 * 1024 * 1024
"""Bytes of what a console's page sends; saved dashboards and Istio's objects are far below."""

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
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.secret, self._server.upstream, self._server.home = self.secret, upstream, home
        self._server.silent = silent
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name=f"relay {self.port}", daemon=True)
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
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(BoundedServer):
    request_queue_size = 64
    secret = ""
    upstream: Callable[[], str]
    home: Callable[[], str] | None = None
    silent = ""

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether who connects may: nobody but this user's browser or Jupyter server has a use for these pages."""
        return peers.ours(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no fault."""


class _Handler(BoundedHandler):
    timeout = 60
    server: _Server

    def refuse(self, error: FramingError) -> None:
        self._page(error.status, f"{error.words}.", "Nothing was handed on.")

    def _handle(self) -> None:
        first, slash, rest = self.path[1:].partition("/")
        if not same_secret(first, self.server.secret):
            # What a stranger sends besides is never read.
            self.close_connection = True
            self._page(403, "This address is the workshop's own.", "Open it from a notebook or from the launcher.")
            return
        body = framing.read_body(self.incoming, self.body_length(), _MOST_BODY)
        if not slash:
            self._reply(302, [("Location", f"{self.path}/")], b"")
            return
        outer = self.headers.get("X-Forwarded-Prefix") or ""
        try:
            self._relay(f"/{rest}", body, outer.rstrip("/") + f"/{first}", f"/{first}")
        except LabError as error:
            self._page(503, str(error), "This page tries again by itself.")
        except OSError:
            self._page(503, self.server.silent, "This page tries again by itself.")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _handle  # noqa: N815 (its names)

    def _relay(self, path: str, body: bytes, prefix: str, inner: str) -> None:
        if path == "/" and self.server.home is not None and (home := self.server.home()) != "/":
            self._reply(302, [("Location", inner + home)], b"")
            return
        host = urlsplit(self.server.upstream()).netloc
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_ON | {"cookie"}}
        cookies = [c for c in self.headers.get("Cookie", "").split("; ") if c and not _JUPYTER_COOKIE.match(c)]
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        if came_from := _own_page(self.headers.get("Referer", ""), prefix):
            headers["Referer"] = f"http://{host}{came_from}"
        answer = send(f"http://{host}{path}", self.command, headers, body or None, timeout=60)
        kept = [(name, value) for name, value in answer.headers if name.lower() not in _NOT_BACK]
        content = rewritten(answer.body, answer.header("Content-Type").lower(), prefix)
        self._reply(answer.status, [_moved(name, value, prefix, inner) for name, value in kept], content)

    def _page(self, status: int, said: str, next_step: str) -> None:
        again = '<meta http-equiv="refresh" content="2">' if status == 503 else ""
        text = f"<p>{html.escape(said)}</p><p>{html.escape(next_step)}</p>"
        page = f'<!DOCTYPE html><html><head><meta charset="utf-8">{again}</head><body>{text}</body></html>'
        self._reply(status, [("Content-Type", "text/html; charset=utf-8")], page.encode())

    def _reply(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        # The secret stands in the address: it must not travel on as a referrer.
        self.send_header("Referrer-Policy", "same-origin")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


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
