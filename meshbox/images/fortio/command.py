# SPDX-License-Identifier: Apache-2.0
"""fortio's command line: `load`, `curl`, `server`, `version`.

Flags are Go's: one or two dashes, `-n 20` or `-n=20`. What fortio has and this has not ends with a word, and exit
code 1, so that no figure is taken for one of a run that did not happen.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from http import HTTPStatus

from labkit.ground.client import send
from labkit.ground.duration import from_go
from labkit.ground.web import Request, Response, serve
from meshbox.images.fortio.load import Plan, run

__all__ = ["Asked", "main", "parsed"]

_USAGE = "usage: fortio load|curl [-c N] [-n N | -t 5s] [-qps N] [-H 'Name: value'] [-payload TEXT] URL, or server"
_VALUES = {
    "c": "connections at a time",
    "n": "requests",
    "t": "how long",
    "qps": "requests a second",
    "H": "a header",
    "payload": "a body to POST",
    "content-type": "of the payload",
    "X": "the method",
    "timeout": "for each request",
    "http-port": "of the server",
    "p": "percentiles",
    "loglevel": "of the log",
    "labels": "of the run",
}
_SWITCHES = {"quiet", "keepalive", "jitter", "uniform", "nocatchup", "L", "allow-initial-errors", "a", "stdclient"}
_QUIET = {"warning", "error", "critical", "fatal"}


@dataclasses.dataclass
class Asked:
    """A command line.

    Args:
        command: "load", "curl", "server" …
        plan: What to ask, and how often.
        url: Where.
        port: Of the server.
        quiet: Whether the log is left out.
    """

    command: str
    plan: Plan
    url: str = ""
    port: int = 8080
    quiet: bool = False


def _split(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Flags with their values, and what is left."""
    flags: list[tuple[str, str]] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and len(rest[0]) > 1:
        name, given, value = rest.pop(0).lstrip("-").partition("=")
        if name in _SWITCHES:
            flags.append((name, value if given else "true"))
        elif name not in _VALUES:
            raise ValueError(f"flag provided but not played in this sandbox: -{name}")
        elif given or rest:
            flags.append((name, value if given else rest.pop(0)))
        else:
            raise ValueError(f"flag needs an argument: -{name}")
    return flags, rest


def parsed(words: list[str]) -> Asked:
    """The command line `words`, without the program's own name.

    Raises:
        ValueError: it is none; the message says why.
    """
    if not words:
        raise ValueError("a command is missing")
    flags, rest = _split(words[1:])
    plan, asked = Plan(), Asked(words[0], Plan())
    exactly = dict(flags)
    for name, value in flags:
        if name == "H":
            header, colon, content = value.partition(":")
            if not colon:
                raise ValueError(f"invalid extra header {value!r}, expecting Key: Value")
            plan.headers[header.strip()] = content.strip()
    try:
        plan.connections = max(int(exactly.get("c", plan.connections)), 1)
        plan.calls = int(exactly.get("n", 0))
        plan.rate = max(float(exactly.get("qps", plan.rate)), 0.0)
        plan.seconds = _seconds(exactly["t"]) if exactly.get("t", "0") != "0" else plan.seconds
        plan.timeout = _seconds(exactly.get("timeout", "3s"))
        asked.port = int(exactly.get("http-port", "8080").rpartition(":")[2])
    except ValueError as error:
        raise ValueError(f"invalid value: {error}") from None
    plan.payload = exactly.get("payload", "").encode()
    plan.method = exactly.get("X") or ("POST" if plan.payload else "GET")
    if plan.payload:
        plan.headers.setdefault("Content-Type", exactly.get("content-type", "application/octet-stream"))
    plan.keepalive = exactly.get("keepalive", "true") != "false"
    if asked.command in ("load", "curl"):
        if len(rest) != 1:
            raise ValueError("one URL is expected")
        asked.url = rest[0] if "://" in rest[0] else f"http://{rest[0]}"
        if not asked.url.startswith("http://"):
            raise ValueError(f"only http:// is played in this sandbox, not {asked.url}")
    plan.percentiles = [float(part) for part in exactly.get("p", "50,75,90,99,99.9").split(",")]
    quiet = "quiet" in exactly or exactly.get("loglevel", "").lower() in _QUIET
    return dataclasses.replace(asked, plan=plan, quiet=quiet)


def _curl(asked: Asked) -> int:
    plan = asked.plan
    try:
        answer = send(asked.url, plan.method, plan.headers, plan.payload or None, timeout=plan.timeout)
    except OSError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"HTTP/1.1 {answer.status} {_phrase(answer.status)}")
    for name, value in answer.headers:
        print(f"{name}: {value}")
    print(f"\n{answer.text}", end="")
    return 0 if 200 <= answer.status < 300 else 1


def _seconds(text: str) -> float:
    return from_go(text) / 1e9


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _echo(request: Request) -> Response:
    """fortio's server: sends the body back, and does what the query says (status, delay, size)."""
    query = dict(request.query)
    if request.path == "/debug":
        lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.items)]
        return Response(200, f"Φορτίο (stand-in) on {os.environ.get('HOSTNAME', '')}\n" + "\n".join(lines) + "\n")
    if request.path.startswith("/fortio"):
        words = "The page of results is not played in this sandbox: fortio load in the pod prints them.\n"
        return Response(404, words, content_type="text/plain")
    try:
        if "delay" in query:
            time.sleep(min(_seconds(query["delay"].partition(":")[0]), 10.0))
        status = int(query.get("status", "200").partition(":")[0])
        body = b"X" * min(int(query["size"]), 1 << 20) if "size" in query else request.body
    except ValueError as error:
        return Response(400, f"{error}\n", content_type="text/plain")
    return Response(status if 200 <= status <= 599 else 400, body, content_type="text/plain; charset=UTF-8")


def main() -> int:
    """The program."""
    try:
        asked = parsed(sys.argv[1:])
    except ValueError as error:
        print(f"fortio: {error}\n{_USAGE}", file=sys.stderr)
        return 1
    if asked.command == "load":
        return run(asked.plan, asked.url, quiet=asked.quiet)
    if asked.command == "curl":
        return _curl(asked)
    if asked.command == "server":
        print(f"Fortio echo server on port {asked.port} (the workshop's stand-in)", flush=True)
        return serve({asked.port: _echo})
    if asked.command == "version":
        print("stand-in")
        return 0
    print(f"fortio: {asked.command!r} is not played in this sandbox\n{_USAGE}", file=sys.stderr)
    return 1
