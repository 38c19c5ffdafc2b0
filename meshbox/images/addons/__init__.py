# SPDX-License-Identifier: Apache-2.0
"""The add-ons of both releases."""

from __future__ import annotations

from meshbox.images.context import Image, Runner
from meshbox.images.jaeger.runner import jaeger

__all__ = ["IMAGES"]

_PAGES = "meshbox.images.addons.health_pages"
_ONLY_PAGES = "stand-in: health pages only"


def _image(
    repositories: tuple[str, ...], program: str, entry: str | Runner, size: int, stands_in: str = _ONLY_PAGES
) -> Image:
    name = program.rpartition("/")[2]
    modules = ("meshbox.images.jaeger.server",) if entry is jaeger else ()
    return Image(repositories, (program,), programs={name: entry}, modules=modules, size=size, stands_in=stands_in)


IMAGES = (
    _image(
        ("prometheus-operator/prometheus-config-reloader", "jimmidyson/configmap-reload"),
        "/bin/prometheus-config-reloader",
        f"{_PAGES}:config_reloader",
        42_000_000,
    ),
    *(
        _image((repository,), program, jaeger, size, "collector, query API and a plain page")
        for repository, program, size in (
            ("jaegertracing/all-in-one", "/go/bin/all-in-one-linux", 50_000_000),
            ("jaegertracing/jaeger", "/cmd/jaeger/jaeger-linux", 90_000_000),
        )
    ),
    _image(("grafana/loki",), "/usr/bin/loki", f"{_PAGES}:loki", 110_000_000),
    _image(
        ("kiwigrid/k8s-sidecar",),
        "/app/.venv/bin/python",
        f"{_PAGES}:k8s_sidecar",
        35_000_000,
        "stand-in: it copies no ConfigMaps into files",
    ),
)
