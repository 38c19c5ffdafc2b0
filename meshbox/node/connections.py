# SPDX-License-Identifier: Apache-2.0
"""Connections to a pod's ports from outside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from meshbox.contracts import ApiError, ByteStream

__all__ = ["PodConnection", "connect"]


class PodConnection(ByteStream):
    """A TCP connection to a pod."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, n: int = 65536) -> bytes:
        """Next bytes; b"" at the end, also where the pod has broken the connection."""
        try:
            return await self._reader.read(n)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send; waits while the pod is slow."""
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        """No more will be written; reading goes on."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def close(self) -> None:
        """End both directions at once."""
        self._writer.close()


async def connect(addresses: Sequence[str], real_port: int, pod: str, port: int) -> PodConnection:
    """Connect to the first of `addresses` that listens.

    Raises:
        ApiError: none does.
    """
    for address in addresses:
        with contextlib.suppress(OSError):
            return PodConnection(*await asyncio.open_connection(address, real_port))
    message = f"failed to connect to localhost:{port} inside pod {pod}: connection refused"
    raise ApiError(500, "InternalError", message)
