# SPDX-License-Identifier: Apache-2.0
"""Bounds on who may keep the daemon's own HTTP servers busy, and one line in the log for what is no HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from meshbox import failures

__all__ = ["BoundedServer", "application"]

log = logging.getLogger(__name__)

_MOST_CONNECTIONS = 2048
_FIRST_REQUEST = 75.0
_LEFT_OVER = 2.0


class _Handler(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A scanner's nonsense is worth a line, not thirty of a library's inside; and as much of an answer."""
        if isinstance(exc, Exception) and not isinstance(exc, HttpProcessingError):
            said = failures.noted(exc, f"{request.method} {request.path} failed")
            return web.Response(status=500, text=f"{said}\n")
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        said = " ".join(str(exc.message).split())[:120]
        log.warning("a request that is no HTTP was refused: %s", ascii(said)[1:-1])
        response = web.Response(status=400, text="400 Bad Request")
        response.force_close()
        return response


class BoundedServer(web.Server):
    """A server that holds a bounded number of connections; beyond it those go that have asked for nothing yet.

    A connection may be silent for 75 seconds, until its first request and between requests. What is left of a refused
    body is read for two seconds, without being kept, so that the client sees the refusal. Bodies are taken as they
    come: a few kB of gzip would unfold to gigabytes.

    Args:
        handler: Answers a request.
        most: Connections.
        options: As `web.Server` has them.
    """

    def __init__(
        self,
        handler: Callable[[Any], Awaitable[web.StreamResponse]],
        *,
        most: int = _MOST_CONNECTIONS,
        **options: Any,
    ) -> None:
        bounds: dict[str, Any] = {
            "keepalive_timeout": _FIRST_REQUEST,
            "lingering_time": _LEFT_OVER,
            "auto_decompress": False,
        }
        super().__init__(handler, access_log=None, **bounds, **options)
        self._most = most

    def __call__(self) -> web.RequestHandler:
        """What serves one connection."""
        return _Handler(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Another connection."""
        super().connection_made(handler, transport)
        if len(self._connections) > self._most:
            silent = (one for one in self._connections if not one._request_count and one is not handler)
            next(silent, handler).force_close()


def application(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> BoundedServer:
    """A server whose handler is given whole requests, and is cancelled when its client goes away."""
    loop = asyncio.get_running_loop()

    def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.Request:
        return web.Request(message, payload, protocol, writer, task, loop)

    return BoundedServer(handler, request_factory=request, handler_cancellation=True)
