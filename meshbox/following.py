# SPDX-License-Identifier: Apache-2.0
"""Following the objects of a resource: what is done about each change, and what where that fails.

A change that could not be acted on is told on its object, the others go on, and it is tried again after 0.5 s, doubling
to 30 s, until it goes well or the object changes once more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from meshbox import failures
from meshbox.contracts import Event, Objects

__all__ = ["follow"]

_FIRST, _LAST = 0.5, 30.0

_Key = tuple[str | None, str]


async def follow(
    objects: Objects, resource: str, act: Callable[[Event], None], component: str, reason: str = "FailedSync"
) -> None:
    """Call `act` with everything there is of `resource`, then with every change, until cancelled.

    Args:
        objects: The cluster's objects.
        resource: Its name.
        act: Called for each change; may fail.
        component: Who tells of failures.
        reason: Of the event that does.
    """
    again: dict[_Key, asyncio.TimerHandle] = {}

    def attempt(event: Event, pause: float = _FIRST) -> None:
        meta = event.object["metadata"]
        key = meta.get("namespace"), meta["name"]
        if (waiting := again.pop(key, None)) is not None:
            waiting.cancel()
        try:
            act(event)
        except Exception as error:
            failures.report(objects, event.object, error, reason, component)
            later = asyncio.get_running_loop().call_later
            again[key] = later(pause, attempt, event, min(2 * pause, _LAST))

    try:
        with contextlib.closing(objects.watch(resource)) as watch:
            async for event in watch:
                attempt(event)
    finally:
        for timer in again.values():
            timer.cancel()
