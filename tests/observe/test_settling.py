# SPDX-License-Identifier: Apache-2.0
"""Waiting for counters to stand still, with a Prometheus whose scrapes the test makes by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from labkit.ground.errors import NotReadyError
from labkit.observe import settling
from labkit.observe.settling import settled


class Proxies:
    """Two proxies that are asked in turns; time passes only where somebody waits.

    Args:
        monkeypatch: Puts the clock in place.
        counts: What the counter says after each wait; the last one stays.
        every: A proxy is asked after so many waits.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, counts: list[float], every: int = 5) -> None:
        self.now, self.waits, self.counts, self.every = 100.0, 0, counts, every
        self.down: set[str] = set()
        self.gone: set[str] = set()
        self.bring: set[str] = set()
        self.jobs = {"a": "mesh", "b": "mesh", "other": "nodes"}
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(settling, "time", clock)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1

    def look(self) -> pd.Series:
        return pd.Series({"productpage-v1": self.counts[min(self.waits, len(self.counts) - 1)]})

    def targets(self) -> Any:
        return {"activeTargets": [self.target(name, job) for name, job in self.jobs.items() if name not in self.gone]}

    def target(self, name: str, job: str) -> dict[str, Any]:
        # One is asked half a round after the other; the job of no interest, never.
        turn = 0 if job == "nodes" else (self.waits + (self.every // 2 if name == "b" else 0)) // self.every
        health = "down" if name in self.down else "up"
        return {
            "scrapeUrl": name,
            "labels": {"job": job, "instance": name},
            "lastScrape": f"turn {turn}",
            "health": health,
        }

    def settled(self, timeout: float = 60.0) -> pd.Series:
        return settled(self.look, self.targets, {"mesh"}, self.bring, "the counters", timeout)


def test_counts_stand_still_once_all_were_asked_twice(monkeypatch):
    proxies = Proxies(monkeypatch, [0.0, 0.0, 10.0, 20.0, 30.0])
    found = proxies.settled()
    assert found.to_dict() == {"productpage-v1": 30.0}
    assert found.attrs["changed_for"] == pytest.approx(0.4)
    # From the last change, at the fourth wait, each has been asked twice, and a second and a half has passed.
    assert proxies.waits == 20


def test_a_clock_as_slow_as_istios_takes_two_rounds(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0], every=150)
    assert proxies.settled().to_dict() == {"productpage-v1": 5.0}
    assert 15 < proxies.now - 100 <= 30.2


def test_who_never_answers_is_not_waited_for_and_who_has_gone_neither(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0])
    proxies.down.add("b")
    proxies.jobs["b"] = "mesh"
    assert proxies.settled().iloc[0] == 5.0
    proxies.gone.add("b")
    assert proxies.settled().iloc[0] == 5.0


def test_who_brings_counters_is_waited_for_though_a_scrape_was_missed(monkeypatch):
    # On a busy machine a scrape takes longer than it may: what has not come then comes later.
    proxies = Proxies(monkeypatch, [5.0] * 60 + [9.0])
    proxies.down.add("b")
    proxies.bring.update("ab")
    plain = proxies.target

    def target(name: str, job: str) -> dict[str, Any]:
        if proxies.waits == 60:
            proxies.down.clear()
        return plain(name, job)

    monkeypatch.setattr(proxies, "target", target)
    assert proxies.settled().iloc[0] == 9.0


def test_counts_that_grow_are_told_with_what_to_do(monkeypatch):
    proxies = Proxies(monkeypatch, [float(number) for number in range(1000)])
    with pytest.raises(NotReadyError, match=r"waited 9 s for the counters to stand still.*changed 0\.0 s ago") as error:
        proxies.settled(timeout=9)
    assert "traffic.stop()" in error.value.next_step


def test_proxies_that_nobody_asks_are_told(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0], every=10_000)
    with pytest.raises(NotReadyError, match="of 2 proxies that it asks 2 have not answered twice: a, b"):
        proxies.settled(timeout=9)
    proxies.gone.update("ab")
    with pytest.raises(NotReadyError, match="Prometheus has no target that brings them") as error:
        proxies.settled(timeout=9)
    assert "Targets" in error.value.next_step
