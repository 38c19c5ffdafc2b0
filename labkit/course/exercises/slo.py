# SPDX-License-Identifier: Apache-2.0
"""An objective for a service, kept or missed: visitors come all the while, the mesh counts, and a budget is used up.

Counted is what productpage's sidecar asks of `reviews`, from when it begins to its end: the caller knows of answers
that never came, and of how long each one took.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labkit import bookinfo, cluster, display, istio
from labkit.course.exercise import of_lesson
from labkit.course.exercises.counters import prometheus
from labkit.ground.errors import CheckError, NotReadyError

if TYPE_CHECKING:
    import pandas as pd

    from labkit.course.lesson import Lesson

__all__ = ["OBJECTIVES", "Exam", "Objective", "Result", "Spent", "begin", "running"]

LIMIT = 1.0
"""Seconds: an answer that takes longer is late. Both releases' histograms have a bound there."""

LEAST = 200
"""Calls to be counted at least: an objective over a handful says nothing."""

_CALLS = (
    'reporter="source", source_workload="productpage-v1", source_workload_namespace="bookinfo", '
    'destination_service_name="reviews"'
)
_BEFORE = 60
"""Seconds that the first look goes back: a series that is missing at one scrape is still known."""


@dataclass(frozen=True)
class Objective:
    """What is promised of the answers.

    Args:
        name: In one word.
        bad: What an answer is that does not keep it, as in "5 answers were …".
        allowed: The share of answers that may be so, above 0, below 1: the error budget.
    """

    name: str
    bad: str
    allowed: float


OBJECTIVES = (
    Objective("failed", "not answered with 200", 0.01),
    Objective("late", f"later than {LIMIT:g} s", 0.05),
)


@dataclass(frozen=True)
class Spent:
    """How much of a budget is used up.

    Args:
        objective: Whose.
        counted: Answers.
        bad: How many of them did not keep it.
    """

    objective: Objective
    counted: int
    bad: int

    @property
    def share(self) -> float:
        """Of the answers, 0 to 1."""
        return self.bad / self.counted if self.counted else 0.0

    @property
    def used(self) -> float:
        """Of the budget: 1 is all of it."""
        return self.share / self.objective.allowed

    @property
    def words(self) -> str:
        """In a sentence, and by how much it was missed where it was."""
        most = int(self.objective.allowed * self.counted)
        told = f"{self.bad} of {self.counted} {self.objective.bad} ({self.share:.1%}); {most} are allowed"
        return f"{told}: {self.bad - most} too many, {self.used:.1f} times the budget" if self.used > 1 else told


def _table(spent: tuple[Spent, ...]) -> display.Rich:
    rows = [
        {
            "": display.SYMBOLS["good" if one.used <= 1 else "bad"],
            "Objective": f"at most {one.objective.allowed:.0%} {one.objective.bad}",
            "Counted": f"{one.bad} of {one.counted}",
            "Share": f"{one.share:.2%}",
            "Budget used": f"{one.used:.0%}",
        }
        for one in spent
    ]
    return display.table(rows, ["", "Objective", "Counted", "Share", "Budget used"])


