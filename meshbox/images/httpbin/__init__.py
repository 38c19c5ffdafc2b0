# SPDX-License-Identifier: Apache-2.0
"""httpbin: a service that answers with what it was asked."""

from __future__ import annotations

from meshbox.images.context import Image

__all__ = ["IMAGES"]

_PROGRAM = "meshbox.images.httpbin.server"

IMAGES = (
    Image(
        repositories=("kennethreitz/httpbin", "citizenstig/httpbin", "istio/httpbin"),
        entrypoint=("httpbin",),
        programs={"httpbin": f"{_PROGRAM}:main", "gunicorn": f"{_PROGRAM}:main"},
        size=534_000_000,
        stands_in="same answers, written in Python",
    ),
    Image(
        repositories=("mccutchen/go-httpbin",),
        entrypoint=("/bin/go-httpbin",),
        programs={"go-httpbin": f"{_PROGRAM}:main_go"},
        size=36_000_000,
        stands_in="same answers, written in Python",
    ),
)
