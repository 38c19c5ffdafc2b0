# SPDX-License-Identifier: Apache-2.0
"""Counts that have arrived: how often Prometheus has asked each proxy since the last change tells it, not the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from labkit.ground.errors import NotReadyError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["settled"]

_ROUNDS = 2
"""Whole rounds of scrapes without a change. One may have begun before what is waited for; the second has not."""

_LEAST = 1.5
"""Seconds without a change at least: the sidecars of Istio 1.2 report to Mixer once a second."""

_PAUSE = 0.1


def settled(
    look: Callable[[], pd.Series], targets: Callable[[], Any], jobs: Collection[str], what: str, timeout: float
) -> pd.Series:
    """What `look` finds once it stands still while each target of `jobs` was asked again.

    Args:
        look: The counters, by their labels.
        targets: What Prometheus says of its targets: `/api/v1/targets`.
        jobs: The jobs that bring the counters.
        what: What is waited for, in an error's words.
        timeout: Seconds.

    Returns:
        What was found; `attrs["changed_for"]` is the time in seconds after which it changed no more.

    Raises:
        NotReadyError: It does not stand still within `timeout`.
    """
    begun = since = time.monotonic()
    seen, asked, rounds, changed_for = look(), _asked(targets(), jobs), 0, 0.0
    while True:
        time.sleep(_PAUSE)
        now, found, latest = time.monotonic(), look(), _asked(targets(), jobs)
        if not found.equals(seen):
            seen, since, rounds, changed_for, asked = found, now, 0, now - begun, latest
        # A target that has gone is asked no more; one that has come is waited for.
        elif latest and all(when != asked.get(url) for url, when in latest.items() if when is not None):
            rounds, asked = rounds + 1, latest
        if rounds >= _ROUNDS and now - since > _LEAST:
            seen.attrs["changed_for"] = changed_for
            return seen
        if now - begun > timeout:
            raise NotReadyError(_why(what, timeout, now - since, latest), next_step=_step(latest))


def _asked(found: Any, jobs: Collection[str]) -> dict[str, str | None]:
    """When each target was asked last; None where it does not answer, as pods without such a page never do."""
    mine = [one for one in found["activeTargets"] if one["labels"].get("job") in jobs]
    return {one["scrapeUrl"]: None if one["health"] == "down" else str(one["lastScrape"]) for one in mine}


def _why(what: str, timeout: float, still: float, latest: dict[str, str | None]) -> str:
    if not latest:
        return f"waited {timeout:g} s for {what} to stand still; Prometheus has no target that brings them"
    moved = f"they changed {still:.1f} s ago" if still < timeout / 2 else f"not all of {len(latest)} proxies were asked"
    return f"waited {timeout:g} s for {what} to stand still; seen last: {moved}"


def _step(latest: dict[str, str | None]) -> str:
    if not latest:
        return "The page Status ▸ Targets of Prometheus says whom it asks."
    return "Stop what sends requests: `traffic.stop()`, other notebooks, an open page of BookInfo that reloads itself."