@dataclass(frozen=True)
class Result(display.Shown):
    """What came of an exam.

    Args:
        release: Istio's.
        begun: When, UTC.
        ended: When, UTC.
        spent: Of each objective.
        p95: Seconds within which 95 of 100 calls were answered, as a histogram tells it.
        tasks: The tasks' titles, and whether each was solved meanwhile.
    """

    release: str
    begun: datetime
    ended: datetime
    spent: tuple[Spent, ...]
    p95: float
    tasks: tuple[tuple[str, bool], ...]

    @property
    def calls(self) -> int:
        """How many were counted."""
        return min(one.counted for one in self.spent)

    @property
    def lacks(self) -> tuple[str, ...]:
        """Why it is not passed, a sentence each; () where it is."""
        few = [f"only {self.calls} calls were counted, {LEAST} at least are to be"] if self.calls < LEAST else []
        missed = [one.words for one in self.spent if one.used > 1]
        open_ = [f"not solved: {title}" for title, solved in self.tasks if not solved]
        return (*few, *missed, *open_)

    def rich(self) -> display.Rich:
        """As a table, and what is missing."""
        done = f"{sum(solved for _, solved in self.tasks)} of {len(self.tasks)} tasks solved"
        said = f"{done}; {self.calls} calls counted in {(self.ended - self.begun).total_seconds():.0f} s; "
        said += f"95 of 100 answered within {self.p95 * 1000:.0f} ms"
        lines = "\n".join((said, *self.lacks))
        return _table(self.spent) + display.message(lines, "bad" if self.lacks else "good")

    def require(self) -> Result:
        """Go on only if it is passed.

        Raises:
            CheckError: It is not; says by how much.
        """
        if self.lacks:
            raise CheckError(
                "\n".join(f"not passed: {one}" for one in self.lacks),
                next_step="What was lost counts. The cell that begins the exam begins it anew.",
            )
        return self


