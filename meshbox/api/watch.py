# SPDX-License-Identifier: Apache-2.0
"""Streams of changes: for callers in this process, and what the HTTP watch is made of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Generic, TypeVar

from meshbox.api.store import Change, Store
from meshbox.contracts import Event

__all__ = ["ChangeStream", "EventWatch", "Stream"]

T = TypeVar("T")

BACKLOG = 10_000
"""Changes after which an HTTP watch whose client does not read is given up."""


class Stream(Generic[T]):
    """A queue with one reader that can be closed from either side."""

    def __init__(self, first: Iterable[T] = ()) -> None:
        self._queue: deque[T] = deque(first)
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False

    def push(self, item: T) -> None:
        """Add an item for the reader."""
        self._queue.append(item)
        self._wake()

    def __len__(self) -> int:
        return len(self._queue)

    def take(self) -> list[T]:
        """All that is there now, without waiting."""
        items = list(self._queue)
        self._queue.clear()
        return items

    async def wait(self) -> None:
        """Return as soon as there is something to take, or the stream was closed."""
        while not self._queue and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """End the stream; the reader stops at once."""
        self.closed = True
        self._queue.clear()
        self._wake()

    async def __aiter__(self) -> AsyncIterator[T]:
        while not self.closed:
            await self.wait()
            if self._queue:
                yield self._queue.popleft()


class EventWatch(Stream[Event]):
    """What `Objects.watch` returns: everything there is, then every change."""

    def __init__(self, store: Store, resource: str, namespace: str | None) -> None:
        super().__init__(Event("ADDED", entry.obj) for entry in store.entries(resource, namespace))
        self._namespace = namespace
        self._stop = store.listen(resource, self._on_change)

    def _on_change(self, change: Change) -> None:
        obj = change.entry.obj
        if self._namespace is None or obj["metadata"].get("namespace") == self._namespace:
            self.push(Event(change.type, obj))

    def close(self) -> None:
        """End the watch."""
        self._stop()
        super().close()

    async def __aenter__(self) -> EventWatch:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class ChangeStream(Stream[Change]):
    """Changes of one resource, for an HTTP watch; given up (`overflowed`) where nobody reads them.

    Args:
        store: Where they happen.
        resource: Name of the resource.
        first: Changes to begin with.
    """

    def __init__(self, store: Store, resource: str, first: Iterable[Change] = ()) -> None:
        super().__init__(first)
        self.overflowed = False
        self._stop: Callable[[], None] = store.listen(resource, self._on_change)

    def _on_change(self, change: Change) -> None:
        if len(self) >= BACKLOG:
            self.overflowed = True
            self.close()
            return
        self.push(change)

    def close(self) -> None:
        """End the stream."""
        self._stop()
        super().close()
