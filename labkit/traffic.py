# SPDX-License-Identifier: Apache-2.0
"""Requests at a steady rate beside the lesson: by threads of the kernel, until they are told to stop or end with it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from labkit import clicks, cluster, display
from labkit.cluster.target import ends_with_lesson, ends_with_target
from labkit.ground.errors import NoTargetError, NotReadyError, SettingError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Row", "Traffic", "table"]

Row: TypeAlias = tuple[float, int, float, str, str]
"""One request: when it was sent (seconds since 1970), status, seconds, version of reviews, error."""

KEPT = 20_000
"""Requests that are remembered: a quarter of an hour at 20 a second, some 5 MB."""

FASTEST = 1000.0
_OFFERED = (1, 5, 20, 50)
"""Requests a second that buttons offer."""

_CONNECTIONS = 8
_MADE_UP = 5.0
"""Seconds' worth of requests that are made up for after the page was slow; what is older is left out."""

_RECENT = 10.0
"""Seconds over which the state says what was answered."""


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Requests as a DataFrame, in the order sent: the columns of `bookinfo.load`."""
    import pandas as pd

    types = {"time": "float64", "status": "int64", "latency": "float64", "reviews": "object", "error": "object"}
    frame = pd.DataFrame(list(rows), columns=list(types)).astype(types)
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True).astype("datetime64[ns, UTC]")
    return frame.sort_values("time", ignore_index=True)


class Traffic(display.Shown):
    """Sends requests at a rate until it is stopped, and remembers the last 20 000 of them.

    It ends with the kernel, with the next `course.begin`, and when the cluster in use is another or is lost; in a
    `with` statement, with that.

    Args:
        what: What is sent, as in "GET http://…".
        send: Sends one request; called by several threads.
        close: Called once all is over.
        rate: Requests a second, above 0, at most 1000.

    Raises:
        SettingError: The rate is out of its range.
        NoTargetError: Choosing a cluster has failed.
    """

    def __init__(self, what: str, send: Callable[[], Row], close: Callable[[], None], rate: float) -> None:
        self._what, self._send, self._close = what, send, close
        self._turn, self._changed = threading.Lock(), threading.Condition()
        self._rows: deque[Row] = deque(maxlen=KEPT)
        self._sent, self._next, self._runs = 0, 0.0, 0
        self._why, self._ended = "", ""
        self._live: display.Live | None = None
        self._rate = _checked(rate)
        self.start()

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def rate(self) -> float:
        """Requests a second; what is assigned holds from the next request on."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        with self._changed:
            self._rate, self._next = _checked(rate), time.monotonic()
            self._changed.notify_all()
        self._draw()

    @property
    def running(self) -> bool:
        """Whether it sends requests."""
        return not self._why

    @property
    def seen(self) -> pd.DataFrame:
        """What was answered so far, the last 20 000: one row a request, columns as `bookinfo.load` has them."""
        return table(self._kept())

    def more(self, n: int, *, timeout: float = 600.0) -> pd.DataFrame:
        """Wait for the answers to the next n requests, from this moment on.

        Args:
            n: How many, 1 to 20 000.
            timeout: Seconds.

        Returns:
            These n, columns as `bookinfo.load` has them, in the order sent.

        Raises:
            SettingError: `n` is out of its range.
            NotReadyError: It stands still, or the page is too slow for that.
        """
        if not 1 <= n <= KEPT:
            raise SettingError(f"{n} more answers are out of range", next_step=f"From 1 to {KEPT}.")
        now, deadline = time.time(), time.monotonic() + timeout
        with self._changed:
            answered = self._sent
            while True:
                # What was under way before does not count, so it may take a few answers more.
                if self._sent - answered >= n and len(new := [row for row in self._rows if row[0] >= now]) >= n:
                    return table(new).head(n)
                left = deadline - time.monotonic()
                if self._why or left <= 0:
                    raise NotReadyError(
                        f"{n} more answers were waited for, and {self._sent - answered} came: {self._state()}",
                        next_step="`traffic.start()` goes on with what was stopped; a slow page needs more time.",
                    )
                self._changed.wait(left)

    def start(self) -> None:
        """Send requests, again if it was stopped.

        Raises:
            NoTargetError: The cluster that it was sent to is no longer in use.
        """
        cluster.require_no_refusal()
        if self._ended:
            raise NoTargetError(
                f"{self._what} was stopped: {self._ended}", next_step="Run the cell again that made the traffic."
            )
        ends_with_target(self)
        ends_with_lesson(self)
        with self._changed:
            if self._runs and not self._why:
                return
            self._why, self._next, self._runs = "", time.monotonic(), self._runs + 1
            run = self._runs
        for number in range(_CONNECTIONS):
            name = f"traffic {number + 1}: {self._what}"
            threading.Thread(target=self._work, args=(run,), name=name, daemon=True).start()
        self._draw()

    def stop(self) -> None:
        """Send no more; what was answered is still there, and `start` goes on."""
        self._stop("stopped")

    def end(self) -> None:
        """Stop for good: the cluster or the lesson that it belongs to is over."""
        self._ended = "its lesson is over, or its cluster is no longer in use"
        self._stop(self._ended)

    def rich(self) -> display.Rich:
        """Its state, and what can be done with it."""
        rows, now = self._kept(), time.time()
        said = [f"{self._state()}; {self._sent} answered or given up on so far"]
        if recent := [row for row in rows if row[0] > now - _RECENT]:
            counts = Counter(f"status {row[1]}" if row[1] else "no answer" for row in recent)
            counts += Counter(f"reviews {row[3]}" for row in recent if row[3])
            told = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
            said.append(f"the last {_RECENT:g} s: {told}")
        calls = "`.rate = 20`, `.stop()`, `.start()`; `.seen` is a table of what was answered"
        kind = "note" if self.running else "warning"
        state = display.message("\n".join(said), kind, next_step=calls)
        return display.Rich(state.html + self._buttons(), state.text)

    def clicked(self, call: str, choice: int) -> None:
        """A button of it was clicked.

        Args:
            call: "start", "stop" or "rate".
            choice: With "rate", requests a second.
        """
        if call == "rate":
            self.rate = choice
        else:
            {"start": self.start, "stop": self.stop}[call]()
        display.show(display.message(self._state(), "note"))

    def _ipython_display_(self) -> None:
        """Shown where a cell ends with it, and from then on with its state whenever that changes."""
        clicks.offer(self._name, self)
        self._live = display.show(self.rich())

    @property
    def _name(self) -> str:
        """What its buttons call it: there is one traffic for an address and its header fields."""
        return f"t-{hashlib.sha256(self._what.encode()).hexdigest()[:12]}"

    def _state(self) -> str:
        state = f"{self._rate:g} requests a second" if self.running else f"stands still ({self._why})"
        return f"{self._what}: {state}"

    def _buttons(self) -> str:
        """Nothing begins it again once it has ended for good."""
        if self._ended:
            return ""
        turned = ("stop", "Stop") if self.running else ("start", "Start")
        rates = (clicks.buttons(self._name, ("rate", f"{rate} a second"), choice=rate) for rate in _OFFERED)
        return f"<div>{clicks.buttons(self._name, turned)}{''.join(rates)}</div>"

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self.rich())

    def _kept(self) -> list[Row]:
        with self._changed:
            return list(self._rows)

    def _stop(self, why: str) -> None:
        with self._changed:
            already, self._why = self._why, self._why or why
            self._changed.notify_all()
        if not already:
            self._close()
            self._draw()

    def _work(self, run: int) -> None:
        try:
            while self._waited(run):
                row = self._send()
                with self._changed:
                    self._rows.append(row)
                    self._sent += 1
                    self._changed.notify_all()
        except Exception as error:
            # Nobody waits for this thread: the state is where it can be told.
            self._stop(repr(error))

    def _waited(self, run: int) -> bool:
        """Wait for the time of the next request, one thread at a time; False once this run is over."""
        with self._turn, self._changed:
            while run == self._runs and not self._why:
                now = time.monotonic()
                if self._next <= now:
                    # Each request has its time, however long those before took: as `load` does, within bounds.
                    self._next = max(self._next, now - _MADE_UP) + 1 / self._rate
                    return True
                self._changed.wait(self._next - now)
        return False


def _checked(rate: float) -> float:
    if not 0 < rate <= FASTEST:
        raise SettingError(
            f"a rate of {rate:g} is out of range", next_step=f"Above 0, and at most {FASTEST:g} requests a second."
        )
    return float(rate)
