# SPDX-License-Identifier: Apache-2.0
"""Istio's sample authorizer: allows what has the header `x-ext-authz: allow`, and tells the log what it was asked."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from labkit.ground.web import App, Request, Response, listen, serve
from meshbox.images.children import end_with, started
from meshbox.images.extauthz import messages

__all__ = ["asked_by_grpc", "asked_by_http", "main"]

CHECK, ALLOWED = "x-ext-authz", "allow"
RESULT = "x-ext-authz-check-result"
RECEIVED = "x-ext-authz-check-received"
OVERRIDE = "x-ext-authz-additional-header-override"
GRPC_OVERRIDE = "grpc-additional-header-override-value"
DENIED = f"denied by ext_authz for not found header `{CHECK}: {ALLOWED}` in the request"
_MOST = 60_000
"""Letters of what was received that are shown: Envoy takes no longer headers."""


def _log(line: str) -> None:
    print(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {line}", flush=True)


def _title(name: str) -> str:
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def asked_by_http(request: Request) -> Response:
    """The answer to a check over HTTP."""
    values: dict[str, list[str]] = {}
    for name, value in request.items:
        if name.lower() != "host":
            values.setdefault(_title(name), []).append(value)
    shown = " ".join(f"{name}:[{' '.join(found)}]" for name, found in sorted(values.items()))
    body = request.body.decode(errors="replace")
    host = request.headers.get("host", "")
    said = f"{request.method} {host}{request.target}, headers: map[{shown}], body: [{body[:_MOST]}]"
    allowed = request.headers.get(CHECK) == ALLOWED
    _log(f"[HTTP][{'allowed' if allowed else 'denied'}]: {said}")
    headers = [
        (RESULT, "allowed" if allowed else "denied"),
        (OVERRIDE, request.headers.get(OVERRIDE, "")),
        (RECEIVED, said.replace("\r", " ").replace("\n", " ")[:_MOST]),
    ]
    text = "" if allowed else DENIED
    return Response(200 if allowed else 403, text, headers=headers, content_type="text/plain; charset=utf-8")


def asked_by_grpc(account: str) -> App:
    """What answers checks over gRPC, taken out of its frames; `account` is let in without the header."""

    def app(request: Request) -> Response:
        try:
            check = messages.read(request.body)
        except messages.MessageError as error:
            return Response(400, f"no CheckRequest: {error}\n", content_type="text/plain")
        allowed = check.headers.get(CHECK) == ALLOWED or check.principal.endswith(f"/sa/{account}")
        if CHECK in check.headers:
            allowed = check.headers[CHECK] == ALLOWED
        result = "allowed" if allowed else "denied"
        _log(f"[gRPCv3][{result}]: {check.host}{check.path}, attributes: {check}")
        headers = [(RESULT, result), (RECEIVED, str(check)[:_MOST]), (OVERRIDE, GRPC_OVERRIDE)]
        made = messages.answer(allowed=allowed, headers=headers, body="" if allowed else DENIED)
        return Response(200, made, content_type="application/grpc+proto")

    return app


def _flags() -> dict[str, str]:
    found = {"http": "8000", "grpc": "9000", "allow_service_account": "a"}
    words = [part for word in sys.argv[1:] for part in word.split("=", 1)]
    for name, value in itertools.pairwise(words):
        if name.startswith("-") and name.lstrip("-") in found:
            found[name.lstrip("-")] = value
    return found


def main() -> int:
    """Entry of the ext-authz image."""
    flags = _flags()
    if not flags["http"].isdigit():
        print(f"invalid port {flags['http']!r}", file=sys.stderr)
        return 1
    (behind,) = listen({0: asked_by_grpc(flags["allow_service_account"])}, os.environ["LABKIT_LOCAL_IP"])
    command = json.loads(os.environ["LABKIT_BRIDGE"])
    file = Path(command[2])
    file.write_text(file.read_text().replace('"@port@"', str(behind.server_address[1])))
    children: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        children.append(started(command))
        end_with(children[0], "the gRPC server")
        _log(f"Starting gRPC server at [::]:{flags['grpc']}")
        _log(f"Starting HTTP server at [::]:{flags['http']}")

    code = serve({int(flags["http"]): asked_by_http}, started=start)
    for child in children:
        child.terminate()
        child.wait()
    return code
