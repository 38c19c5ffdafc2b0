# SPDX-License-Identifier: Apache-2.0
"""A TCP relay: what comes on one connection goes out on another, both ways, with as little in between as can be."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

from meshbox import failures
from meshbox.listening import ours_only

__all__ = ["Address", "RelayServer"]

Address = tuple[str, int]


class _Side(asyncio.Protocol):
    """One of the two connections; `peer` is the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: _Side | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def eof_received(self) -> bool:
        self._ended = True
        if self.peer is None or self.peer.transport is None or self.peer.transport.is_closing():
            return False
        if self.peer.transport.can_write_eof():
            self.peer.transport.write_eof()
        # Kept open for what the other side still has to say.
        return not self.peer._ended

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None and self.peer.transport is not None:
            if exc is None:
                self.peer.transport.close()
            else:
                reset(self.peer.transport)
        self.transport = None


def reset(transport: asyncio.Transport) -> None:
    """Close the connection with a reset, as a refused or broken one looks to its other end."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Client(_Side):
    """An accepted connection: what it says is kept until one to the chosen target stands."""

    def __init__(self, server: RelayServer) -> None:
        super().__init__()
        self._server = server
        self._connecting: asyncio.Task[None] | None = None
        self._early = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.clients.add(self)
        self._connecting = failures.minded(self._connect(transport.get_extra_info("peername")[0]), self._broken)

    def _broken(self, error: BaseException) -> None:
        failures.noted(error, "a connection to a Service was not passed on")
        if self.transport is not None:
            reset(self.transport)

    async def _connect(self, client: str) -> None:
        upstream = _Side()
        try:
            target = self._server.choose(client)
            if target is None:
                raise ConnectionRefusedError
            await asyncio.get_running_loop().create_connection(lambda: upstream, *target)
        except OSError:
            if self.transport is not None:
                reset(self.transport)
            return
        if self.transport is None:
            # The client went away meanwhile.
            if upstream.transport is not None:
                upstream.transport.close()
            return
        assert upstream.transport is not None
        upstream.peer, self.peer = self, upstream
        if self._early:
            upstream.transport.write(bytes(self._early))
            self._early.clear()
            self.transport.resume_reading()
        if self._ended:
            upstream.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            super().data_received(data)
            return
        self._early += data
        # Paused here and not in `connection_made`, where uvloop cannot.
        if self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self.peer is None:
            self._ended = True
            return True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.clients.discard(self)
        super().connection_lost(exc)


class RelayServer:
    """Listens on an address and relays each connection of this user's to a target.

    Args:
        address: Where it listens.
        choose: Given a client's IP address, the target of its new connection; None refuses it.
    """

    def __init__(self, address: Address, choose: Callable[[str], Address | None]) -> None:
        self.address = address
        self.choose = choose
        self.clients: set[_Client] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the address is in use, or not ours to bind.
        """
        self._server = await asyncio.get_running_loop().create_server(ours_only(lambda: _Client(self)), *self.address)

    def close(self) -> None:
        """Stop listening; connections that stand go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def abort(self) -> None:
        """Stop listening and end the connections."""
        self.close()
        for client in list(self.clients):
            if client.transport is not None:
                client.transport.abort()
