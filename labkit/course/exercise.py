# SPDX-License-Identifier: Apache-2.0
"""An exercise: how one is defined, and how it is played in a lesson (its task, hints, what is judged, the way back).

Definitions are in `labkit.course.exercises`, a module a lesson, and are loaded by its name: they know lessons and what
those call, and nothing here knows them.
"""

from __future__ import annotations

import functools
import html
import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from labkit import clicks, display, istio
from labkit.course.checks import Check, Checklist
from labkit.course.progress import Progress
from labkit.ground import config
from labkit.ground.errors import CheckError, LabError, NoTargetError
from labkit.ground.language import translated

__all__ = ["PATIENCE", "Exercise", "Played", "Playing", "of_lesson", "only"]

PATIENCE = 5.0
"""Seconds after which the last look at a solution begins: a rule needs a moment to reach every proxy."""

_REST = 0.2
"""Seconds between two looks."""


@dataclass(frozen=True)
class Exercise:
    """A task, and how it is judged.

    Args:
        name: Its name in its lesson, in kebab-case.
        title: What it is about, a few words.
        task: What is wanted: paragraphs, lists that begin with "- ", `code` and **what matters**.
        hints: The first says which way to look, the second is nearly there.
        judge: Gets the `Lesson`, yields a `Check` for each thing that is wanted. It looks at what the mesh does, so
            that any right solution passes, and raises for nothing that a learner may have done. It is asked again
            until all is so, so that nothing may pass by chance.
        start: What there is at first beyond the course's base rules: paths below the release's folder, or YAML; by
            release where that differs.
        brings: What is applied over what there is where it goes on from another exercise of its lesson: what a learner
            has made there stays. None for one that always begins with its start.
        releases: The Istio releases that have what it is about.
    """

    name: str
    title: str
    task: str
    hints: tuple[str, ...]
    judge: Callable[[Any], Iterable[Check]]
    start: tuple[str, ...] | Mapping[str, tuple[str, ...]] = ()
    brings: tuple[str, ...] | None = None
    releases: tuple[str, ...] = config.RELEASES

    def begins(self, release: str) -> tuple[str, ...]:
        """What there is at first on a release of Istio."""
        return self.start[release] if isinstance(self.start, Mapping) else self.start


class Playing(Protocol):
    """The lesson that an exercise is played in."""

    name: str
    release: istio.Release
    progress: Progress

    def start(self, played: Played) -> None:
        """Bring what an exercise begins with."""


@functools.cache
def of_lesson(lesson: str) -> tuple[Exercise, ...]:
    """The exercises of lesson "08-routing", which are in `labkit.course.exercises.routing`; () where it has none."""
    module = f"labkit.course.exercises.{lesson.partition('-')[2].replace('-', '_')}"
    try:
        found: tuple[Exercise, ...] = importlib.import_module(module).EXERCISES
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return ()
    return found


def only(lesson: str, name: str) -> Exercise:
    """The exercise of that name.

    Raises:
        CheckError: The lesson has none.
    """
    known = {one.name: one for one in of_lesson(lesson)}
    if name not in known:
        raise CheckError(
            f"{lesson} has no exercise {name!r}", next_step=f"It has: {', '.join(known) or 'none at all'}."
        )
    return known[name]


