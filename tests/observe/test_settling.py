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

AHEAD = 1_000_000.0
"""Seconds that Prometheus' clock shows more than ours."""


class Proxies:
    """Proxies that are asked in turns; time passes only where somebody waits.

    Args:
        monkeypatch: Puts the clock in place.
        counts: What the counter says after each wait; the last one stays.
        every: Seconds from one scrape of a proxy to the next.
        job: The job that asks them.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, counts: list[float], every: float = 0.5, job: str = "mesh"
    ) -> None:
        self.now, self.waits, self.counts, self.every, self.job = 100.0, 0, counts, every, job
        self.down: set[str] = set()
        self.gone: set[str] = set()
        self.bring: set[str] = set()
        self.asked_for_targets = 0
        # One is asked half a round after the other; the job of no interest, never again.
        self.jobs = {"a": job, "b": job, "other": "nodes"}
        monkeypatch.setattr(settling, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1

    def look(self) -> pd.Series:
        return pd.Series({"productpage-v1": self.counts[min(self.waits, len(self.counts) - 1)]})

    def scrapes(self) -> tuple[float, dict[tuple[str, str], float]]:
        asked = {(job, name): self.last(name) for name, job in self.jobs.items() if name not in self.gone | self.down}
        return AHEAD + self.now, asked

    def last(self, name: str) -> float:
        """When a proxy was asked last, on Prometheus' clock."""
        if self.jobs[name] == "nodes":
            return AHEAD
        offset = self.every / 2 if name == "b" else 0.0
        return AHEAD + (self.now - offset) // self.every * self.every + offset

    def targets(self) -> Any:
        self.asked_for_targets += 1
        return {"activeTargets": [self.target(name, job) for name, job in self.jobs.items() if name not in self.gone]}

    def target(self, name: str, job: str) -> dict[str, Any]:
        health = "down" if name in self.down else "up"
        return {"scrapeUrl": name, "labels": {"job": job, "instance": name}, "health": health}

    def settled(self, timeout: float = 60.0, held: float = 0.0) -> pd.Series:
        return settled(self.look, self.scrapes, self.targets, {self.job}, self.bring, "the counters", timeout, held)


def test_counts_stand_still_once_all_were_asked_again(monkeypatch):
    proxies = Proxies(monkeypatch, [0.0, 0.0, 10.0, 20.0, 30.0])
    found = proxies.settled()
    assert found.to_dict() == {"productpage-v1": 30.0}
    assert found.attrs["changed_for"] == pytest.approx(0.4)
    # The last change is seen at 100.4 s. A quarter of a second later is too late for the scrape of 100.5 s.
    assert proxies.last("a") == AHEAD + 101.0
    assert proxies.now == pytest.approx(101.0, abs=0.101)
    assert proxies.asked_for_targets == 1


def test_a_change_is_of_the_time_when_its_scrape_began(monkeypatch):
    proxies = Proxies(monkeypatch, [0.0, 0.0, 0.0, 10.0], every=0.6)
    assert proxies.settled().to_dict() == {"productpage-v1": 10.0}
    # It came with the scrape of a at 100.2 s, and is seen at 100.3 s. That of b at 100.5 s is late enough.
    assert (proxies.last("a"), proxies.last("b")) == pytest.approx((AHEAD + 100.8, AHEAD + 100.5))
    assert proxies.now == pytest.approx(100.85, abs=0.051)


def test_counts_may_change_before_any_proxy_has_answered(monkeypatch):
    """As in a mesh that has just come, or whose proxies are too busy to answer in time."""
    proxies = Proxies(monkeypatch, [0.0, 10.0])
    proxies.down = {"a", "b"}

    def look() -> pd.Series:
        if proxies.waits == 3:
            proxies.down = set()
        return Proxies.look(proxies)

    monkeypatch.setattr(proxies, "look", look)
    assert proxies.settled().to_dict() == {"productpage-v1": 10.0}
    assert min(proxies.last("a"), proxies.last("b")) > AHEAD + 100.25


def test_a_change_that_comes_between_the_two_questions_is_waited_for_once_more(monkeypatch):
    proxies = Proxies(monkeypatch, [0.0], every=0.6)
    asked = 0

    def look() -> pd.Series:
        nonlocal asked
        asked += 1
        # The scrape of a at 100.8 s has come since Prometheus was asked which there were.
        if asked == 6:
            proxies.now = 100.85
            proxies.counts = [10.0]
        return pd.Series({"productpage-v1": proxies.counts[0]})

    monkeypatch.setattr(proxies, "look", look)
    assert proxies.settled().to_dict() == {"productpage-v1": 10.0}
    assert proxies.last("a") == pytest.approx(AHEAD + 101.4)


