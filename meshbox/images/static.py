# SPDX-License-Identifier: Apache-2.0
"""A small web server in place of nginx and httpd: a welcome page, or the files of a volume mounted where they look."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

from labkit.ground.web import Request, Response, serve
from meshbox.images.context import ImageName
from meshbox.images.standin import about

__all__ = ["main"]

_FOLDERS = {"nginx": "usr/share/nginx/html", "httpd": "usr/local/apache2/htdocs"}


def answer(request: Request, folder: Path, name: str) -> Response:
    """One request: a file below `folder`, or the page that says what this is."""
    if request.method not in ("GET", "HEAD"):
        return Response(405, "Method Not Allowed\n", [("Allow", "GET, HEAD")], "text/plain")
    if not folder.is_dir():
        response = about(name, "It shows the files of a volume mounted at /" + _FOLDERS[name] + ".")
        response.status = 200 if request.path == "/" else 404
        return response
    path = folder / request.path.lstrip("/")
    if path.is_dir():
        path = path / "index.html"
    # Volumes hold no links out of themselves unless somebody put them there.
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return Response(404, "404 Not Found\n", content_type="text/plain")
    kind, _ = mimetypes.guess_type(path.name)
    return Response(200, path.read_bytes(), content_type=kind or "application/octet-stream")


def main() -> int:
    """The program: port 80, 8080 in the unprivileged edition."""
    repository = ImageName.parse(os.environ.get("LABKIT_IMAGE", "nginx")).repository
    name = "httpd" if "httpd" in repository else "nginx"
    port = 8080 if "unprivileged" in repository else 80
    folder = Path(os.environ.get("LABKIT_ROOT", "/")) / _FOLDERS[name]
    print(f"{name}: the workshop's stand-in, on port {port}", flush=True)
    return serve({port: lambda request: answer(request, folder, name)})
