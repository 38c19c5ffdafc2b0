# SPDX-License-Identifier: Apache-2.0
"""Counts that have arrived: how often Prometheus has looked tells it, not the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from labkit import cluster
from labkit.observe.prometheus import Prometheus
from labkit.observe.settling import MIXER
from tests.conftest import wait_until

__all__ = ["settled"]

T = TypeVar("T")

ROUNDS = 4
"""Scrapes of every target without a change."""
SECONDS = 3.0
"""Long enough for what is counted after its answer was sent."""


def settled(prometheus: Prometheus, look: Callable[[], T], whole: Callable[[T], bool]) -> T:
    """What `look` finds once it is `whole` and has stood still while each proxy was asked again and again.

    On a busy machine the next scrape may be seconds away, so that counts which stand still prove nothing by themselves.
    """
    wait_until(lambda: _found(prometheus), what="all proxies of BookInfo to be found by Prometheus")
    since, rounds, seen = time.monotonic(), 0, look()
    asked = _asked(prometheus)

    def still() -> bool:
        nonlocal since, rounds, seen, asked
        now = look()
        if now != seen or not whole(now):
            since, rounds, seen, asked = time.monotonic(), 0, now, _asked(prometheus)
            return False
        latest = _asked(prometheus)
        if all(latest.get(url, ("", True)) != when and latest.get(url, ("", True))[1] for url, when in asked.items()):
            rounds, asked = rounds + 1, latest
        return rounds >= ROUNDS and time.monotonic() - since > SECONDS

    wait_until(still, 120, "counts that stand still")
    return seen


def _found(prometheus: Prometheus) -> bool:
    """Whether each of BookInfo's proxies is a target: Prometheus takes up new ones every five seconds at most.

    In Istio 1.2 Mixer has all counts.
    """
    targets = prometheus.get("targets", [("state", "active")])["activeTargets"]
    if any(one["labels"]["job"] == MIXER for one in targets):
        return True
    pods = cluster.get("pods", namespace="bookinfo")
    hosts = {urlsplit(one["scrapeUrl"]).hostname for one in targets if one["scrapeInterval"] == "500ms"}
    return {pod["status"].get("podIP") for pod in pods} <= hosts


def _asked(prometheus: Prometheus) -> dict[str, tuple[str, bool]]:
    """When each target was asked last that is asked all the time, and whether it answered."""
    found = prometheus.get("targets", [("state", "active")])["activeTargets"]
    often = [one for one in found if one["scrapeInterval"] == "500ms"]
    return {one["scrapeUrl"]: (one["lastScrape"], one["health"] == "up") for one in often}
