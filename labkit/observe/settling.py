# SPDX-License-Identifier: Apache-2.0
"""Counts that have arrived: when Prometheus began to ask each proxy tells it, and not how much time has passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from labkit.ground.errors import NotReadyError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MIXER", "settled"]

MIXER = "istio-mesh"
"""The job that asks Mixer, which has the mesh's counters in Istio 1.2."""

_LATE = {MIXER: 1.5}
"""Seconds after an answer in which it may not be counted yet, by job: sidecars report to Mixer once a second."""

_AT_ONCE = 0.25
"""The same of a proxy that counts by itself: it does so when the answer goes out, or a copy's, which comes later."""

_PAUSE = 0.1

Place = tuple[str, str]
"""A target: its job, and its instance."""


def settled(
    look: Callable[[], pd.Series],
    scrapes: Callable[[], tuple[float, Mapping[Place, float]]],
    targets: Callable[[], Any],
    jobs: Collection[str],
    bring: Collection[str],
    what: str,
    timeout: float,
    held: float = 0.0,
) -> pd.Series:
    """What `look` finds once each target of `jobs` was asked again since, and nothing has changed by that.

    Which scrapes are in the answers is read from Prometheus' samples: its page of targets tells of a scrape a moment
    before the scrape's samples can be had.

    Args:
        look: The counters, by their labels.
        scrapes: Prometheus' time (seconds since 1970), and when the last scrape of each target began whose samples it
            has; none for a target that did not answer then.
        targets: What Prometheus says of its targets: `/api/v1/targets`.
        jobs: The jobs that bring the counters.
        bring: Instances that are known to bring some: they are waited for though they do not answer now. Others that
            do not answer may be pods that have no such page.
        what: What is waited for, in an error's words.
        timeout: Seconds.
        held: Seconds for which a proxy keeps back what it has counted, 0 or more.

    Returns:
        What was found; `attrs["changed_for"]` is the time in seconds after which it changed no more.

    Raises:
        NotReadyError: It does not stand still within `timeout`.
    """
    late = held + max((_LATE.get(job, _AT_ONCE) for job in jobs), default=_AT_ONCE)
    begun = since = time.monotonic()
    # What was answered by then, on Prometheus' clock, is in the counters once all were asked a little after that.
    moment, seen, changed_for = scrapes()[0], look(), 0.0
    # On a busy machine many a scrape takes longer than it may: each has to answer once, not all at a time.
    answered: dict[Place, float] = {}
    while True:
        time.sleep(_PAUSE)
        (_, lately), found, now = scrapes(), look(), time.monotonic()
        answered.update(lately)
        if not found.equals(seen):
            seen, since, changed_for = found, now, now - begun
            # What a scrape brings is of the time when it began, however much later it is looked at. It may have come
            # between the two questions, so they are asked the other way round; and the next may have failed since.
            answered.update(scrapes()[1])
            moment = max((moment, *(began for place, began in answered.items() if place[0] in jobs)))
        elif all(answered[place] > moment + late for place in lately if place[0] in jobs):
            # A target that has gone is asked no more; one that has come is waited for.
            there = _there(targets(), jobs, bring)
            if there and all(answered.get(place, 0.0) > moment + late for place in there.values()):
                seen.attrs["changed_for"] = changed_for
                return seen
        if now - begun > timeout:
            there = _there(targets(), jobs, bring)
            lacks = [url for url, place in there.items() if answered.get(place, 0.0) <= moment + late]
            raise NotReadyError(_why(what, timeout, now - since, lacks, len(there)), next_step=_step(len(there)))


def _there(found: Any, jobs: Collection[str], bring: Collection[str]) -> dict[str, Place]:
    """Who is waited for, by the addresses that are asked."""
    mine = [one for one in found["activeTargets"] if one["labels"].get("job") in jobs]
    return {
        one["scrapeUrl"]: (one["labels"]["job"], one["labels"].get("instance", ""))
        for one in mine
        if one["health"] != "down" or one["labels"].get("instance") in bring
    }


def _why(what: str, timeout: float, still: float, lacks: list[str], there: int) -> str:
    said = f"waited {timeout:g} s for {what} to stand still; "
    if not there:
        return f"{said}Prometheus has no target that brings them"
    if still > timeout / 2 and lacks:
        return f"{said}of {there} proxies that it asks {len(lacks)} have not answered since: {', '.join(lacks[:3])}"
    return f"{said}seen last: they changed {still:.1f} s ago"


def _step(there: int) -> str:
    if not there:
        return "The page Status ▸ Targets of Prometheus says whom it asks."
    return "Stop what sends requests: `traffic.stop()`, other notebooks, an open page of BookInfo that reloads itself."