def test_a_change_that_comes_with_the_last_scrape_is_waited_for_again(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0] * 8 + [6.0])
    assert proxies.settled().to_dict() == {"productpage-v1": 6.0}
    assert proxies.now > 100.8 + 0.25


def test_mixer_hears_of_an_answer_a_second_later(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0], job=settling.MIXER)
    assert proxies.settled().to_dict() == {"productpage-v1": 5.0}
    assert proxies.now > 101.5


def test_what_is_kept_back_is_waited_for(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0])
    proxies.settled(held=3.0)
    assert proxies.now == pytest.approx(103.75, abs=0.101)


def test_a_clock_as_slow_as_istios_takes_a_round(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0], every=15.0)
    assert proxies.settled().to_dict() == {"productpage-v1": 5.0}
    assert 7.5 < proxies.now - 100 <= 15.4


def test_who_never_answers_is_not_waited_for_and_who_has_gone_neither(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0])
    proxies.down.add("b")
    assert proxies.settled().iloc[0] == 5.0
    proxies.gone.add("b")
    assert proxies.settled().iloc[0] == 5.0


def test_who_has_come_is_waited_for(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0] * 30 + [9.0])
    plain = proxies.scrapes

    def scrapes() -> tuple[float, dict[tuple[str, str], float]]:
        now, asked = plain()
        # Prometheus knows of it, and has asked it for the first time three seconds later.
        return now, {place: at for place, at in asked.items() if place[1] != "b" or proxies.waits >= 30}

    monkeypatch.setattr(proxies, "scrapes", scrapes)
    assert proxies.settled().iloc[0] == 9.0


def test_who_brings_counters_is_waited_for_though_a_scrape_was_missed(monkeypatch):
    # On a busy machine a scrape takes longer than it may: what has not come then comes later.
    proxies = Proxies(monkeypatch, [5.0] * 60 + [9.0])
    proxies.down.add("b")
    proxies.bring.update("ab")
    plain = proxies.scrapes

    def scrapes() -> tuple[float, dict[tuple[str, str], float]]:
        if proxies.waits == 60:
            proxies.down.clear()
        return plain()

    monkeypatch.setattr(proxies, "scrapes", scrapes)
    assert proxies.settled().iloc[0] == 9.0


def test_a_change_is_of_its_scrape_though_the_next_one_was_missed(monkeypatch):
    """Prometheus tells of no scrape then, and all have answered since the change before."""
    proxies = Proxies(monkeypatch, [5.0] * 8 + [10.0] * 12 + [20.0])
    proxies.bring.update("ab")

    def look() -> pd.Series:
        # Both are missed as soon as the first change has come, until the second one does.
        proxies.down = set("ab") if 8 <= proxies.waits < 20 else set()
        return Proxies.look(proxies)

    monkeypatch.setattr(proxies, "look", look)
    assert proxies.settled().iloc[0] == 20.0


def test_scrapes_that_take_too_long_in_turns_are_no_hindrance(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0])
    proxies.bring.update("ab")
    plain = proxies.scrapes

    def scrapes() -> tuple[float, dict[tuple[str, str], float]]:
        # Never have both answered when they were asked last.
        proxies.down = {"ab"[int(proxies.now) % 2]}
        return plain()

    monkeypatch.setattr(proxies, "scrapes", scrapes)
    assert proxies.settled().iloc[0] == 5.0
    assert proxies.now < 103.0


def test_counts_that_grow_are_told_with_what_to_do(monkeypatch):
    proxies = Proxies(monkeypatch, [float(number) for number in range(1000)])
    with pytest.raises(NotReadyError, match=r"waited 9 s for the counters to stand still.*changed 0\.0 s ago") as error:
        proxies.settled(timeout=9)
    assert "traffic.stop()" in error.value.next_step


def test_proxies_that_nobody_asks_are_told(monkeypatch):
    proxies = Proxies(monkeypatch, [5.0], every=10_000)
    with pytest.raises(NotReadyError, match="of 2 proxies that it asks 2 have not answered since: a, b"):
        proxies.settled(timeout=9)
    proxies.gone.update("ab")
    with pytest.raises(NotReadyError, match="Prometheus has no target that brings them") as error:
        proxies.settled(timeout=9)
    assert "Targets" in error.value.next_step
