# SPDX-License-Identifier: Apache-2.0
"""The loop behind every controller: watch, collect the keys of what changed, reconcile each, retry with back-off.

An object that changes ten times while it is being reconciled is reconciled once more, not ten times; a key is never
reconciled twice at once. A reconcile that fails is tried again after 0.005 s, doubling to 5 s (0.25 s for a webhook).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from labkit.ground.errors import LabError
from meshbox import failures
from meshbox.contracts import ApiError, Event, Obj, Objects, ReviewNeededError, View, working_for
from meshbox.following import follow

__all__ = ["Key", "Reconciler", "object_key"]

Key = tuple[str | None, str]
"""Namespace (None for cluster-scoped objects) and name."""

log = logging.getLogger(__name__)

_FIRST_RETRY = 0.005
"""Seconds; Kubernetes' own."""

_LAST_RETRY = 5.0
_WEBHOOK_RETRY = 0.25
"""Longest pause where a webhook did not answer: a mesh that has just been installed has its injector in a moment."""

_SHORTEST_DELAY = 0.001


def object_key(obj: View) -> Key:
    """The key of `obj` itself."""
    return obj["metadata"].get("namespace"), obj["metadata"]["name"]


class Reconciler:
    """One controller.

    Args:
        name: For logs.
        objects: The cluster's objects.
        reconcile: Called with a key; returns None, or seconds after which to look at the key again.
        about: The resource that a key names; None for the first that is watched, "" where keys name no object.
    """

    def __init__(
        self,
        name: str,
        objects: Objects,
        reconcile: Callable[[Key], Awaitable[float | None]],
        *,
        about: str | None = None,
    ) -> None:
        self.name = name
        self._about = about
        self._objects = objects
        self._reconcile = reconcile
        self._sources: list[tuple[str, Callable[[Event], Iterable[Key]]]] = []
        self._pending: set[Key] = set()
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False

    def watches(self, resource: str, keys: Callable[[Obj], Iterable[Key]] | None = None) -> Reconciler:
        """Also reconcile on changes of `resource`; `keys` says which keys a changed object concerns (default: its own).

        May be called while running: the watch then begins at once.
        """

        def default(obj: Obj) -> Iterable[Key]:
            return [object_key(obj)]

        chosen = keys or default
        return self.watches_events(resource, lambda event: chosen(event.object))

    def watches_events(self, resource: str, keys: Callable[[Event], Iterable[Key]]) -> Reconciler:
        """As `watches`, for controllers that must tell an object's end from its change."""
        self._sources.append((resource, keys))
        if self._running:
            self._spawn(self._follow(resource, keys))
        return self

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._running = True
        for resource, keys in self._sources:
            self._spawn(self._follow(resource, keys))

    async def stop(self) -> None:
        """End all tasks and timers."""
        self._running = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def enqueue(self, key: Key, after: float = 0.0) -> None:
        """Reconcile `key` now, or `after` seconds from now (the earlier of two delays counts)."""
        if not self._running:
            return
        if after > 0:
            loop = asyncio.get_running_loop()
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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, resource: str, keys: Callable[[Event], Iterable[Key]]) -> None:
        def act(event: Event) -> None:
            for key in list(keys(event)):
                self.enqueue(key)

        await follow(self._objects, resource, act, self.name, "FailedReconcile")

    async def _work(self, key: Key) -> None:
        # Of this task only, and of those that it starts.
        working_for.set(self.name)
        try:
            while key in self._pending:
                self._pending.discard(key)
                await self._once(key)
        finally:
            self._busy.discard(key)

    def _tell(self, key: Key, error: Exception, count: int) -> None:
        """Say it on the object, or on the Node where there is none. A refusal is told by whoever was refused."""
        if isinstance(error, ApiError) and error.code == 409:
            log.debug("%s: %s changed meanwhile; again", self.name, key)
            return
        if isinstance(error, LabError):
            level = logging.WARNING if count == 1 else logging.DEBUG
            log.log(level, "%s: %s: %s", self.name, key, error)
            if isinstance(error, ApiError):
                return
        about = self._sources[0][0] if self._about is None and self._sources else self._about
        obj = self._objects.find(about, key[1], key[0]) if about else None
        if obj is not None:
            failures.report(self._objects, obj, error, "FailedReconcile", self.name)
        else:
            where = f"{key[0]}/{key[1]}" if key[0] else key[1]
            failures.report_here(self._objects, error, f"{self.name} failed for {where}", self.name)

    async def _once(self, key: Key) -> None:
        try:
            again = await self._reconcile(key)
        except asyncio.CancelledError:
            raise
        except ReviewNeededError as pending:
            # No failure: what was decided is decided again, of what there is once the webhooks have answered.
            await pending.fetch()
            self.enqueue(key)
        except Exception as error:
            # A controller outlives any single failure: it says so and tries again later.
            count = self._failures[key] = self._failures.get(key, 0) + 1
            self._tell(key, error, count)
            # The cap on the exponent keeps a key that fails for days from overflowing.
            longest = _WEBHOOK_RETRY if isinstance(error, ApiError) and error.code == 500 else _LAST_RETRY
            self.enqueue(key, min(_FIRST_RETRY * 2 ** min(count - 1, 12), longest))
        else:
            self._failures.pop(key, None)
            if again is not None:
                self.enqueue(key, max(again, _SHORTEST_DELAY))
