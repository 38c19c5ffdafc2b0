"""The loop behind every controller: watch, collect the keys of what changed, reconcile each, retry with back-off.

An object that changes ten times while it is being reconciled is reconciled once more, not ten times; a key is never
reconciled twice at once. A reconcile that fails is tried again after 0.05 s, doubling to 5 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from labkit.errors import LabError
from labkit.sandbox.contracts import ApiError, Obj, Objects

__all__ = ["Key", "Reconciler", "object_key"]

Key = tuple[str | None, str]
"""Namespace (None for cluster-scoped objects) and name."""

log = logging.getLogger(__name__)

_FIRST_RETRY = 0.05
_LAST_RETRY = 5.0


def object_key(obj: Obj) -> Key:
    """The key of `obj` itself."""
    return obj["metadata"].get("namespace"), obj["metadata"]["name"]


class Reconciler:
    """One controller.

    Args:
        name: For logs.
        objects: The cluster's objects.
        reconcile: Called with a key; returns None, or seconds after which to look at the key again.
    """

    def __init__(self, name: str, objects: Objects, reconcile: Callable[[Key], Awaitable[float | None]]) -> None:
        self.name = name
        self._objects = objects
        self._reconcile = reconcile
        self._sources: list[tuple[str, Callable[[Literal["ADDED", "MODIFIED", "DELETED"], Obj], Iterable[Key]]]] = []
        self._pending: set[Key] = set()
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def watches(self, resource: str, keys: Callable[[Obj], Iterable[Key]] | None = None) -> Reconciler:
        """Also reconcile on changes of `resource`; `keys` says which keys a changed object concerns (default: its own)."""

        def default(obj: Obj) -> Iterable[Key]:
            return [object_key(obj)]

        chosen = keys or default
        self._sources.append((resource, lambda _type, obj: chosen(obj)))
        return self

    def start(self) -> None:
        """Begin; needs a running event loop."""
        for resource, keys in self._sources:
            self._spawn(self._follow(resource, keys))

    async def stop(self) -> None:
        """End all tasks and timers."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def enqueue(self, key: Key, after: float = 0.0) -> None:
        """Reconcile `key` now, or `after` seconds from now (the earlier of two delays counts)."""
        loop = asyncio.get_running_loop()
        if after > 0:
            known = self._timers.get(key)
            if known is None or known.when() > loop.time() + after:
                if known is not None:
                    known.cancel()
                self._timers[key] = loop.call_later(after, self._due, key)
            return
        self._pending.add(key)
        if key not in self._busy:
            self._busy.add(key)
            self._spawn(self._work(key))

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.enqueue(key)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(
        self, resource: str, keys: Callable[[Literal["ADDED", "MODIFIED", "DELETED"], Obj], Iterable[Key]]
    ) -> None:
        watch = self._objects.watch(resource)
        with contextlib.closing(watch):
            async for event in watch:
                for key in keys(event.type, event.object):
                    self.enqueue(key)

    async def _work(self, key: Key) -> None:
        try:
            while key in self._pending:
                self._pending.discard(key)
                await self._once(key)
        finally:
            self._busy.discard(key)

    async def _once(self, key: Key) -> None:
        try:
            again = await self._reconcile(key)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # A controller outlives any single failure: it says so and tries again later.
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            if isinstance(error, ApiError) and error.code == 409:
                log.debug("%s: %s changed meanwhile; again", self.name, key)
            elif isinstance(error, LabError):
                log.warning("%s: %s: %s", self.name, key, error)
            else:
                log.exception("%s: %s failed", self.name, key)
            self.enqueue(key, min(_FIRST_RETRY * 2 ** (failures - 1), _LAST_RETRY))
        else:
            self._failures.pop(key, None)
            if again is not None:
                self.enqueue(key, max(again, 0.001))
