# SPDX-License-Identifier: Apache-2.0
"""Check the form of every notebook of the course, so that reviews can be about what it says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.course import LESSONS
from tools.link_notebooks import CELL, START, links
from tools.steering_notebooks import lesson_faults, steering_faults

MOST_LINES = 15
FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
PARAMETERS = ('RELEASE = ""', 'TARGET = ""')
"""What the course runs on, in every notebook alike."""

STEERING, CLEAN_UP = "08", "99"
"""Lessons from the one number on steer the mesh, and have more rules to keep; the other only takes away."""

_NAME = re.compile(r"\d\d(-[a-z]+)+")
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PLACE = re.compile(r"(?<![\w.])/(?:home|root|work|Users|tmp)/")


def faults(path: Path) -> Iterator[str]:
    """What is wrong with the notebook at `path`, one sentence each."""
    if not _NAME.fullmatch(path.stem):
        yield "its name is not NN-name"
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"it is not JSON: {error}"
        return
    form = notebook.get("nbformat"), notebook.get("nbformat_minor")
    if form < (4, 5):
        yield f"it is of nbformat {form[0]}.{form[1]}; cell ids need 4.5"
    if "widgets" in notebook.get("metadata", {}):
        yield "it carries the state of widgets"
    cells = [(_text(cell), cell) for cell in notebook["cells"]]
    seen: set[str] = set()
    for number, (text, cell) in enumerate(cells, 1):
        where = f"cell {cell.get('id') or number}"
        for fault in _cell_faults(text, cell):
            yield f"{where}: {fault}"
        if cell.get("id") in seen:
            yield f"{where}: its id is there twice"
        seen.add(cell.get("id", ""))
    yield from _shape(cells)
    yield from _links(path.stem, cells)
    if path.stem[:2] < CLEAN_UP:
        yield from lesson_faults(path.stem, cells)
    if STEERING <= path.stem[:2] < CLEAN_UP:
        yield from steering_faults(cells)


def _text(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def _cell_faults(text: str, cell: dict[str, Any]) -> Iterator[str]:
    if not _ID.fullmatch(cell.get("id", "")) or re.fullmatch(r"[0-9a-f]{8}", cell.get("id", "")):
        yield "its id does not say in kebab-case what it does"
    if not text.strip():
        yield "it is empty"
    if _PLACE.search(text):
        yield "it names a folder of somebody's machine"
    if cell["cell_type"] != "code":
        return
    if cell.get("outputs") or cell.get("execution_count") is not None:
        yield "it has outputs; clear them before committing"
    if (lines := len(text.splitlines())) > MOST_LINES:
        yield f"it has {lines} lines; at most {MOST_LINES}"
    if re.search(r"\bsleep\(", text):
        yield "it sleeps; wait for a condition instead (`wait_for`)"
    metadata = cell.get("metadata", {})
    if "solution" in metadata.get("tags", []) and not metadata.get("jupyter", {}).get("source_hidden"):
        yield "a solution has to be folded away (jupyter.source_hidden)"
    if set(metadata) - {"tags", "jupyter"}:
        yield f"its metadata has {', '.join(sorted(set(metadata) - {'tags', 'jupyter'}))}"


def _shape(cells: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    opening = cells[0][0] if cells else ""
    if not opening.startswith("# ") or any(
        word not in opening for word in ("**Aim.**", "**Time.**", "**What must be there.**")
    ):
        yield "its first cell has to give title, Aim, Time and What must be there"
    tagged = [(text, cell) for text, cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        yield f"it has {len(tagged)} cells tagged parameters, not one"
    else:
        lines = [line.split("#")[0].strip() for line in tagged[0][0].splitlines()]
        yield from (f"its parameters lack {line}" for line in PARAMETERS if line not in lines)
    begin = next((text for text, cell in cells if cell["cell_type"] == "code" and "course.begin(" in text), "")
    if not begin:
        yield "no cell begins the lesson (course.begin)"
    words = [text for text, cell in cells if cell["cell_type"] == "markdown" and cell.get("id") != CELL]
    closing = words[-1] if words else ""
    if "## What was learned" not in closing or "**What next.**" not in closing:
        yield "its last text has to say What was learned and What next"
    code = [text for text, cell in cells if cell["cell_type"] == "code"]
    if "lesson.done()" not in (code[-1] if code else ""):
        yield "its last code has to be lesson.done()"
    if not any("check(" in text for text, cell in cells if cell["cell_type"] == "code"):
        yield "it claims nothing (check)"


def _links(name: str, cells: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """What is wrong with the ways out of a lesson; LESSONS has their order."""
    if name not in LESSONS:
        yield "LESSONS does not have it"
        return
    last, cell = cells[-1] if cells else ("", {})
    if cell.get("id") != CELL or last != links(name):
        yield "its last cell has to be its links: `python -m tools.link_notebooks` writes them"
    names = list(LESSONS)
    following = names[names.index(name) + 1 :][:1]
    closing = next((text for text, one in cells if "**What next.**" in text), "")
    told = re.findall(r"\]\(([\w-]+)\.ipynb\)", closing.partition("**What next.**")[2])
    if following and told[:1] != following:
        yield f"What next has to lead to {following[0]}"


def start_faults(path: Path) -> Iterator[str]:
    """What is wrong with the start page: it has words only, and links each lesson with the minutes it says itself."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    if any(cell["cell_type"] != "markdown" for cell in notebook["cells"]):
        yield "it has cells to run; it is there to be read"
    text = "\n".join(_text(cell) for cell in notebook["cells"])
    for lesson in sorted(set(path.parent.glob("*.ipynb")) - {path}):
        opening = _text(json.loads(lesson.read_text(encoding="utf-8"))["cells"][0])
        found = re.search(r"\*\*Time\.\*\* (\d+) minutes", opening)
        row = rf"\| \[{lesson.stem}\]\({lesson.name}\) \| .+ \| {found[1] if found else '-'} \|"
        if not re.search(row, text):
            yield f"its table lacks {lesson.stem}, with its link and its minutes"


def main() -> int:
    """Check all; returns 1 if anything is wrong."""
    paths = sorted(FOLDER.glob("*.ipynb"))
    found = [
        f"{path.relative_to(FOLDER.parent)}: {fault}"
        for path in paths
        for fault in (start_faults(path) if path.name == START else faults(path))
    ]
    print("\n".join(found) if found else f"{len(paths)} notebooks are in form")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
