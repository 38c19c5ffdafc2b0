# SPDX-License-Identifier: Apache-2.0
"""What the course says from code, found in its source: the texts that a catalogue of a language has to have.

An f-string is found as its form, with {0}, {1} for its parts, as `labkit.ground.language` looks it up.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from labkit.course.exercise import of_lesson
from labkit.course.progress import LESSONS

ROOT = Path(__file__).resolve().parents[1]
START = ROOT / "labkit/ui/jupyter/share/jupyter/labextensions/labkit/start.js"

COURSE = (
    "labkit/choice.py",
    *(f"labkit/course/{name}.py" for name in ("checks", "exercise", "lesson", "prediction")),
    "labkit/clicks.py",
    *(f"labkit/course/{name}.py" for name in ("preflight", "progress", "reset", "rules", "stages", "translations")),
    *(f"labkit/classroom/{name}.py" for name in ("editions", "slides")),
    *(f"labkit/lab/{name}.py" for name in ("command", "copies", "start")),
)
"""Modules whose sentences a learner reads in every lesson."""

_NOT_OURS = ("labkit/cluster/backends.py", "labkit/ui/__init__.py")
"""What kubectl and Python themselves would say, in their words."""

_HELPER = tuple(
    path.relative_to(ROOT).as_posix()
    for part in ("*.py", "cluster/*.py", "course/*.py", "istio/**/*.py", "observe/*.py", "ui/*.py")
    for path in sorted((ROOT / "labkit").glob(part))
)
"""What lessons call, and what it says mostly where something is wrong."""

_SAYING = (
    *("check", "predict", "settle", "message", "words", "translated", "table", "buttons"),
    *("Check", "Stage", "Condition"),
)
"""Calls whose texts are shown."""

_WORDS = re.compile(r"[A-Za-z]{2,}")
_NO_WORDS = re.compile(r"[\w./:-]*")
_SAID = re.compile(r'\bsay\(\s*((?:"(?:[^"\\]|\\.)*"\s*\+?\s*)+)')


@functools.cache
def messages() -> dict[str, tuple[str, ...]]:
    """What is said, by the part of the course that says it: "start", "course", "helper", and each lesson."""
    found: dict[str, list[str]] = {"start": ["Start page", *_of_page()]}
    found["course"] = [text for path in COURSE for text in _of_module(path)]
    others = (path for path in _HELPER if path not in COURSE and path not in _NOT_OURS)
    found["helper"] = [text for path in others for text in _of_calls((ROOT / path).read_text(encoding="utf-8"))]
    for lesson in LESSONS:
        found[lesson] = [LESSONS[lesson], *_of_notebook(lesson), *_of_exercises(lesson)]
    # Texts of several lines are looked up line by line.
    return {part: tuple(dict.fromkeys(text.strip("\n") for text in texts)) for part, texts in found.items()}


def _of_page() -> Iterator[str]:
    for call in _SAID.findall(START.read_text(encoding="utf-8")):
        yield "".join(json.loads(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', call))


def _of_notebook(lesson: str) -> Iterator[str]:
    for cell in json.loads((ROOT / f"notebooks/{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            yield from (line for line in re.findall(r"^# (.+)$", text, re.MULTILINE) if _is_comment(line))
            if not text.startswith("%%"):
                yield from _of_calls(text)


def _is_comment(line: str) -> bool:
    """Whether it is words, not code that is commented out."""
    return line[0].isupper() and " " in line and not re.search(r"[{}=]|^\w+\.\w+\(", line)


def _of_exercises(lesson: str) -> Iterator[str]:
    for one in of_lesson(lesson):
        yield from (one.title, one.task, *one.hints)
    path = ROOT / f"labkit/course/exercises/{lesson.partition('-')[2].replace('-', '_')}.py"
    if path.is_file():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from (text for node in tree.body if isinstance(node, ast.FunctionDef) for text in _of_body(node))


def _of_module(path: str) -> Iterator[str]:
    source = (ROOT / path).read_text(encoding="utf-8")
    yield from _of_calls(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            yield from (text for text in _of_body(node) if "<" not in text)


def _of_body(function: ast.FunctionDef) -> Iterator[str]:
    """Claims and steps are handed on in variables and by helpers: what reads like words is taken to be words."""
    for part in function.body:
        # Neither a function within, which is found by itself, nor what explains a function or an attribute.
        if isinstance(part, ast.FunctionDef) or (isinstance(part, ast.Expr) and _is_text(part.value)):
            continue
        for text in _texts(part):
            if text.strip().count(" ") > 1 or (_WORDS.search(text) and text[-1:] in ".?:"):
                yield text


def _of_calls(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in _SAYING or name.endswith("Error"):
                said = [*node.args, *(one.value for one in node.keywords if one.arg not in ("kind", "caption"))]
                yield from (text for argument in said for text in _texts(argument))


def _texts(node: ast.AST) -> Iterator[str]:
    """The texts in an expression that are words; an f-string as its form."""
    match node:
        case ast.Constant(value=str(text)):
            if _is_said(text):
                yield text
        case ast.JoinedStr(values=parts):
            numbers = iter(range(len(parts)))
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else f"{{{next(numbers)}}}" for part in parts
            )
            if _is_said(re.sub(r"\{\d+\}", "0", text)):
                yield text
            for part in parts:
                if isinstance(part, ast.FormattedValue):
                    yield from _texts(part.value)
        case ast.Subscript():
            pass  # the name of a key or a column
        case ast.Compare() | ast.Dict():
            yield from (text for part in ast.iter_child_nodes(node) if not _is_text(part) for text in _texts(part))
        case _:
            yield from (text for part in ast.iter_child_nodes(node) for text in _texts(part))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant | ast.JoinedStr)


def _is_said(text: str) -> bool:
    """Whether somebody reads it: it has words, and is no name, number or path alone, nor YAML or a command."""
    if re.match(r"\s*(apiVersion:|---\n|- \w+:|crictl )", text):
        return False
    return bool(_WORDS.search(text)) and (" " in text.strip() or (text[:1].isupper() and text.rstrip(".:!?").isalpha()))
