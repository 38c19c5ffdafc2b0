# SPDX-License-Identifier: Apache-2.0
"""Exercises, played through real Envoys as a learner does: at their start, with an answer, and what is then found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labkit import cluster, istio
from labkit.cluster import cells
from labkit.course import Lesson, Progress, clients, exercise
from labkit.course.checks import Checklist
from labkit.course.exercise import Played
from labkit.ground.errors import CheckError
from tests.conftest import PATIENCE, REPOSITORY, wait_until
from tests.shops import Shop

__all__ = [
    "begun",
    "checked",
    "found",
    "lesson_in",
    "lesson_with_clients",
    "solution",
    "solutions",
    "solve",
    "solved",
    "told",
    "untouched",
    "wrong",
]


@contextmanager
def lesson_in(shop: Shop, name: str) -> Iterator[Lesson]:
    """A lesson on this mesh, which labkit knows to be a sandbox of its own: so it may take away what is there.

    Args:
        shop: The mesh.
        name: "09-shifting".
    """
    sandbox = shop.sandbox
    release = istio.release(sandbox.release)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(sandbox.labkit_home))
        patch.chdir(release.path)
        yield Lesson(name, release, Progress(sandbox.labkit_home / "progress"))


@contextmanager
def lesson_with_clients(shop: Shop, name: str) -> Iterator[Lesson]:
    """The same, with the clients that the first cells of some lessons make."""
    with lesson_in(shop, name) as lesson:
        clients.bring(lesson.release, "legacy", sidecar=False)
        clients.bring(lesson.release, "partner", sidecar=True)
        yield lesson
        lesson.rules()
        clients.remove("legacy", "partner")


def solutions(lesson: str) -> dict[str, list[str]]:
    """The cells with solutions in a lesson's notebook, by the exercise that was shown last above them."""
    notebook = json.loads((REPOSITORY / "notebooks" / f"{lesson}.ipynb").read_text(encoding="utf-8"))
    kept: dict[str, list[str]] = {}
    name = ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if "lesson.exercise(" in text:
            name = text.split('lesson.exercise("')[1].split('"')[0]
        elif "solution" in cell["metadata"].get("tags", []):
            kept.setdefault(name, []).append(text)
    return kept


def solution(lesson: str, name: str) -> list[str]:
    """The YAML of the cells that solve an exercise, all of which are typed."""
    texts = [text.partition("\n") for text in solutions(lesson)[name]]
    assert {first for first, _, _ in texts} == {"%%yaml"}
    return [rest for _, _, rest in texts]


def begun(lesson: Lesson, name: str) -> Played:
    """An exercise at its start, whatever was tried before."""
    played = lesson.exercise(name)
    played.reset()
    return played


def found(lesson: Lesson, name: str, *answer: str) -> Played:
    """An exercise at its start, and then an answer.

    Args:
        lesson: The lesson.
        name: The exercise.
        answer: YAML to apply, or "delete KIND NAME".
    """
    played = begun(lesson, name)
    for one in answer:
        if one.startswith("delete "):
            cluster.kubectl(f"{one} -n bookinfo", show=False)
        else:
            cluster.apply(one, namespace="bookinfo", show=False)
    return played


def solved(lesson: Lesson, name: str, *answer: str) -> None:
    """The answer is a right one: soon all is so."""
    played = found(lesson, name, *answer)
    wait_until(lambda: all(one.passed for one in played.findings()), what=f"{name} to be solved")
    assert name in lesson.progress.exercises[lesson.name]


def wrong(lesson: Lesson, name: str, words: str, *answer: str) -> None:
    """The answer is a wrong one: soon a claim that is not so says why, in these words."""
    played = found(lesson, name, *answer)
    wait_until(lambda: any(words in one for one in _amiss(played.look())), what=f"{name} to find {words!r}")
    played.reset()


def told(played: Played, seen: str, step: str) -> None:
    """Wait until the findings have one with these words of what was seen, and of what to do."""
    wait_until(
        lambda: any(seen in one and step in one for one in _amiss(played.look())),
        what=f"{seen!r} with {step!r} among what is found",
    )


def untouched(played: Played) -> None:
    """An exercise in which nothing was done is not solved; nobody waits for what does not come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercise, "PATIENCE", 0.0)
        with pytest.raises(CheckError, match="not so: "):
            played.check()


def checked(played: Played) -> None:
    """Check what was solved; how soon a busy machine lets a look find all of it so is not the subject."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercise, "PATIENCE", PATIENCE)
        played.check()


def solve(played: Played, *answers: str) -> None:
    """Apply answers, and wait until nothing is amiss."""
    for answer in answers:
        cells.yaml("", answer)
    wait_until(lambda: not _amiss(played.look()), what="a right answer to be right")


def _amiss(seen: Checklist) -> list[str]:
    """What is not so, as "claim: seen → next step"."""
    return [f"{one.name}: {one.seen} → {one.next_step}" for one in seen if not one.passed]
