# SPDX-License-Identifier: Apache-2.0
"""The pod's process: Kiali's console, its API and its login at the addresses of the release's Kiali."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from labkit.ground import reading
from labkit.ground.web import App, Request, Response, json_response, serve
from meshbox.images import libraries, standin
from meshbox.images.guarded import guarded
from meshbox.images.kiali.api import Api
from meshbox.images.kiali.sessions import COOKIE, Sessions, basic
from meshbox.images.kiali.settings import Settings, read
from meshbox.images.kiali.site import Console, login_page
from meshbox.images.kiali.sources import Kubernetes, Prometheus
from meshbox.images.kiali.traces import Tracing

__all__ = ["main", "site"]

_CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"
_SESSION = re.compile(r"/s/([A-Za-z0-9_-]{32,64})(/.*|$)")


class _Site:
    """Everything that Kiali serves."""

    def __init__(self, settings: Settings, api: Api, console: Console) -> None:
        self._settings = settings
        self._api = api
        self._console = console
        self._sessions = Sessions(settings.credentials)

    def __call__(self, request: Request) -> Response:
        root = self._settings.root
        path = urlsplit(request.target).path
        if path in ("/healthz", f"{root}/healthz"):
            return Response(200, "", content_type="text/plain")
        if path == "/":
            return Response(302, headers=[("Location", f".{root}/")])
        if path == root:
            return Response(302, headers=[("Location", f".{root}/")])
        if not path.startswith(f"{root}/"):
            return _plain(404, f"Kiali is at {root}/")
        inside = path[len(root) :]
        session = request.cookies().get(COOKIE, "")
        if match := _SESSION.match(inside):
            session, inside = match[1], match[2] or "/"
        return self._inside(request, inside, session)

    def _inside(self, request: Request, path: str, session: str) -> Response:
        known = not self._settings.login or self._sessions.valid(session)
        if path == "/login" or path == "/api/authenticate":
            return self._login(request, path)
        if path == "/api/logout":
            self._sessions.end(session)
            return Response(204, headers=[("Set-Cookie", f"{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict")])
        if path.startswith("/api/"):
            if not known and path != "/api/auth/info":
                return json_response({"error": "log in first: this session is not known (any more)"}, 401)
            return self._api(request, path.removeprefix("/api/"))
        if request.method not in ("GET", "HEAD"):
            return _plain(405, "only GET here")
        if path == "/" or path == "/console" or path.startswith("/console/"):
            return self._console.index(path) if known else login_page()
        return self._console.file(path.lstrip("/")) or _plain(404, f"there is no {path}")

    def _login(self, request: Request, path: str) -> Response:
        """POST of the form: a cookie; Basic credentials, by GET or POST: the session's name."""
        if path == "/login" and request.method != "POST":
            return login_page()
        if path == "/login":
            form = request.form()
            session = self._sessions.begin(form.get("username", ""), form.get("password", ""))
            if not session:
                return login_page("Incorrect username or password.")
            cookie = f"{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict"
            return Response(303, headers=[("Location", "./"), ("Set-Cookie", cookie)])
        if not self._settings.login:
            # Whom nobody asks for a password may give one, and is told nothing.
            return Response(200)
        session = self._sessions.begin(*basic(request.headers.get("authorization", "")))
        if not session:
            return json_response({"error": "the user or the password is wrong"}, 401)
        answer = json_response({"token": session, "path": f"{self._settings.root}/s/{session}/"})
        answer.headers.append(("Cache-Control", "no-store"))
        return answer


def _plain(status: int, text: str) -> Response:
    return Response(status, f"{text}\n", content_type="text/plain; charset=utf-8")


def site(settings: Settings, api: Api, console: Console) -> App:
    """The app at Kiali's port."""
    return guarded(_Site(settings, api, console))


def _mounted(path: str, mounts: Mapping[str, str]) -> Path:
    """Where the absolute `path` of the container really is."""
    for mount in sorted(mounts, key=len, reverse=True):
        base = mount.rstrip("/")
        if path == base or path.startswith(f"{base}/"):
            return Path(mounts[mount] + path[len(base) :])
    return Path(path)


def _config_path(argv: list[str]) -> str:
    for flag, value in itertools.pairwise(argv):
        if flag in ("-config", "--config"):
            return value
    return "/kiali-configuration/config.yaml"


def main() -> int:
    """Entry of the kiali image."""
    libraries.take()
    mounts: dict[str, str] = json.loads(os.environ["LABKIT_MOUNTS"])
    config = _mounted(_config_path(sys.argv), mounts)
    try:
        settings = read(config, os.environ, _mounted("/kiali-secret", mounts), standin.tag())
    except reading.ReadingError as error:
        print(f"Failed to load config file: {error}", file=sys.stderr, flush=True)
        return 1
    folder = _mounted(_CREDENTIALS, mounts)
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    kubernetes = Kubernetes(host, port, folder / "token", str(folder / "ca.crt"))
    api = Api(settings, kubernetes, Prometheus(settings.prometheus), Tracing(settings.tracing))
    console = Console(Path(os.environ["LABKIT_CONSOLE"]))
    said = "asks for the Secret's password" if settings.login else "asks for no password"
    print(f"Kiali {standin.tag()}: the workshop's stand-in on port {settings.port}, {said}", flush=True)
    told = standin.app("Kiali", "Its metrics are at /metrics.", {}, component="kiali")
    return serve({settings.port: site(settings, api, console), settings.metrics_port: told})


if __name__ == "__main__":
    sys.exit(main())
