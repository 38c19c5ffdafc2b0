# SPDX-License-Identifier: Apache-2.0
"""Istio's samples helloworld, which says which version and pod answered, and health, which is there to be probed."""

from __future__ import annotations

import os

from labkit.ground.web import App, Request, Response, serve
from meshbox.images.context import Image

__all__ = ["IMAGES", "answer", "health", "main"]

_PORT = 5000


def answer(request: Request) -> Response:
    """One request."""
    version, instance = os.environ.get("SERVICE_VERSION", "v1"), os.environ.get("HOSTNAME", "")
    pages = {
        "/hello": f"Hello version: {version}, instance: {instance}\n",
        "/health": "Helloworld is healthy",
    }
    text = pages.get(request.path)
    if text is None:
        return Response(404, "Not Found\n", content_type="text/plain")
    return Response(200, text)


def main() -> int:
    """The program."""
    print(f"helloworld on port {_PORT}", flush=True)
    return serve({_PORT: answer})


def health() -> int:
    """The other sample's program: two ports, with two pages each."""

    def pages(port: int) -> App:
        found = {f"/{name}": Response(200, f"Listening on {port}: {name} ") for name in ("foo", "bar")}
        return lambda request: found.get(request.path) or Response(404, "404 page not found\n")

    return serve({port: pages(port) for port in (8001, 8002)})


def _image(version: str) -> Image:
    name = f"examples-helloworld-{version}"
    return Image(
        repositories=tuple(f"{organization}/{name}" for organization in ("istio", "istio-release", "release")),
        entrypoint=("python", "/opt/microservices/app.py"),
        programs={"python": f"{__name__}:main"},
        env={"SERVICE_VERSION": version},
        size=140_000_000,
        stands_in="same behaviour, written in Python",
    )


IMAGES = (
    _image("v1"),
    _image("v2"),
    Image(
        repositories=("istio/health", "release/health"),
        entrypoint=("/usr/local/bin/start",),
        programs={"start": f"{__name__}:health"},
        size=10_000_000,
        stands_in="same answers, written in Python",
    ),
)
