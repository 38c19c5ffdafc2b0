# SPDX-License-Identifier: Apache-2.0
"""Exercises, played through real Envoys: at their start, with an answer, and what is then found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkit import istio
from labkit.cluster import cells
from labkit.course import Progress, clients
from labkit.course.checks import Checklist
from labkit.course.exercise import Played
from labkit.course.lesson import Lesson
from tests.conftest import REPOSITORY, wait_until
from tests.shops import Shop

__all__ = ["begun", "failed", "lesson_with_clients", "solutions", "solve", "told"]


@contextmanager
def lesson_with_clients(name: str, shop: Shop, folder: Path) -> Iterator[Lesson]:
    """A lesson in a shop, with the clients that its first cells make."""
    release = istio.release(shop.sandbox.release)
    with pytest.MonkeyPatch.context() as patch:
        # A sandbox is known by its place, and all in it is the reader's.
        patch.setenv("LABKIT_HOME", str(shop.sandbox.labkit_home))
        patch.chdir(release.path)
        lesson = Lesson(name, release, Progress(folder))
        clients.bring(release, "legacy", sidecar=False)
        clients.bring(release, "partner", sidecar=True)
        yield lesson
        lesson.rules()
        clients.remove("legacy", "partner")


def begun(lesson: Lesson, name: str) -> Played:
    """An exercise at its start, whatever was tried before."""
    played = lesson.exercise(name)
    played.reset()
    return played


def failed(seen: Checklist) -> list[str]:
    """What is not so, as "claim: seen → next step"."""
    return [f"{one.name}: {one.seen} → {one.next_step}" for one in seen if not one.passed]


def told(played: Played, seen: str, step: str) -> None:
    """Wait until the findings have one with these words of what was seen, and of what to do."""

    def found() -> bool:
        return any(seen in one and step in one for one in failed(played.look()))

    wait_until(found, 120, f"{seen!r} with {step!r} among what is found")


def solve(played: Played, *answers: str) -> None:
    """Apply answers, and wait until nothing is amiss."""
    for answer in answers:
        cells.yaml("", answer)
    wait_until(lambda: failed(played.look()) == [], 120, "a right answer to be right")


def solutions(lesson: str) -> dict[str, list[str]]:
    """The cells with solutions, by the exercise that was shown last above them."""
    notebook = json.loads((REPOSITORY / "notebooks" / f"{lesson}.ipynb").read_text())
    found: dict[str, list[str]] = {}
    name = ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if "lesson.exercise(" in text:
            name = text.split('lesson.exercise("')[1].split('"')[0]
        if "solution" in cell["metadata"].get("tags", []):
            found.setdefault(name, []).append(text)
    return found
