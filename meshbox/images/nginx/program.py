# SPDX-License-Identifier: Apache-2.0
"""nginx in a container: the machine's own with the container's configuration, or a stand-in that says it is one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from meshbox.images import fronted, static
from meshbox.images.context import ImageName
from meshbox.images.nginx.configuration import ConfigurationError, translate

__all__ = ["main"]

_PATH = "/usr/sbin:/usr/local/sbin:/sbin"

_DEFAULT = """
error_log /var/log/nginx/error.log notice;
events { worker_connections 256; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    include /etc/nginx/conf.d/*.conf;
}
"""
_DEFAULT_SERVER = """
server {
    listen PORT;
    location / { root FOLDER; index index.html index.htm; }
}
"""
_WELCOME = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Welcome to nginx!</title></head>
<body><h1>Welcome to nginx!</h1><p>It is this machine's own, with no configuration of yours.</p></body></html>
"""


def _machines() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{_PATH}")


def _given(root: Path) -> Path | None:
    """The configuration that the command line names."""
    for flag, value in zip(sys.argv, sys.argv[1:], strict=False):
        if flag == "-c":
            return root / value.lstrip("/")
    return None


def _mounted(root: Path) -> bool:
    return (root / "etc/nginx").exists()


def _configuration(root: Path, run: Path) -> Path:
    """The container's nginx.conf: the one that is named or mounted, else the image's own."""
    file = _given(root) or root / "etc/nginx/nginx.conf"
    if file.exists():
        return file
    text, servers = _DEFAULT, root / "etc/nginx/conf.d"
    if not servers.exists():
        # A volume mounted there hides the image's own server, as it does elsewhere.
        html = root / "usr/share/nginx/html"
        if not html.exists():
            html = run / "html"
            html.mkdir(parents=True, exist_ok=True)
            (html / "index.html").write_text(_WELCOME)
        unprivileged = "unprivileged" in ImageName.parse(os.environ.get("LABKIT_IMAGE", "nginx")).repository
        own = run / "default.conf"
        port = "8080" if unprivileged else "80"
        own.write_text(_DEFAULT_SERVER.replace("PORT", port).replace("FOLDER", f'"{html}"'))
        text = text.replace("/etc/nginx/conf.d/*.conf", f'"{own}"')
    file = run / "nginx.conf"
    file.write_text(text)
    return file


def main() -> int:
    """The program."""
    root = Path(os.environ.get("LABKIT_ROOT", "/"))
    nginx = _machines()
    if nginx is None:
        if _mounted(root) or _given(root):
            print(
                "nginx: this machine has no nginx, so the configuration mounted here is NOT played: files are served "
                "as without one. Install the package nginx-light, then delete this pod.",
                file=sys.stderr,
                flush=True,
            )
        return static.main()
    run = root / "run"
    run.mkdir(parents=True, exist_ok=True)
    try:
        made = translate(_configuration(root, run), root)
    except ConfigurationError as error:
        print(f"nginx: [emerg] {error}", file=sys.stderr)
        return 1
    for aside in made.asides:
        print(f"the workshop's note on {aside}", file=sys.stderr, flush=True)
    # Unix sockets are named as seen from here: a path from the root could be too long for one.
    os.chdir(run)
    Path("played.conf").write_text(made.text)
    # Root's nginx would serve as somebody who may not read the pod's folder.
    # One process alone: workers would outlive a master that is killed.
    rights = "user root; " if os.geteuid() == 0 else ""
    line = [nginx, "-p", f"{run}/", "-c", f"{run}/played.conf"]
    setting = f"{rights}pid {run}/nginx.pid;"
    ends = [word for word in sys.argv[1:] if word in ("-t", "-T", "-v", "-V", "-q")]
    if "-s" in sys.argv[1:-1]:
        ends = ["-s", sys.argv[sys.argv.index("-s") + 1]]
    if ends:
        return subprocess.run([*line, "-g", setting, *ends], check=False).returncode
    return fronted.run(
        [*line, "-g", f"{setting} daemon off; master_process off;"], made.ports, introduced=True, stop=signal.SIGQUIT
    )
