# SPDX-License-Identifier: Apache-2.0
"""A cheat sheet and a glossary in the lessons' own words: nothing is said here a second time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from labkit.course.folder import unlinked
from labkit.course.translations import words_page
from labkit.ground.errors import NotebookError
from labkit.ground.language import translated

__all__ = ["learned", "terms"]

_ENTRY = re.compile(r"^## (.+)\n\n(.+) \(\[[^]]+\]\((.+)\.ipynb\)\)$", re.MULTILINE)


def terms(language: str) -> list[tuple[str, str, str]]:
    """The glossary's words in a language, each with what it is, as Markdown, and the lesson that says so."""
    return _ENTRY.findall(words_page(language).read_text(encoding="utf-8"))


def learned(source: Path, lesson: str) -> list[str]:
    """What a lesson says was learned in it: a sentence or two each, as Markdown.

    Raises:
        NotebookError: It is not there, or says nothing.
    """
    # In a translated notebook whose last words are stale, the English heading stands.
    heading = re.compile(rf"^## (?:What was learned|{translated('What was learned')})\n", re.MULTILINE)
    for text in _words(source / f"{lesson}.ipynb"):
        _, *rest = heading.split(text)
        after = rest[0] if rest else ""
        if points := re.findall(r"^- (.+)$", after.partition("\n#")[0], flags=re.MULTILINE):
            return points
    raise NotebookError(f"{lesson} does not say what was learned", next_step="Install labkit anew.")


def _words(path: Path) -> Iterator[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except OSError as error:
        raise NotebookError(f"{path} cannot be read: {error.strerror}", next_step="Install labkit anew.") from None
    yield from (unlinked("".join(cell["source"])) for cell in cells if cell["cell_type"] == "markdown")
