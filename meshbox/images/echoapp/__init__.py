# SPDX-License-Identifier: Apache-2.0
"""Istio's test application `app`, which its gRPC sample runs: it answers with all it knows of a request."""

from __future__ import annotations

from meshbox.images.context import Image

__all__ = ["IMAGES"]

IMAGES = (
    Image(
        repositories=("istio-testing/app", "istio/app", "testing/app", "release/app"),
        entrypoint=("/usr/local/bin/server",),
        programs={"server": "meshbox.images.echoapp.server:main", "client": "meshbox.images.echoapp.caller:main"},
        modules=("meshbox.images.echoapp.server", "meshbox.images.echoapp.caller"),
        size=60_000_000,
        stands_in="same answers over HTTP, gRPC and TCP, written in Python; no TLS, no xDS, no reflection",
    ),
)
