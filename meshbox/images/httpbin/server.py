# SPDX-License-Identifier: Apache-2.0
"""httpbin's program, in both of its editions."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable

from labkit.ground.web import App, Request, Response, serve
from meshbox.images.httpbin.answers import answer
from meshbox.images.httpbin.secure import serve_securely

__all__ = ["main", "main_go"]


def main() -> int:
    """The Python edition: port 80, or the one that gunicorn is told to bind."""
    port = 80
    app: App = functools.partial(answer, lists=False)
    for flag, value in zip(sys.argv, sys.argv[1:], strict=False):
        if flag in ("-b", "--bind") and value.rpartition(":")[2].isdigit():
            port = int(value.rpartition(":")[2])
        elif (flag, value) == ("--access-logfile", "-"):
            app = _logged(app, _common_line)
    print(f"httpbin on port {port}", flush=True)
    return serve({port: app})


def main_go() -> int:
    """The Go edition: port 8080, or what -port or $PORT says; it shows every value as a list.

    With a certificate it speaks HTTPS there, and nothing else.
    """
    text = os.environ.get("PORT", "8080")
    for flag, value in zip(sys.argv, sys.argv[1:], strict=False):
        if flag in ("-port", "--port"):
            text = value
    if not text.isdigit():
        print(f"invalid port {text!r}", file=sys.stderr)
        return 1
    print(f"go-httpbin on port {text}", flush=True)
    app = _logged(functools.partial(answer, lists=True), _structured_line)
    certificate, key = (os.environ.get(name, "") for name in ("HTTPS_CERT_FILE", "HTTPS_KEY_FILE"))
    if certificate and key:
        return serve_securely(int(text), app, certificate, key)
    return serve({int(text): app})


def _logged(app: App, line: Callable[[Request, Response, float], str]) -> App:
    """`app`, with a line on stdout for each request: what tells which of two versions a mirrored request came to."""

    def answer(request: Request) -> Response:
        began = time.monotonic()
        response = app(request)
        sys.stdout.write(line(request, response, (time.monotonic() - began) * 1000) + "\n")
        sys.stdout.flush()
        return response

    return answer


def _size(response: Response) -> int:
    return len(response.body) if isinstance(response.body, str | bytes) else 0


def _common_line(request: Request, response: Response, _took: float) -> str:
    """As gunicorn writes it: the Common Log Format with referrer and agent."""
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    referrer, agent = (request.headers.get(name, "-") for name in ("referer", "user-agent"))
    what = f'"{request.method} {request.target} HTTP/1.1" {response.status} {_size(response)}'
    return f'{request.client} - - [{moment}] {what} "{referrer}" "{agent}"'


def _structured_line(request: Request, response: Response, took: float) -> str:
    """As go-httpbin writes it, in Go's structured log."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    agent = json.dumps(request.headers.get("user-agent", ""))
    what = f"status={response.status} method={request.method} uri={json.dumps(request.target)}"
    rest = f"size_bytes={_size(response)} duration_ms={took:.2f} user_agent={agent} client_ip={request.client}"
    return f'time={moment}.000Z level=INFO msg="{response.status} {request.method} {request.target}" {what} {rest}'
