# SPDX-License-Identifier: Apache-2.0
"""Where the clusters of one proxy lead to (EDS), on the way to it: only what is new of it, and what it asked for.

One message is on its way at a time. What changes meanwhile goes with the next one, so that a wave of pods that become
ready is a few messages, however slow the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from meshbox.mesh import channels

__all__ = ["Assignments", "Mouth"]

_NOTHING = b""
"""Stands for a cluster that the proxy asks for, and that is not to be there."""


class Mouth(Protocol):
    """What tells a proxy."""

    def say(self, version: int, found: Mapping[str, bytes], gone: Collection[str]) -> int:
        """Send these, and that those are not there; how many bytes that took."""


class Assignments:
    """The endpoints of a proxy's clusters.

    Args:
        refused: Called with the names that the proxy refused, and what they were.
        pushed: Called with the bytes of each message.

    Attributes:
        version: The number of the last message.
        sent: The same, where a proxy is there to take it; else -1.
        acknowledged: The last one that was taken.
        refused: The last one that was refused.
        there: Always.
    """

    def __init__(
        self, refused: Callable[[str, tuple[bytes, ...]], None], pushed: Callable[[int], None] = lambda _: None
    ) -> None:
        self._refused, self._pushed = refused, pushed
        self.version = 0
        self.sent = self.acknowledged = self.refused = -1
        self.there = True
        self._mouth: Mouth | None = None
        self._wanted: Mapping[str, bytes] | None = None
        self._asked: set[str] = set()
        self._said: dict[str, bytes] = {}
        self._taken: dict[str, bytes] = {}
        self._alone: list[str] = []
        self._on_its_way: dict[str, bytes] = {}
        self._settled = asyncio.Event()

    def offer(self, wanted: Mapping[str, bytes]) -> None:
        """What each cluster should lead to, by its name: assignments as JSON."""
        if wanted is not self._wanted:
            self._wanted = wanted
            self._speak()

    def opened(self, mouth: Mouth) -> None:
        """A proxy listens, and has nothing yet; the one before is gone."""
        self._mouth = mouth
        self._asked, self._said, self._taken = set(), {}, {}
        self._alone, self._on_its_way = [], {}
        self.sent = self.acknowledged = self.refused = -1

    def closed(self, mouth: Mouth) -> None:
        """That proxy listens no more."""
        if self._mouth is mouth:
            self._mouth, self.sent = None, -1

    def ask(self, more: Collection[str], fewer: Collection[str]) -> None:
        """The proxy wants to know of `more` clusters, those that it knows included, and no more of `fewer`."""
        for name in fewer:
            self._asked.discard(name)
            self._said.pop(name, None)
            self._taken.pop(name, None)
        self._asked.update(more)
        self.again(more)

    def again(self, names: Collection[str]) -> None:
        """Tell of these once more: the proxy has made their clusters anew, which begin without endpoints."""
        for name in names:
            self._said.pop(name, None)
            self._taken.pop(name, None)
        self._speak()

    def settle(self, version: int, *, refused: bool) -> None:
        """The proxy has taken, or refused, the message `version`."""
        if version != self.version or not self._on_its_way:
            return
        came, self._on_its_way = self._on_its_way, {}
        if not refused:
            self.acknowledged = version
            # What was asked for again meanwhile has not been taken as it was meant.
            self._taken |= {name: body for name, body in came.items() if self._said.get(name) is body}
        elif len(came) > 1:
            # One of them is at fault, and the rest would be lost with it.
            self._alone += came
        else:
            self.refused = version
            self._refused(next(iter(came)), tuple(came.values()))
        self._settled.set()
        self._settled = asyncio.Event()
        self._speak()

    async def taken(self, names: Collection[str]) -> None:
        """Wait until the proxy has taken what these lead to, or `STEP` seconds; not at all where none listens."""
        ends = asyncio.get_running_loop().time() + channels.STEP
        while self._mouth is not None and self._wanted is not None:
            if all(self._taken.get(name) == self._wanted.get(name, _NOTHING) for name in names):
                return
            try:
                await asyncio.wait_for(self._settled.wait(), ends - asyncio.get_running_loop().time())
            except TimeoutError:
                return

    def _speak(self) -> None:
        if self._mouth is None or self._wanted is None or self._on_its_way:
            return
        wanted = self._wanted
        if self._alone:
            name = self._alone.pop()
            news = {name: wanted.get(name, _NOTHING)}
        else:
            known = ((name, wanted.get(name, _NOTHING)) for name in sorted(self._asked))
            news = {name: body for name, body in known if self._said.get(name) != body}
        if not news:
            return
        self._said |= news
        self._on_its_way = news
        self.version += 1
        self.sent = self.version
        found = {name: body for name, body in news.items() if body}
        self._pushed(self._mouth.say(self.version, found, [name for name, body in news.items() if not body]))
