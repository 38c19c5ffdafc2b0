# SPDX-License-Identifier: Apache-2.0
"""fortio: the load generator of Istio's tasks, and the server that it can be."""

from __future__ import annotations

from meshbox.images.context import Image

__all__ = ["IMAGES"]

IMAGES = (
    Image(
        repositories=("fortio/fortio", "istio/fortio", "istio-release/fortio"),
        entrypoint=("/usr/bin/fortio",),
        cmd=("server",),
        programs={"fortio": f"{__name__}.command:main"},
        size=22_000_000,
        stands_in="load, curl and the echo server, written in Python; no gRPC and no web page of results",
    ),
)