class Exam(display.Shown):
    """Visitors, and what the mesh counts of them; made by `begin`.

    Args:
        lesson: The lesson that is played.
        rate: Pages a second, above 0.
    """

    def __init__(self, lesson: Lesson, rate: float) -> None:
        self.lesson = lesson
        self._prometheus = prometheus(lesson.release)
        self._duration = lesson.release.facts.duration
        self._settle()
        self._since = time.monotonic()
        self._base = self._read(_BEFORE)
        self.begun = datetime.now(UTC).replace(microsecond=0)
        self.traffic = bookinfo.traffic(istio.ingress(show=False).url, rate)

    def rich(self) -> display.Rich:
        """The visitors, and the budget so far."""
        return self.traffic.rich() + _table(self.spent())

    def visitors(self, n: int) -> pd.DataFrame:
        """The next n answers to visitors who come from now on, as `bookinfo.load` has them; fewer where none come.

        Args:
            n: At least 1.
        """
        import pandas as pd

        now = pd.Timestamp.now("UTC")
        with contextlib.suppress(NotReadyError):
            # Many times what it should take: a page may be slow, and so may the machine.
            self.traffic.more(n, timeout=60 + 10 * n / self.traffic.rate)
        seen = self.traffic.seen
        return seen[seen["time"] > now].head(n)

    def versions(self) -> pd.DataFrame:
        """What the mesh has counted since the beginning, as far as Prometheus has asked for it.

        Returns:
            One row a version of reviews (index "version": "v1", "v2", "v3"; "unknown" where none was reached). Columns
            (int64): calls; failed, not answered with 200; late, slower than a second.
        """
        import pandas as pd

        rows: dict[str, dict[str, int]] = {}
        for what, of, gained in self._gained():
            row = rows.setdefault(of.get("destination_version", "unknown"), {"calls": 0, "failed": 0, "late": 0})
            if what == "calls":
                row["calls"] += gained
                row["failed"] += gained if of.get("response_code") != "200" else 0
            else:
                # All of the histogram's, without those within the limit.
                row["late"] += {math.inf: gained, LIMIT: -gained}.get(self._bound(of), 0)
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["calls", "failed", "late"])
        frame = frame[frame["calls"] > 0].astype("int64").sort_index()
        frame["late"] = frame["late"].clip(0, frame["calls"])
        frame.index = frame.index.astype("str").rename("version")
        return frame

    def spent(self) -> tuple[Spent, ...]:
        """Of each objective, what is used up so far."""
        counts = self.versions().sum()
        return tuple(Spent(one, int(counts["calls"]), int(counts[one.name])) for one in OBJECTIVES)

    def end(self) -> Result:
        """Have no more visitors come, wait until all is counted, and say what came of it.

        Raises:
            NotReadyError: The counters do not stand still: somebody else sends requests as well.
        """
        self.traffic.stop()
        self._settle()
        solved = self.lesson.progress.exercises.get(self.lesson.name, {})
        since = self.begun.isoformat(timespec="seconds")
        tasks = tuple((one.title, solved.get(one.name, "") >= since) for one in of_lesson(self.lesson.name))
        now = datetime.now(UTC).replace(microsecond=0)
        return Result(self.lesson.release.version, self.begun, now, self.spent(), self._quantile(0.95), tasks)

    def _settle(self) -> None:
        # Histograms may be told later than counters.
        self._prometheus.settled(f"sum(max_over_time({self._duration}_count{{{_CALLS}}}[1m])) or vector(0)")

    def _bound(self, labels: Mapping[str, str]) -> float:
        """The upper bound of a histogram's bucket, in seconds."""
        return float(labels["le"]) / (1000 if self._duration.endswith("milliseconds") else 1)

    def _quantile(self, share: float) -> float:
        """Seconds within which this share of the calls was answered: between two bounds in a straight line."""
        within: Counter[float] = Counter()
        for what, labels, gained in self._gained():
            if what == "within":
                within[self._bound(labels)] += gained
        wanted, low, below = share * within[math.inf], 0.0, 0
        for bound, count in sorted(within.items()):
            if count >= wanted > below and bound < math.inf:
                return low + (bound - low) * (wanted - below) / (count - below)
            if bound < math.inf:
                low, below = bound, count
        # Slower than the last bound there is, or nothing was counted.
        return low if within[math.inf] else 0.0

    def _gained(self) -> Iterator[tuple[str, dict[str, str], int]]:
        """What was counted since the beginning: "calls" or "within", the labels, and how many."""
        for (what, labels), value in self._read(int(time.monotonic() - self._since) + _BEFORE // 2).items():
            yield what, dict(labels), round(max(0.0, value - self._base.get((what, labels), 0.0)))

    def _read(self, window: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Each series of the counters at its height in the last `window` seconds: a pod that ends takes none away."""
        asked = {
            "calls": f"istio_requests_total{{{_CALLS}}}",
            "within": f"{self._duration}_bucket{{{_CALLS}}}",
        }
        found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        # All at the same moment, on Prometheus' own clock.
        ((_, ((now, _),)),) = self._prometheus.instant("time()")
        for what, selected in asked.items():
            for labels, points in self._prometheus.instant(f"max_over_time({selected}[{window}s])", now):
                found[what, frozenset(labels.items())] = points[-1][1]
        return found


_exams: list[Exam] = []
"""The one that has begun last, if any."""


def begin(lesson: Lesson, rate: float, *start: str) -> Exam:
    """Begin: bring the rules, wait until they hold, and have visitors come. An exam before it in this lesson is over.

    Args:
        lesson: The lesson that is played.
        rate: Pages a second, above 0, at most 1000.
        start: The rules beyond the course's base, as for `lesson.rules`; with them version 2 answers everybody.

    Raises:
        ClusterError: The cluster refused something, or Prometheus does not answer.
        NotReadyError: The rules do not come to hold, or somebody else sends requests as well.
    """
    while _exams:
        _exams.pop().traffic.stop()
    lesson.rules(*start)
    url = istio.ingress(show=False).url

    def others() -> str | None:
        pages = bookinfo.load(url, 30, rate=200)
        return None if set(pages["reviews"]) == {"v2"} else f"reviews {', '.join(sorted(set(pages['reviews'])))}"

    cluster.wait_for(cluster.Condition("version 2 to answer everybody", others), timeout=60)
    exam = Exam(lesson, rate)
    _exams.append(exam)
    return exam


def running(lesson: Lesson) -> Exam | None:
    """The exam of this lesson; None where none has begun in this kernel."""
    return next((one for one in _exams if one.lesson is lesson), None)
