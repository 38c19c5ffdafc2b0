# SPDX-License-Identifier: Apache-2.0
"""When Prometheus scrapes: all the time while somebody asks it or sends requests through the mesh, else now and then.

Two scrapes a second of each proxy cost more than all else in a mesh that nobody uses. Prometheus itself cannot change
its pace: with another interval it ends each series and begins it anew, and takes up to ten seconds for that. So it is
stopped, and its configuration, its targets and its page stay what they are. It goes on

- for one round of all its targets every `ROUND` seconds, so that no series ends;
- for good as soon as somebody asks, a proxy has counted a request, or a pod has come or gone.

Who asks then is answered after new scrapes: figures are never older than they would be had it run all the time. The
first round after a pause shows the pages from before what ended it, so that a burst of requests is an increase between
two neighbouring samples also where windows are short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from meshbox.images.prometheus.program import Scraped

__all__ = ["LOOK", "PATIENCE", "ROUND", "Pace"]

PATIENCE = 30.0
"""Seconds without a question and without a request after which Prometheus is stopped."""

ROUND = 15.0
"""Seconds from one round to the next then: Istio's own interval."""

LOOK = 2.0
"""Seconds from one look at the proxies to the next then."""

_QUICK = 1.0
"""Seconds: targets that are scraped more often bring the mesh's figures."""

_WAIT = 5.0
"""Seconds that a round may take. A target that does not answer has been scraped, too, after its timeout."""

_MARGIN = 0.015
"""Seconds for which no scrape of a proxy may be due or under way when Prometheus is stopped.

It would fail; and be made again at once when Prometheus goes on, as the next one is overdue by then.
"""

_SOON, _UNDER_WAY = 0.02, 0.06
"""The same of other targets, which it does not ask through its door: before one is due, and after."""

_SECONDS = 3.0
"""How long such a moment is waited for. There is none among many targets, so less and less is asked of it."""


class _Program(Protocol):
    def stop(self) -> None: ...
    def go_on(self) -> None: ...
    def scraped(self) -> list[Scraped]: ...


class _Scrapes(Protocol):
    earlier: bool

    def peek(self) -> bool: ...
    def quiet(self, seconds: float, every: float) -> bool: ...
    def begun(self) -> float: ...


class Pace:
    """Stops one Prometheus and has it go on.

    Args:
        program: The Prometheus.
        scrapes: Its way to the proxies.
        objects: What changes whenever there is something else to scrape.
        every: Seconds between two scrapes of a proxy.
    """

    def __init__(self, program: _Program, scrapes: _Scrapes, objects: Callable[[], object], every: float = 0.5) -> None:
        self._program, self._scrapes, self._objects, self._every = program, scrapes, objects, every
        self._turn = threading.Lock()
        self._using_lock = threading.Lock()
        self._using = 0
        self._stopped = self._ended = False
        self.resting = False
        """Whether Prometheus runs for its rounds only."""
        self._last = self._rounded = time.monotonic()
        self._known = objects()
        self._beats: dict[str, tuple[float, float]] = {}

    def touch(self) -> None:
        """Somebody does something with the mesh."""
        self._last = time.monotonic()

    @contextmanager
    def using(self) -> Iterator[None]:
        """While Prometheus is asked something, it runs."""
        with self._using_lock:
            self._using += 1
            self._go_on()
        try:
            yield
        finally:
            with self._using_lock:
                self._using -= 1

    def fresh(self) -> None:
        """Before a question is handed on: it is answered with figures as new as if Prometheus had run all the time."""
        self.touch()
        if self.resting:
            # Where it does not answer, whoever asks is told so by the question itself.
            with self._turn, suppress(OSError):
                self._wake()

    def end(self) -> None:
        """Have it go on for good, so that it can end."""
        with self._using_lock:
            self._ended = True
            self._go_on()

    def run(self) -> None:
        """Look after it, for ever."""
        while not self._ended:
            time.sleep(LOOK)
            try:
                self.step()
            except OSError:
                # It does not answer: it begins or ends, or reads its storage back.
                self.touch()

    def step(self) -> None:
        """Do what is due now.

        Raises:
            OSError: Prometheus does not answer.
        """
        objects = self._objects()
        if objects != self._known:
            self._known = objects
            self.touch()
        with self._turn:
            if self.resting and self._scrapes.peek():
                self.touch()
            if self.resting and not self._idle():
                self._wake()
            elif self.resting and time.monotonic() - self._rounded > ROUND:
                self._scraped_since(self._woken(), all_of_them=True)
                self._rounded = time.monotonic()
                self.resting = self._stop()
            elif self._idle() and not self.resting:
                self._rounded = time.monotonic()
                self.resting = self._stop()

    def _wake(self) -> None:
        """Two rounds of the proxies; the first as of before. Nobody else has the turn."""
        if not self.resting:
            return
        try:
            self._scrapes.earlier = True
            self._scraped_since(self._woken())
            self._scrapes.earlier = False
            self._scraped_since(time.time())
        finally:
            self._scrapes.earlier = self.resting = False

    def _woken(self) -> float:
        """Have it go on; the time right before, as what is overdue by then is scraped in that very moment."""
        before = time.time()
        with self._using_lock:
            self._go_on()
        return before

    def _scraped_since(self, began: float, all_of_them: bool = False) -> None:
        """Wait until each target that is scraped often, or each, was scraped after `began`.

        One that has not answered is given a second time: what was missed would be missing until the next round.
        """
        deadline = time.monotonic() + _WAIT
        while time.monotonic() < deadline:
            found = [one for one in self._program.scraped() if all_of_them or one.every < _QUICK]
            again = [one.every if one.every < _QUICK and not one.answered else 0.0 for one in found]
            if all(one.last >= began + more for one, more in zip(found, again, strict=True) if one.last):
                return
            time.sleep(0.02)

    def _stop(self) -> bool:
        """Stop it when nothing is under way; whether it stands. Who asks in the meantime is not kept waiting."""
        slow = [one for one in self._program.scraped() if one.every >= _QUICK]
        # Its tickers keep their beat while it is stopped. What was overdue when it went on was off the beat.
        beats = self._beats if self.resting else {}
        self._beats = {one.url: beats.get(one.url, (one.last, one.every)) for one in slow}
        began = time.monotonic()
        while self._idle() and (gone := time.monotonic() - began) < _SECONDS:
            if self._quiet(1 - gone / _SECONDS) and self._stands():
                return True
            time.sleep(_MARGIN / 5)
        return False

    def _quiet(self, share: float) -> bool:
        """Whether no scrape is under way or near, for that share of the times above."""
        now = time.time()
        phases = (((now - last) % every, every) for last, every in self._beats.values())
        others = all(phase > share * _UNDER_WAY and every - phase > share * _SOON for phase, every in phases)
        return others and self._scrapes.quiet(share * _MARGIN, self._every)

    def _stands(self) -> bool:
        """Stop it; whether nobody was asking, and no scrape had just begun."""
        with self._using_lock:
            if self._using or self._ended:
                return False
            at = time.monotonic()
            self._program.stop()
            self._stopped = True
        # What it had sent by then arrives.
        time.sleep(2 * _MARGIN)
        if self._scrapes.begun() < at - _MARGIN:
            return True
        with self._using_lock:
            self._go_on()
        return False

    def _idle(self) -> bool:
        return time.monotonic() - self._last > PATIENCE

    def _go_on(self) -> None:
        """Nobody stops it meanwhile: the caller holds the lock."""
        if self._stopped:
            self._stopped = False
            self._program.go_on()
