# SPDX-License-Identifier: Apache-2.0
"""The console's files, and the pages around them: the login, and what to do where there is no console."""

from __future__ import annotations

import mimetypes
import re
from html import escape
from pathlib import Path

from labkit.ground.web import Response
from meshbox.images.standin import about
from meshbox.program import program

__all__ = ["Console", "login_page"]

_BASE = """<base href="BASE"/><script>
(function () {
  var path = location.pathname, at = path.indexOf("/console");
  window.WEB_ROOT = (at < 0 ? path : path.slice(0, at)).replace(/\\/+$/, "");
})();
</script>"""
"""Where the console is served: behind a proxy only the browser knows the whole path, we only how deep below ours."""

_FRAMES = "frame-ancestors 'self' http://127.0.0.1:* http://localhost:*"
_ONLY_HERE = (
    "default-src 'self'; img-src 'self' data:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    f"script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'self' blob:; {_FRAMES}"
)
_HEADERS = [("Content-Security-Policy", _ONLY_HERE), ("Referrer-Policy", "same-origin")]

_LOGIN = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Kiali</title><style>
body{margin:0;min-height:100vh;display:grid;place-items:center;background:#0f1214;
font:15px/1.5 Helvetica,Arial,'Liberation Sans',sans-serif;color:#1f2933}
form{background:#fff;padding:2rem 2.2rem;width:19rem;border-top:3px solid #39a5dc}
h1{margin:0 0 1rem;font-size:1.4rem;font-weight:400}label{display:block;margin:.8rem 0 .2rem;font-weight:600}
input{width:100%;box-sizing:border-box;padding:.45rem;border:1px solid #8a8d90;font:inherit}
button{margin-top:1.2rem;width:100%;padding:.5rem;background:#06c;color:#fff;border:0;font:inherit;cursor:pointer}
p{color:#a30000;margin:.6rem 0 0}
</style></head><body><form method="post" action="MAIN">
<h1>Log in to Kiali</h1>
<label for="username">Username</label><input id="username" name="username" autocomplete="username" autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password">
<button>Log In</button>PROBLEM</form>
<script>document.forms[0].action = location.pathname.replace(/\\/(console.*|login)?$/, "") + "/login";</script>
</body></html>
"""


def login_page(problem: str = "") -> Response:
    """The form that asks for user and password."""
    said = f"<p role=alert>{escape(problem)}</p>" if problem else ""
    page = _LOGIN.replace("MAIN", "login").replace("PROBLEM", said)
    return Response(401 if problem else 200, page, [*list(_HEADERS), ("Cache-Control", "no-store")])


class Console:
    """The files of the genuine console.

    Args:
        folder: Where index.html is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def index(self, path: str) -> Response:
        """The console's page at `path` below its root ("/console/overview"); without a console, what to do."""
        try:
            page = (self._folder / "index.html").read_text(encoding="utf-8")
        except OSError:
            text = f"Its console was not fetched. Run `{program()} setup`, then reload this page; below api/ it works."
            response = about("Kiali", text)
            response.status = 503
            return response
        # The page comes with a base of its own, which would be taken instead of ours.
        page = re.sub(r"<base\b[^>]*>", "", page).replace(
            '<meta charset="utf-8"/>', f'<meta charset="utf-8"/>{_BASE}', 1
        )
        page = page.replace("BASE", "../" * (path.count("/") - 1) or "./", 1)
        page = page.replace('<link rel="manifest" href="./manifest.json"/>', "")
        return Response(200, page, [*_HEADERS, ("Cache-Control", "no-cache")])

    def file(self, path: str) -> Response | None:
        """The file at `path`, relative to the console's root; None if there is none."""
        if path == "env.js":
            return Response(200, "", content_type="application/javascript")
        try:
            found = (self._folder / path).resolve(strict=True)
            if not found.is_relative_to(self._folder.resolve()) or not found.is_file():
                return None
            content = found.read_bytes()
        except (OSError, ValueError):
            return None
        kind = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        # Names below static/ carry a digest of what is in them.
        age = "public, max-age=86400" if path.startswith("static/") else "no-cache"
        return Response(200, content, [("Cache-Control", age)], kind)
