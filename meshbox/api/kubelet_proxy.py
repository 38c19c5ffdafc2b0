# SPDX-License-Identifier: Apache-2.0
"""The node's metrics, as clients reach them: through the API server's proxy, and at the kubelet's own port."""

from __future__ import annotations

import logging
from urllib.parse import unquote

from aiohttp import web

from meshbox.api import refusals
from meshbox.api.identity import Identity
from meshbox.api.responses import refusal
from meshbox.contracts import ApiError, PodRuntime
from meshbox.exposition import CONTENT_TYPE
from meshbox.listening import Site
from meshbox.serving import BoundedServer
from meshbox.tokens import Tokens

__all__ = ["KUBELET_PORT", "Kubelet", "proxied"]

log = logging.getLogger(__name__)

KUBELET_PORT = 10250


def proxied(raw_path: str) -> tuple[str, str] | None:
    """The node and the path at its kubelet, of a request to /api/v1/nodes/NAME/proxy/PATH; None for any other."""
    parts = [unquote(part) for part in raw_path.split("/") if part]
    if parts[:3] != ["api", "v1", "nodes"] or parts[4:5] != ["proxy"]:
        return None
    return parts[3], "/" + "/".join(parts[5:])


class Kubelet:
    """The kubelet's server.

    Args:
        node: The node's address.
        runtime: Answers.
        tokens: Who may ask.
    """

    def __init__(self, node: str, runtime: PodRuntime, tokens: Tokens) -> None:
        self._node = node
        self._runtime = runtime
        self._tokens = tokens
        self._runner: web.ServerRunner | None = None

    async def start(self, identity: Identity) -> None:
        """Listen at the kubelet's port; a port that is taken is no reason to do without the cluster."""
        server = BoundedServer(self._handle)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await Site(runner, self._node, KUBELET_PORT, ssl_context=identity.context()).start()
        except OSError as error:
            log.warning("no kubelet port: %s:%d: %s", self._node, KUBELET_PORT, error.strerror or error)
            await runner.cleanup()
            return
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is None:
            return
        server, self._runner = self._runner, None
        connections = [one.transport for one in server.server.connections] if server.server is not None else []
        await server.cleanup()
        for transport in connections:
            # TLS would wait for the client's own goodbye.
            if transport is not None:
                transport.abort()

    async def answer(self, path: str) -> web.Response:
        """The page at `path`.

        Raises:
            ApiError: there is none.
        """
        if path == "/healthz":
            return web.Response(text="ok")
        page = await self._runtime.metrics(path)
        return web.Response(body=page.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            # A page in a browser has no token, and its name for this server is not its address.
            if request.host not in (f"{self._node}:{KUBELET_PORT}", self._node) or "Origin" in request.headers:
                raise ApiError(403, "Forbidden", "only clients of this cluster are answered")
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or self._tokens.holder(token.strip()) is None:
                raise ApiError(401, "Unauthorized", "Unauthorized")
            if request.method not in ("GET", "HEAD"):
                raise refusals.method_not_allowed()
            return await self.answer(request.path)
        except ApiError as error:
            return refusal(error)
