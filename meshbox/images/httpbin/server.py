# SPDX-License-Identifier: Apache-2.0
"""httpbin's program, in both of its editions."""

from __future__ import annotations

import functools
import os
import sys

from labkit.ground.web import serve
from meshbox.images.httpbin.answers import answer

__all__ = ["main", "main_go"]


def main() -> int:
    """The Python edition: port 80, or the one that gunicorn is told to bind."""
    port = 80
    for flag, value in zip(sys.argv, sys.argv[1:], strict=False):
        if flag in ("-b", "--bind") and value.rpartition(":")[2].isdigit():
            port = int(value.rpartition(":")[2])
    print(f"httpbin on port {port}", flush=True)
    return serve({port: functools.partial(answer, lists=False)})


def main_go() -> int:
    """The Go edition: port 8080, or what -port or $PORT says; it shows every value as a list."""
    text = os.environ.get("PORT", "8080")
    for flag, value in zip(sys.argv, sys.argv[1:], strict=False):
        if flag in ("-port", "--port"):
            text = value
    if not text.isdigit():
        print(f"invalid port {text!r}", file=sys.stderr)
        return 1
    print(f"go-httpbin on port {text}", flush=True)
    return serve({int(text): functools.partial(answer, lists=True)})
