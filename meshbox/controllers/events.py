# SPDX-License-Identifier: Apache-2.0
"""Events last one hour."""

from __future__ import annotations

import asyncio

from meshbox import failures
from meshbox.contracts import Obj
from meshbox.controllers.meta import Context, parse_time

__all__ = ["EventExpiry"]

TTL = 3600.0
"""Seconds an Event is kept after it was last seen."""

_SWEEP = 60.0


def _last_seen(event: Obj) -> float:
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return max(parse_time(text) for text in times)


class EventExpiry:
    """Deletes Events past their time, once a minute."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sweep now, and every minute from now on."""
        self.sweep()
        self._timer = asyncio.get_running_loop().call_later(_SWEEP, self.start)

    def stop(self) -> None:
        """End the sweeping."""
        if self._timer is not None:
            self._timer.cancel()

    def sweep(self) -> None:
        """Delete what is too old."""
        limit = self._context.clock() - TTL
        for event in self._context.objects.list("events"):
            # One that cannot be told the age of must not keep the others.
            with failures.spared(failures.in_log(f"event {event['metadata']['name']} cannot be expired")):
                if _last_seen(event) < limit:
                    meta = event["metadata"]
                    self._context.objects.delete("events", meta["name"], meta["namespace"])
