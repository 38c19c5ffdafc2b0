# SPDX-License-Identifier: Apache-2.0
"""httpbin over TLS: what go-httpbin does where $HTTPS_CERT_FILE and $HTTPS_KEY_FILE name a certificate and its key."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

from labkit.ground import web

__all__ = ["serve_securely"]

_HANDSHAKE = 0x16
"""What TLS begins with."""

_LONGEST = 10.0
"""Seconds that a handshake may take."""

_IN_PLAIN_TEXT = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class _Secure(web.Server):
    """A listening app behind TLS."""

    def __init__(self, address: tuple[str, int], app: web.App, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(address, app)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, in the connection's own thread, and serve what is said inside."""
        request.settimeout(_LONGEST)
        first = request.recv(1, socket.MSG_PEEK)
        if first and first[0] != _HANDSHAKE:
            request.sendall(_IN_PLAIN_TEXT)
            return
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)


def serve_securely(port: int, app: web.App, certificate: str, key: str) -> int:
    """Serve an app over TLS until SIGTERM.

    Args:
        port: Where.
        app: The app.
        certificate: The container's file with its certificate, and those that lead to its authority.
        key: The container's file with its key.

    Returns:
        The exit code: 1 where a file or the port cannot be had.
    """
    root = Path(os.environ.get("LABKIT_ROOT", "/"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(root / certificate.lstrip("/"), root / key.lstrip("/"))
        server = _Secure((os.environ.get("LABKIT_BIND", "127.0.0.1"), web.real_port(port)), app, context)
    except OSError as error:
        print(f"cannot serve HTTPS with {certificate} and {key}: {error}", file=sys.stderr)
        return 1
    threading.Thread(target=server.run, daemon=True).start()
    try:
        # It waits for SIGTERM, and goes on for a moment after that.
        return web.serve({})
    finally:
        server.server_close()
