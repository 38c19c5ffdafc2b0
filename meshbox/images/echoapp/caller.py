# SPDX-License-Identifier: Apache-2.0
"""The echo image's other program, `client`: it calls a URL from where it runs, and prints what was answered."""

from __future__ import annotations

import argparse
import sys

from labkit.ground.duration import from_go
from meshbox.images.echoapp.forward import Asked, answers
from meshbox.images.grpc.server import CallError

__all__ = ["main"]

_NOT_HERE = ("uds", "ca", "alpn", "server-name", "client-cert", "client-key")


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="client", allow_abbrev=False)
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--qps", type=int, default=0)
    parser.add_argument("--timeout", type=from_go, default="5s")
    parser.add_argument("--header", "-H", action="append", default=[])
    parser.add_argument("--msg", default="HelloWorld")
    parser.add_argument("--method", default="GET")
    for name in _NOT_HERE:
        parser.add_argument(f"--{name}", action="append", default=[])
    for name in ("http2", "server-first", "follow-redirects"):
        parser.add_argument(f"--{name}", action="store_true")
    found = parser.parse_args(words)
    unplayed = [one for one in (*_NOT_HERE, "http2", "server-first", "follow-redirects") if vars(found)[_key(one)]]
    if unplayed:
        parser.error(f"--{unplayed[0]} is not played by the sandbox")
    if odd := next((one for one in found.header if one.count(":") != 1), None):
        parser.error(f'invalid header format: "{odd}" (want name:value)')
    return found


def _key(name: str) -> str:
    return name.replace("-", "_")


def main() -> None:
    """Call as the command line says; ends with 1 where nobody answered."""
    found = _arguments(sys.argv[1:])
    headers = [(name.strip(), value.strip()) for name, _, value in (one.partition(":") for one in found.header)]
    url = found.url if "://" in found.url else f"http://{found.url}"
    micros = found.timeout // 1000
    try:
        for one in answers(Asked(url, found.count, found.qps, micros, headers, found.msg, found.method)):
            print(one)
    except CallError as error:
        sys.exit(f"Error {error}")
