# SPDX-License-Identifier: Apache-2.0
"""Servers of the daemon that take connections of this user's own processes only (see `labkit.ground.peers`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from labkit.ground import peers

__all__ = ["Site", "ours_only"]


class _Door(asyncio.Protocol):
    """Stands before the real protocol until it is known who has come."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._factory = factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand over, or hang up."""
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if peer and own and peers.welcome(peers.owner(peer, own)):
            protocol = self._factory()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
        else:
            transport.abort()  # type: ignore[attr-defined]


def ours_only(factory: Callable[[], asyncio.BaseProtocol]) -> Callable[[], asyncio.BaseProtocol]:
    """A protocol factory for `loop.create_server` that hangs up on other users' TCP connections."""
    return lambda: _Door(factory)


class Site(web.TCPSite):
    """Where an aiohttp server listens, behind that door; parameters as aiohttp's own."""

    async def start(self) -> None:
        """Begin to listen."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            ours_only(server), self._host, self._port, ssl=self._ssl_context, backlog=self._backlog
        )