class Played(display.Shown):
    """An exercise in a lesson that is being played; made by `lesson.exercise`.

    Args:
        exercise: Its definition.
        lesson: The lesson.
    """

    def __init__(self, exercise: Exercise, lesson: Playing) -> None:
        self.exercise = exercise
        self._lesson = lesson
        self._hinted = 0

    @property
    def offered(self) -> bool:
        """Whether the release that is played has what it is about."""
        return self._lesson.release.version in self.exercise.releases

    def rich(self) -> display.Rich:
        """Its task, and what can be asked of it."""
        one = self.exercise
        if not self.offered:
            return self._elsewhere()
        done = self._lesson.progress.exercises.get(self._lesson.name, {}).get(one.name, "")
        sign = display.SYMBOLS["good"] if done else "○"
        asked = clicks.buttons(one.name, ("check", "Check"), ("hint", "Hint"), ("reset", "Reset"))
        calls = "`exercise.check()` looks whether it is so, `exercise.hint()` helps, `exercise.reset()` begins anew."
        title = translated(one.title)
        head = f"<div><b>{display.symbol(sign)} {html.escape(title)}</b></div>"
        task = display.words(one.task)
        said = display.words(calls)
        return display.box(
            display.Rich(head, f"{sign} {title}") + task + display.Rich(asked, "") + said, "command", "labkit-exercise"
        )

    def look(self) -> Checklist:
        """Judge it once, as it is at this moment.

        Raises:
            NoTargetError: No cluster is in use.
        """
        seen: list[Check] = []
        try:
            seen.extend(self.exercise.judge(self._lesson))
        except NoTargetError:
            raise
        except LabError as error:
            # A cluster that does not answer is no more a traceback here than elsewhere.
            seen.append(Check("it can be judged", False, error.message, error.next_step))
        return Checklist(seen)

    def findings(self) -> Checklist:
        """Judge it: look again for some seconds until all is so, and give the last look.

        Raises:
            NoTargetError: No cluster is in use.
        """
        begun = time.monotonic()
        while True:
            looked = time.monotonic()
            seen = self.look()
            if _solved(seen):
                self._lesson.progress.solved(self._lesson.name, self.exercise.name)
                return seen
            # The last look begins when a rule has had all its time, however long looking takes here.
            if looked - begun >= PATIENCE:
                return seen
            time.sleep(_REST)

    def check(self) -> None:
        """Judge it, and show what was found.

        Raises:
            CheckError: Not all is so; a click on Check shows the same and raises nothing.
        """
        if not self.offered:
            display.show(self._elsewhere())
            return
        seen = self.findings()
        display.show(_verdict(seen))
        failed = [one for one in seen if one.needed and not one.passed]
        if failed or not len(seen):
            words = "\n".join(one.complaint for one in failed)
            step = failed[0].next_step if failed else ""
            raise CheckError(words or "nothing was found", next_step=step or "`exercise.hint()` helps.")

    def hint(self) -> None:
        """Show the next hint; after the last one the last."""
        display.show(self._hint() if self.offered else self._elsewhere())

    def reset(self) -> None:
        """Bring back what there was before anything was tried, and begin with the first hint again.

        Raises:
            ClusterError: The cluster refused something.
        """
        if not self.offered:
            display.show(self._elsewhere())
            return
        self._hinted = 0
        self._lesson.start(self)
        display.show(display.message(f"“{self.exercise.title}”: you are at its start.", "note"))

    def clicked(self, call: str, choice: int) -> None:
        """What a button asks for; nothing that was not solved yet is an error there."""
        if call == "check" and self.offered:
            display.show(_verdict(self.findings()))
        else:
            {"check": self.check, "hint": self.hint, "reset": self.reset}[call]()

    def _hint(self) -> display.Rich:
        hints = self.exercise.hints
        self._hinted = min(self._hinted + 1, len(hints))
        more = "" if self._hinted < len(hints) else "That was the last one. A solution is folded away below."
        title = f"**Hint {self._hinted} of {len(hints)}.** {hints[self._hinted - 1]}"
        return display.box(display.words(f"{title}\n\n{more}".strip()), "note")

    def _elsewhere(self) -> display.Rich:
        text = f"{self.exercise.title}: Istio {self._lesson.release.version} does not have what it is about"
        return display.message(
            f"{text}; nothing is judged here.", "note", next_step=f"It is for {', '.join(self.exercise.releases)}."
        )


def _solved(seen: Checklist) -> bool:
    return len(seen) > 0 and all(one.passed or not one.needed for one in seen)


def _verdict(seen: Checklist) -> display.Rich:
    if _solved(seen):
        return seen.rich() + display.message("Solved.", "good")
    return seen.rich() + display.message("Not yet: the table says what was seen.", "warning")
