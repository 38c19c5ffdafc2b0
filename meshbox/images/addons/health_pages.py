# SPDX-License-Identifier: Apache-2.0
"""Add-ons that are only healthy so far: their health pages, and a page that says so."""

from __future__ import annotations

import sys

from labkit.ground.web import App, serve
from meshbox.images.standin import app, healthy, tag

__all__ = ["config_reloader", "k8s_sidecar", "loki"]

_LATER = "It answers its health checks and nothing else."


def _start(name: str, apps: dict[int, App]) -> int:
    print(f"{name} {tag()}: the workshop's stand-in, on ports {', '.join(map(str, apps))}", flush=True)
    return serve(apps)


def config_reloader() -> int:
    """What tells Prometheus that its configuration has changed."""
    name = "prometheus-config-reloader"
    port = 8080
    for argument in sys.argv:
        flag, _, value = argument.partition("=")
        if flag == "--listen-address" and value.rpartition(":")[2].isdigit():
            port = int(value.rpartition(":")[2])
    return _start(name, {port: app(name, _LATER, {"/healthz": healthy(name)}, component="config-reloader")})


def loki() -> int:
    """Loki."""
    name = "Loki"
    return _start(name, {3100: app(name, _LATER, {"/ready": healthy(name)}, component="loki")})


def k8s_sidecar() -> int:
    """What copies ConfigMaps into a volume, such as rules that Loki is to follow."""
    return _start("k8s-sidecar", {})
