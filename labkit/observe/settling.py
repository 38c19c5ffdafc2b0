# SPDX-License-Identifier: Apache-2.0
"""Counts that have arrived: how often Prometheus has asked each proxy since the last change tells it, not the clock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from labkit.ground.errors import NotReadyError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["settled"]

_ROUNDS = 2
"""Scrapes of each target without a change. One may have begun before what is waited for; the second has not."""

_LEAST = 1.5
"""Seconds without a change at least: the sidecars of Istio 1.2 report to Mixer once a second."""

_PAUSE = 0.1

Target = tuple[str, bool]
"""When a target was asked last, and whether it answered."""


def settled(
    look: Callable[[], pd.Series],
    targets: Callable[[], Any],
    jobs: Collection[str],
    bring: Collection[str],
    what: str,
    timeout: float,
) -> pd.Series:
    """What `look` finds once it stands still while each target of `jobs` has answered again and again.

    Args:
        look: The counters, by their labels.
        targets: What Prometheus says of its targets: `/api/v1/targets`.
        jobs: The jobs that bring the counters.
        bring: Instances that are known to bring some: they are waited for though they do not answer now. Others that
            do not answer may be pods that have no such page.
        what: What is waited for, in an error's words.
        timeout: Seconds.

    Returns:
        What was found; `attrs["changed_for"]` is the time in seconds after which it changed no more.

    Raises:
        NotReadyError: It does not stand still within `timeout`.
    """
    begun = since = time.monotonic()
    seen, before, changed_for = look(), _asked(targets(), jobs, bring), 0.0
    answered: Counter[str] = Counter()
    while True:
        time.sleep(_PAUSE)
        now, found, latest = time.monotonic(), look(), _asked(targets(), jobs, bring)
        if not found.equals(seen):
            seen, since, changed_for = found, now, now - begun
            answered.clear()
        else:
            answered.update(url for url, one in latest.items() if one[1] and one[0] != before.get(url, ("", True))[0])
        before = latest
        # A target that has gone is asked no more; one that has come is waited for.
        asked = bool(latest) and all(answered[url] >= _ROUNDS for url in latest)
        if asked and now - since > _LEAST:
            seen.attrs["changed_for"] = changed_for
            return seen
        if now - begun > timeout:
            lacks = [url for url in latest if answered[url] < _ROUNDS]
            raise NotReadyError(_why(what, timeout, now - since, lacks, latest), next_step=_step(latest))


def _asked(found: Any, jobs: Collection[str], bring: Collection[str]) -> dict[str, Target]:
    mine = [one for one in found["activeTargets"] if one["labels"].get("job") in jobs]
    asked = {one["scrapeUrl"]: one for one in mine if one["health"] != "down" or one["labels"].get("instance") in bring}
    return {url: (str(one["lastScrape"]), one["health"] == "up") for url, one in asked.items()}


def _why(what: str, timeout: float, still: float, lacks: list[str], latest: dict[str, Target]) -> str:
    said = f"waited {timeout:g} s for {what} to stand still; "
    if not latest:
        return f"{said}Prometheus has no target that brings them"
    if still > timeout / 2 and lacks:
        return (
            f"{said}of {len(latest)} proxies that it asks {len(lacks)} have not answered twice: {', '.join(lacks[:3])}"
        )
    return f"{said}seen last: they changed {still:.1f} s ago"


def _step(latest: dict[str, Target]) -> str:
    if not latest:
        return "The page Status ▸ Targets of Prometheus says whom it asks."
    return "Stop what sends requests: `traffic.stop()`, other notebooks, an open page of BookInfo that reloads itself."
