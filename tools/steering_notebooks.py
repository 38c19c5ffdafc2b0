# SPDX-License-Identifier: Apache-2.0
"""The form of lessons: guesses before experiments, tasks and exercises, typing, questions, where to read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

QUESTIONS = 3
TYPED = ("%%yaml", "%%sh", "%%promql")
LEAST_TYPED = 1 / 3
OPENING = "# One way to do it"
LONGEST_OPENING = 56
"""Letters of a solution's first line."""

PLACES = ("istio.io", "kubernetes.io", "envoyproxy.io")
"""Sites of which each lesson links at least a page."""

OWN = {"04": "prometheus.io", "05": "grafana.com", "06": "jaegertracing.io", "07": "kiali.io"}
"""By a lesson's number: the site of what it is about, of which it links a page as well."""

_SUPPORT = ("lesson.exercise(", "exercise.check()", "lesson.predict(", "course.begin(", "lesson.done()")
"""What frames the doing, and is none itself; so are parameters and solutions, which stand beside a cell to write in."""

Cells = list[tuple[str, dict[str, Any]]]


def lesson_faults(name: str, cells: Cells) -> Iterator[str]:
    """What is wrong with a lesson, whether it looks at a mesh or steers it; one sentence each.

    Args:
        name: The notebook's name, "04-prometheus".
        cells: Its cells, each with its text before it.
    """
    code = [(text, cell) for text, cell in cells if cell["cell_type"] == "code"]
    words = "\n".join(text for text, cell in cells if cell["cell_type"] == "markdown")
    if not any("lesson.predict(" in text for text, _ in code) or not any(".settle(" in text for text, _ in code):
        yield "it asks for no prediction, or settles none (lesson.predict, settle)"
    if (asked := words.count("<details>")) != QUESTIONS or words.count("<summary>") != QUESTIONS:
        yield f"it asks {asked} questions with folded answers, not {QUESTIONS}"
    places = [*PLACES, *(OWN[number] for number in OWN if name.startswith(number))]
    yield from (f"it links no page of {place}" for place in places if f"{place}/" not in words)
    doing = [text for text, cell in code if not _supports(text, cell)]
    typed = [text for text in doing if text.startswith(TYPED)]
    if len(typed) < LEAST_TYPED * len(doing):
        yield f"{len(typed)} of {len(doing)} cells are typed ({', '.join(TYPED)}); at least a third is to be"
    yield from _tasks(code)


def steering_faults(cells: Cells) -> Iterator[str]:
    """What is wrong with a lesson that steers the mesh, beside that, one sentence each.

    Args:
        cells: The cells of a notebook, each with its text before it.
    """
    code = [(text, cell) for text, cell in cells if cell["cell_type"] == "code"]
    if not any("](images/" in text for text, cell in cells if cell["cell_type"] == "markdown"):
        yield "it explains nothing by a picture (images/)"
    yield from _exercises(code)


def _supports(text: str, cell: dict[str, Any]) -> bool:
    return bool({"parameters"} & _tags(cell)) or _solves(cell) or any(sign in text for sign in _SUPPORT)


def _tags(cell: dict[str, Any]) -> set[str]:
    return set(cell.get("metadata", {}).get("tags", []))


def _solves(cell: dict[str, Any]) -> bool:
    return "solution" in _tags(cell)


def _is_turn(cell: dict[str, Any]) -> bool:
    return re.fullmatch("your-turn(-.*)?", cell.get("id", "")) is not None


def _tasks(code: Cells) -> Iterator[str]:
    """Each task has an empty cell to write in, and below it a folded solution that says it is one of many."""
    written = [number for number, (_, cell) in enumerate(code) if _is_turn(cell)]
    if not written:
        yield "nobody has to write anything (a cell your-turn-…)"
    first = written[0] if written else len(code)
    early = [cell.get("id") for _, cell in code[:first] if _solves(cell)]
    yield from (f"cell {name}: a cell to write in, its id your-turn-…, has to come before it" for name in early)
    # Of a folded cell JupyterLab shows the first line, which it does not break.
    long = (cell.get("id") for text, cell in code if _solves(cell) and len(text.split("\n")[0]) > LONGEST_OPENING)
    yield from (f"cell {name}: its first line does not fit at 150 %: {LONGEST_OPENING} letters do" for name in long)
    for begin, end in itertools.pairwise([*written, len(code)]):
        called = f"cell {code[begin][1].get('id')}"
        if not _is_empty(code[begin][0]):
            yield f"{called}: only comments may be in a cell to write in"
        solved = [text for text, cell in code[begin + 1 : end] if _solves(cell)]
        # Two cells one below the other are one task.
        if not solved and (end > begin + 1 or end == len(code)):
            yield f"{called}: no solution follows"
        if not all(OPENING in text for text in solved):
            yield f"{called}: its solution has to open with `{OPENING}`: others are right as well"


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
        turns = [text for text, cell in after if _is_turn(cell)]
        if not turns or not all(_is_empty(text) and text.startswith(TYPED) for text in turns):
            yield f"{called}: an empty cell to write in has to follow, its id your-turn-…, only comments in it"
        if not any(_solves(cell) for _, cell in after):
            yield f"{called}: it has no solution"
        if not any(text.strip() == "exercise.check()" for text, _ in after):
            yield f"{called}: it is not checked (`exercise.check()`)"


def _is_empty(text: str) -> bool:
    lines = text.splitlines()
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines[text.startswith("%%") :])
