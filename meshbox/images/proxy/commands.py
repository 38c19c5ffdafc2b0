# SPDX-License-Identifier: Apache-2.0
"""The small commands of Istio's proxy image, for `kubectl exec` and init containers."""

from __future__ import annotations

import getopt
import os
import sys
import time
from urllib.parse import urlsplit

from labkit.ground.client import send

__all__ = ["iptables", "request", "usage", "version", "wait"]

_READY_DEADLINE = 60.0
_WAITS = ("timeoutSeconds", "periodMillis", "requestTimeoutMillis", "url")


def iptables() -> int:
    """`istio-iptables`: says what takes the place of its rules."""
    print(
        "no iptables rules are set in this sandbox: applications find Services through a name file and connect to\n"
        "their sidecar's port 15001, which is told the address they meant; only the sidecar listens at the pod IP"
    )
    return 0


def _ask(port: int, method: str, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
    url = f"http://{os.environ.get('LABKIT_LOCAL_IP', '127.0.0.1')}:{port}{path}"
    answer = send(url, method, {"Host": f"localhost:{port}", "Content-Length": "0"}, timeout=timeout)
    return answer.status, answer.body


def request() -> int:
    """`pilot-agent request [--debug-port=N] METHOD PATH`: asks Envoy's admin interface."""
    arguments = sys.argv[2:]
    port = 15000
    while arguments and arguments[0].startswith("-"):
        name, _, value = arguments.pop(0).partition("=")
        if name == "--debug-port":
            port = int(value or arguments.pop(0))
    if len(arguments) < 2:
        return usage()
    method, path = arguments[0], arguments[1]
    try:
        status, body = _ask(port, method, path if path.startswith("/") else f"/{path}")
    except OSError as error:
        print(f"Error: command error: Envoy does not answer on port {port}: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(body.decode(errors="replace"))
    return 0 if status < 400 else 1


def wait() -> int:
    """`pilot-agent wait [--timeoutSeconds N] [--periodMillis N] [--url URL]`: returns once Envoy is ready."""
    try:
        given, words = getopt.gnu_getopt(sys.argv[2:], "", [f"{name}=" for name in _WAITS])
        said = {name.removeprefix("--"): value for name, value in given}
        longest = float(said.get("timeoutSeconds", _READY_DEADLINE))
        pause = float(said.get("periodMillis", 50)) / 1000
        url = urlsplit(said.get("url", "http://localhost:15020/healthz/ready"))
        port = url.port or 80
    except (getopt.GetoptError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if words or url.hostname not in ("localhost", "127.0.0.1"):
        return usage()
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline:
        try:
            if _ask(port, "GET", url.path or "/", 1.0)[0] == 200:
                return 0
        except OSError:
            pass
        time.sleep(pause)
    print(f"Error: timeout waiting for Envoy proxy to become ready after {longest:g} s", file=sys.stderr)
    return 1


def version() -> int:
    """`pilot-agent version`."""
    tag = os.environ.get("LABKIT_IMAGE", "").rpartition(":")[2]
    print(f"version.BuildInfo{{Version:{tag!r}, GitRevision:'', BuildStatus:'sandbox'}}")
    return 0


def usage() -> int:
    """What there is."""
    print("pilot-agent in this sandbox: proxy, istio-iptables, request METHOD PATH, wait, version", file=sys.stderr)
    return 1
