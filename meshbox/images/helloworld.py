# SPDX-License-Identifier: Apache-2.0
"""Istio's helloworld sample: says which version and which pod answered."""

from __future__ import annotations

import os

from labkit.ground.web import Request, Response, serve
from meshbox.images.context import Image

__all__ = ["IMAGES", "answer", "main"]

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


IMAGES = (_image("v1"), _image("v2"))
