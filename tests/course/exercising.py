# SPDX-License-Identifier: Apache-2.0
"""Exercises played as a learner does: a start, an answer, and what is found then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labkit import cluster, istio
from labkit.course import Lesson, Progress
from labkit.course.checks import Checklist
from labkit.course.exercise import Played
from tests.conftest import REPOSITORY, wait_until
from tests.shops import Shop

__all__ = ["found", "lesson_in", "solution", "solved", "wrong"]


@contextmanager
def lesson_in(shop: Shop, name: str) -> Iterator[Lesson]:
    """A lesson on this mesh, which labkit knows to be a sandbox of its own: so it may take away what is there.

    Args:
        shop: The mesh.
        name: "09-shifting".
    """
    sandbox = shop.sandbox
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(sandbox.labkit_home))
        yield Lesson(name, istio.release(sandbox.release), Progress(sandbox.labkit_home / "progress"))


def solution(lesson: str, name: str) -> list[str]:
    """The YAML of the cells that solve an exercise in the lesson's notebook."""
    cells = json.loads((REPOSITORY / "notebooks" / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts, now = [], ""
    for cell in cells:
        first, _, rest = "".join(cell["source"]).partition("\n")
        if "lesson.exercise(" in first:
            now = first.split('"')[1]
        elif now == name and "solution" in cell["metadata"].get("tags", []):
            assert first == "%%yaml"
            texts.append(rest)
    assert texts, f"{lesson} has no solution for {name}"
    return texts


def found(lesson: Lesson, name: str, *answer: str) -> Played:
    """An exercise at its start, and then an answer.

    Args:
        lesson: The lesson.
        name: The exercise.
        answer: YAML to apply, or "delete KIND NAME".
    """
    played = lesson.exercise(name)
    played.reset()
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
    wait_until(lambda: words in _said(played.findings()), what=f"{name} to find {words!r}")
    played.reset()


def _said(findings: Checklist) -> str:
    return "\n".join(f"{one.name}: {one.seen}" for one in findings if not one.passed)
