# SPDX-License-Identifier: Apache-2.0
"""What the pods of the control plane ask the mesh over HTTP: their metrics, and what they are asked in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from labkit.ground.guard import same_secret
from meshbox.exposition import CONTENT_TYPE
from meshbox.listening import Site
from meshbox.mesh.envoy import XDS_CLUSTER
from meshbox.serving import BoundedServer

__all__ = ["PageServer"]


class PageServer:
    """Serves ``GET /metrics/COMPONENT``, and what `others` knows.

    Args:
        host: The address to listen on.
        port: The port.
        token: What who asks must show.
        page: Gives the metrics of a component of the control plane to one of its pods (namespace, name).
        others: Answers what else these pods ask.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        page: Callable[[str, tuple[str, str]], str],
        others: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> None:
        self._where = host, port
        self._token = f"Bearer {token}"
        self._page, self._others = page, others
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen."""
        server = BoundedServer(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await Site(self._runner, *self._where, backlog=512).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # A page in a browser can neither choose the Host nor leave out the Origin of such a request.
        if request.headers.get("Host") != XDS_CLUSTER or "Origin" in request.headers:
            return web.Response(status=403, text="only the control plane of this sandbox is served here\n")
        if not same_secret(request.headers.get("Authorization", ""), self._token):
            return web.Response(status=401, text="no valid token\n")
        if request.method != "GET" or not request.path.startswith("/metrics/"):
            return await self._others(request)
        pod = request.query.get("namespace", ""), request.query.get("pod", "")
        text = self._page(request.path.removeprefix("/metrics/"), pod)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
