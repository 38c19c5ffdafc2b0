# SPDX-License-Identifier: Apache-2.0
"""What a proxy was offered of one kind of resource, what it has taken, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Literal

__all__ = ["STEP", "Channel"]

log = logging.getLogger(__name__)

STEP = 1.0
"""Seconds to wait for a proxy to take one step of a change before the next is taken all the same."""


class Channel:
    """One kind of resource (or one named route table or secret) on its way to one proxy."""

    def __init__(self) -> None:
        self.version = 0
        self.acknowledged = -1
        self.refused = -1
        self.sent = -1
        self.repeated = -1
        self.began = 0.0
        self.there = True
        self._parts: tuple[bytes, ...] = ()
        self._taken_parts: tuple[bytes, ...] = ()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    def offer(self, resources: Iterable[bytes]) -> bool:
        """Set what the proxy should have; whether that is new."""
        parts = tuple(resources)
        # Most are the very same objects as before: two tuples of those are compared without a look into them.
        if self.version and parts == self._parts and self.there:
            return False
        self.version += 1
        self.there, self._parts = True, parts
        self._changed.set()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        return True

    @property
    def body(self) -> bytes:
        """All of it as it is sent; not kept, since proxies share the parts and nothing but those."""
        return b",".join(self._parts)

    @property
    def size(self) -> int:
        """Bytes in `body`."""
        return sum(map(len, self._parts)) + max(len(self._parts) - 1, 0)

    def withdraw(self) -> None:
        """There is nothing any more: who has it may keep it, and nobody else gets it."""
        self.there = False

    def restart(self) -> None:
        """Another Envoy asks, or one that has let go of it: it has nothing yet."""
        self.sent = self.acknowledged = self.refused = self.repeated = -1
        self._taken_parts = ()

    def asked(self, held: int) -> Literal["new", "again", "refused"]:
        """What a request means that comes with another version than the one there is.

        Args:
            held: The version that the proxy says it has; 0 for none.
        """
        if self.sent != self.version:
            return "new"
        if not held and self.acknowledged > 0:
            # It had taken one, so it has let go of it since: a listener went, and came back.
            self.restart()
            return "new"
        if self.repeated != self.version:
            self.repeated = self.version
            return "again"
        return "refused"

    def suspects(self) -> tuple[bytes, ...]:
        """What the proxy is offered and has not taken before."""
        known = set(self._taken_parts)
        return tuple(part for part in self._parts if part not in known)

    def settle(self, version: int, *, refused: bool) -> None:
        """The proxy has taken, or refused, `version`."""
        if refused:
            self.refused = version
        else:
            self.acknowledged = version
        if version == self.version:
            if not refused:
                self._taken_parts = self._parts
            self._taken.set()

    async def taken(self) -> None:
        """Wait until the proxy has taken or refused what was offered, or `STEP` seconds."""
        if self.sent < 0 or self.version in (self.acknowledged, self.refused):
            return
        try:
            await asyncio.wait_for(self._taken.wait(), STEP)
        except TimeoutError:
            log.debug("version %s is still on its way", self.version)

    async def change(self, timeout: float) -> bool:
        """Wait for something new; whether it came."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return False
        return True
