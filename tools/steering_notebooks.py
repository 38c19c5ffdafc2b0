# SPDX-License-Identifier: Apache-2.0
"""The form of lessons that steer the mesh: guesses before experiments, exercises, typing, questions, where to read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

QUESTIONS = 3
TYPED = ("%%yaml", "%%sh")
LEAST_TYPED = 1 / 3
OPENING = "# One way to do it"
PLACES = ("istio.io", "kubernetes.io", "envoyproxy.io")
"""Sites of which each lesson links at least a page."""

_SUPPORT = ("lesson.exercise(", "exercise.check()", "lesson.predict(", "course.begin(", "lesson.done()")
"""What frames the doing, and is none itself; so are parameters and solutions, which stand beside a cell to write in."""

Cells = list[tuple[str, dict[str, Any]]]


def steering_faults(cells: Cells) -> Iterator[str]:
    """What is wrong, one sentence each.

    Args:
        cells: The cells of a notebook, each with its text before it.
    """
    code = [(text, cell) for text, cell in cells if cell["cell_type"] == "code"]
    words = "\n".join(text for text, cell in cells if cell["cell_type"] == "markdown")
    if not any("lesson.predict(" in text for text, _ in code) or not any(".settle(" in text for text, _ in code):
        yield "it asks for no prediction, or settles none (lesson.predict, settle)"
    if "](images/" not in words:
        yield "it explains nothing by a picture (images/)"
    if (asked := words.count("<details>")) != QUESTIONS or words.count("<summary>") != QUESTIONS:
        yield f"it asks {asked} questions with folded answers, not {QUESTIONS}"
    yield from (f"it links no page of {place}" for place in PLACES if f"{place}/" not in words)
    doing = [text for text, cell in code if not _supports(text, cell)]
    typed = [text for text in doing if text.startswith(TYPED)]
    if len(typed) < LEAST_TYPED * len(doing):
        yield f"{len(typed)} of {len(doing)} cells are typed ({', '.join(TYPED)}); at least a third is to be"
    yield from _exercises(code)


def _supports(text: str, cell: dict[str, Any]) -> bool:
    tags = cell.get("metadata", {}).get("tags", [])
    return bool({"parameters", "solution"} & set(tags)) or any(sign in text for sign in _SUPPORT)


def _exercises(code: Cells) -> Iterator[str]:
    """Each exercise is shown, then written in an empty cell, solved in a folded one and checked."""
    starts = [number for number, (text, _) in enumerate(code) if "lesson.exercise(" in text]
    if not starts:
        yield "it has no exercise (lesson.exercise)"
    for begin, end in zip(starts, [*starts[1:], len(code)], strict=True):
        name = re.search(r'lesson\.exercise\("([\w-]+)"\)', code[begin][0])
        called = f"exercise {name[1]}" if name else f"cell {code[begin][1].get('id')}"
        if not name or not code[begin][0].startswith("exercise = "):
            yield f'{called}: it is to be shown by `exercise = lesson.exercise("NAME")`'
        after = code[begin + 1 : end]
        turns = [text for text, cell in after if cell.get("id", "").startswith("your-turn-")]
        if not turns or not all(_is_empty(text) for text in turns):
            yield f"{called}: an empty cell to write in has to follow, its id your-turn-…, only comments in it"
        solved = [text for text, cell in after if "solution" in cell.get("metadata", {}).get("tags", [])]
        if not solved:
            yield f"{called}: it has no solution"
        if not all(OPENING in text for text in solved):
            yield f"{called}: its solution has to open with `{OPENING}`: others are right as well"
        if not any(text.strip() == "exercise.check()" for text, _ in after):
            yield f"{called}: it is not checked (`exercise.check()`)"


def _is_empty(text: str) -> bool:
    lines = text.splitlines()
    return lines[0].startswith(TYPED) and all(not line.strip() or line.lstrip().startswith("#") for line in lines[1:])
