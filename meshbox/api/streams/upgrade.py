# SPDX-License-Identifier: Apache-2.0
"""How a client asks for a stream, and what it is answered before the stream begins."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from meshbox.api.streams.wire import TakenConnection, UpgradedWire
from meshbox.contracts import ApiError

__all__ = ["flag", "open_spdy", "open_websocket", "spdy_protocol", "wants_websocket", "websocket_protocol"]

_LONGEST_MESSAGE = 32 * 1024 * 1024
_FALSE = ("", "0", "false")


def flag(request: web.Request, name: str) -> bool:
    """A boolean query parameter, read as the API server does: anything but "", "0" and "false" is true."""
    return request.query.get(name, "").lower() not in _FALSE


def _listed(request: web.Request, header: str) -> list[str]:
    values = ",".join(request.headers.getall(header, [])).split(",")
    return [value.strip() for value in values if value.strip()]


def wants_websocket(request: web.Request) -> bool:
    """Whether a WebSocket is asked for; False: SPDY.

    Raises:
        ApiError: 400 where neither is.
    """
    if "upgrade" in (value.lower() for value in _listed(request, "Connection")):
        upgrade = request.headers.get("Upgrade", "").lower()
        if upgrade in ("websocket", "spdy/3.1"):
            return upgrade == "websocket"
    raise ApiError(400, "BadRequest", "Upgrade request required")


def websocket_protocol(request: web.Request, supported: Sequence[str]) -> str:
    """The first subprotocol offered that is supported; "" where the client offers none.

    Raises:
        ApiError: 403 where no offered one is supported.
    """
    return _chosen(
        _listed(request, "Sec-WebSocket-Protocol"),
        supported,
        "requested protocol(s) are not supported: {}; supports {}",
    )


def spdy_protocol(request: web.Request, supported: Sequence[str]) -> str:
    """As `websocket_protocol`, of the protocols that a SPDY client offers."""
    return _chosen(
        _listed(request, "X-Stream-Protocol-Version"),
        supported,
        "unable to upgrade: unable to negotiate protocol: client supports {}, server accepts {}",
    )


def _chosen(offered: list[str], supported: Sequence[str], refusal: str) -> str:
    if not offered:
        return ""
    for protocol in offered:
        if protocol in supported:
            return protocol
    raise ApiError(403, "Forbidden", refusal.format(f"[{' '.join(offered)}]", f"[{' '.join(supported)}]"))


async def open_websocket(request: web.Request, protocol: str) -> web.WebSocketResponse:
    """Answer with a WebSocket that speaks `protocol`."""
    socket = web.WebSocketResponse(
        protocols=(protocol,) if protocol else (), compress=False, max_msg_size=_LONGEST_MESSAGE
    )
    await socket.prepare(request)
    return socket


async def open_spdy(request: web.Request, protocol: str) -> tuple[UpgradedWire, web.StreamResponse]:
    """Answer ``101 Switching Protocols``, and take the connection over."""
    response = web.StreamResponse(status=101, headers={"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    if protocol:
        response.headers["X-Stream-Protocol-Version"] = protocol
    response.force_close()
    connection = TakenConnection(request)
    await response.prepare(request)
    return UpgradedWire(connection, response), response
