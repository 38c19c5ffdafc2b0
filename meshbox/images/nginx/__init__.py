# SPDX-License-Identifier: Apache-2.0
"""nginx: this machine's own, with the configuration that is mounted; without one, a small server of static files."""

from __future__ import annotations

from meshbox.images.context import Image

__all__ = ["IMAGES"]


IMAGES = (
    Image(
        repositories=("library/nginx", "nginxinc/nginx-unprivileged", "library/httpd"),
        entrypoint=("nginx",),
        cmd=("-g", "daemon off;"),
        programs={
            **dict.fromkeys(("nginx", "nginx-unprivileged"), f"{__name__}.program:main"),
            **dict.fromkeys(("httpd", "httpd-foreground"), "meshbox.images.static:main"),
        },
        size=190_000_000,
        stands_in="nginx is this machine's own, where it has one; else, and for httpd, a small server of static files",
    ),
)
