# SPDX-License-Identifier: Apache-2.0
"""Programs of Istio's control planes: their pages, and the probes that their manifests run."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from labkit.ground import web
from labkit.ground.client import send
from labkit.ground.web import App, Request, Response, serve
from meshbox.images.grpc import server as grpc
from meshbox.images.istio import pages
from meshbox.images.istio.callers import Shown, namespace_of
from meshbox.images.istio.telemetry import Collector
from meshbox.images.istio.work import ask_mesh, work_of
from meshbox.images.istio.xds import STREAM, answerer
from meshbox.images.standin import app, healthy, tag

__all__ = ["citadel", "galley", "injector", "mixer", "pilot"]

_MONITORING = 15014
_SECURED, _WEBHOOKS, _CONTROLZ = 15012, 15017, 9876
_PROMETHEUS = 42422
_MESH = "The sandbox's mesh does its work: what you apply becomes Envoy configuration there."


def _version() -> Response:
    """As Istio's programs say it: the version, which sources it was built from, and in what state they were."""
    return Response(200, f"{tag()}-labkit-Modified", content_type="text/plain; charset=utf-8")


def _monitoring(name: str, text: str, component: str) -> App:
    pages = {"/version": _version(), "/healthz": healthy(name)}
    return app(name, text, pages, component=component, done=lambda: work_of(component))


def _flag(name: str, default: str = "") -> str:
    """The value of a flag, given as --flag=value or --flag value."""
    for index, argument in enumerate(sys.argv):
        key, equals, value = argument.partition("=")
        if key == name:
            return value if equals else (sys.argv[index + 1] if index + 1 < len(sys.argv) else "")
    return default


def _inside(path: str) -> Path:
    return Path(os.environ.get("LABKIT_ROOT", "/")) / path.lstrip("/")


def _start(name: str, apps: dict[int, App], *health_files: str, started: Callable[[], None] = lambda: None) -> int:
    """Serve, with the health files that probes look for while it lasts."""
    print(f"{name} {tag()}: the workshop's stand-in, on ports {', '.join(map(str, apps))}", flush=True)
    files = [_inside(file) for file in health_files if file]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name} is healthy (the workshop's stand-in)\n")
    try:
        return serve(apps, started=started)
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def _probe() -> int:
    """``… probe --probe-path=FILE``: healthy while the file is there."""
    path = _flag("--probe-path")
    if path and _inside(path).exists():
        return 0
    print(f"fail on inspecting path {path}: no such file or directory", file=sys.stderr)
    return 1


def pilot() -> int:
    """pilot-discovery: istio-pilot of Istio 1.2, istiod of today; and its command `request`."""
    if "request" in sys.argv[1:2]:
        return _request()
    today = bool(tag()) and not tag().startswith("1.2.")
    name = "istiod" if today else "istio-pilot"
    ready = {"/ready": healthy(name), "/healthz": healthy(name), "/version": _version()}
    monitoring = pages.cleaned(pages.debug(_monitoring(name, _MESH, "pilot")))
    apps = {8080: pages.cleaned(pages.debug(app(name, _MESH, ready))), _MONITORING: monitoring}
    if not today:
        return _start(name, apps)
    if problem := _unsigned():
        print(f"{name} {tag()}: Error: failed to create discovery service: {problem}", file=sys.stderr, flush=True)
        return 1
    apps[_CONTROLZ] = pages.controlz(app(name, _MESH, {}))
    return _start(name, apps, started=_secured)


def _unsigned(**query: bool) -> str:
    """Why the mesh cannot sign for the authority that is plugged in, or is to be; "" where it can."""
    try:
        answer = ask_mesh("/control-plane/authority", {name: "yes" for name, value in query.items() if value})
    except OSError as error:
        print(f"the mesh does not say for whom it signs: {error}", file=sys.stderr, flush=True)
        return ""
    if answer.status == 200 and query.get("own") is False and not json.loads(answer.text)["plugged"]:
        return "open /etc/cacerts/ca-cert.pem: no such file or directory"
    return answer.text.strip() if answer.status == 409 else ""


def _secured() -> None:
    """istiod's ports that speak TLS: what istioctl asks by xDS, and the injector's page."""
    bind, system = os.environ.get("LABKIT_BIND", "127.0.0.1"), os.environ.get("LABKIT_NAMESPACE", "")
    stream = {STREAM: answerer(namespace_of, system)}
    try:
        grpc.listen(_SECURED, {}, bind, conversations=stream, tls=Shown("h2"))
        webhooks = web.Server((bind, _WEBHOOKS), pages.injector(app("istiod", _MESH, {})))
    except OSError as error:
        # The mesh does without: this is for istioctl alone.
        print(f"istioctl will find no istiod: {error}", file=sys.stderr, flush=True)
        return
    webhooks.tls = Shown("http/1.1")
    threading.Thread(target=webhooks.run, daemon=True).start()


def _request() -> int:
    """``pilot-discovery request METHOD PATH``: asks this pod's own pages."""
    if len(sys.argv) != 4:
        print("Error: accepts 2 arg(s): METHOD PATH", file=sys.stderr)
        return 1
    method, path = sys.argv[2:]
    bind = os.environ.get("LABKIT_BIND", "127.0.0.1")
    try:
        answer = send(f"http://{bind}:8080/{path.lstrip('/')}", method, {"Host": "localhost:8080"}, timeout=10)
    except OSError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(answer.text)
    return 0 if answer.status < 400 else 1


def mixer() -> int:
    """mixs: istio-policy and istio-telemetry of Istio 1.2."""
    text = "It sums up what the sidecars count, under Mixer's names; every policy check passes."
    port = int(_flag("--monitoringPort", str(_MONITORING)))
    pages = app("Mixer", text, {}, component="mixer")
    collector = Collector()

    def telemetry(request: Request) -> Response:
        if request.path != "/metrics":
            return pages(request)
        return Response(200, collector.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return _start("Mixer", {port: _monitoring("Mixer", text, "mixer"), _PROMETHEUS: telemetry})


def citadel() -> int:
    """istio_ca: Citadel of Istio 1.2, which signs for itself unless it is told not to."""
    own = _flag("--self-signed-ca") != "false"
    if problem := _unsigned(own=own):
        print(f"Failed to create an Citadel (error: {problem})", file=sys.stderr, flush=True)
        return 1
    text = "The sandbox's mesh gives every workload its certificate."
    port = int(_flag("--monitoring-port", str(_MONITORING)))
    return _start("Citadel", {port: _monitoring("Citadel", text, "citadel")})


def galley() -> int:
    """Galley of Istio 1.2: the server, and the probe command of its manifest."""
    if "probe" in sys.argv[1:2]:
        return _probe()
    text = "The sandbox's API server checks Istio's objects, with the words of Galley's webhook."
    port = int(_flag("--monitoringPort", str(_MONITORING)))
    files = (_flag("--livenessProbePath"), _flag("--readinessProbePath"))
    return _start("Galley", {port: _monitoring("Galley", text, "galley")}, *files)


def injector() -> int:
    """sidecar-injector of Istio 1.2: the webhook's server, and the probe command of its manifest."""
    if "probe" in sys.argv[1:2]:
        return _probe()
    text = "The sandbox's API server injects the sidecars."
    monitoring = _monitoring("sidecar injector", text, "sidecar-injector")
    return _start("sidecar injector", {_MONITORING: monitoring}, _flag("--healthCheckFile"))
