# SPDX-License-Identifier: Apache-2.0
"""What is written to the stdin of a process in a container."""

from __future__ import annotations

import asyncio
import os

from meshbox.node.processes import Process

__all__ = ["Input"]


class Input:
    """A process's stdin, written without waiting on anybody else's account.

    Args:
        descriptor: Where to write.
        process: Who reads.
    """

    def __init__(self, descriptor: int, process: Process) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor: int | None = descriptor
        self._process = process

    async def write(self, data: bytes) -> None:
        """Send; waits while the process is slow."""
        view = memoryview(data)
        while view and self._descriptor is not None:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                await self._until_writable(self._descriptor)
            except OSError:
                # The process has closed its input or has ended; its exit code tells.
                return

    async def _until_writable(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        self._process.exited.add_done_callback(lambda _: writable.set())
        loop.add_writer(descriptor, writable.set)
        try:
            await writable.wait()
        finally:
            if self._descriptor is not None:
                loop.remove_writer(descriptor)

    def close(self) -> None:
        """The end of the input."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
