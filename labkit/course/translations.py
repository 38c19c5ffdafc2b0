# SPDX-License-Identifier: Apache-2.0
"""The notebooks in another language, from one source: `notebooks/zh/08-routing.md` has the text of each cell of words.

A cell's text stands below `<!-- cell: its-id 0123456789ab -->`; the digest is that of the English it was made from, so
that whoever changes the English finds out (`python -m tools.translations`). Code stays as it is: what it says is
translated where it is shown (`labkit.ground.language`). A cell whose translation is missing or stale stays English.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from labkit.course.folder import GLOSSARY, notebooks, unlinked
from labkit.ground.errors import SettingError
from labkit.ground.language import LANGUAGES, SOURCE, translated, use

__all__ = ["LINKS", "Said", "current_text", "digest", "known", "said", "speak", "words_page", "write"]

LINKS = "links"
"""The id of the cell with a lesson's ways out: it is made of lessons' titles, which the catalogue has."""

_CELL = re.compile(r"^<!-- cell: ([a-z0-9-]+)(?: ([0-9a-f]{12}))? -->\n", re.MULTILINE)
_BEGIN = re.compile(r"^(\w+ = )?course\.begin\(", re.MULTILINE)
_COMMENT = re.compile(r"^# (.+)$", re.MULTILINE)
_TITLE = re.compile(r"\[([^]]+)\]")


class Said(NamedTuple):
    """What a translation says for a cell.

    Args:
        text: Markdown.
        of: The digest of the English that was translated; "" where none is written down.
    """

    text: str
    of: str


def known(language: str) -> str:
    """`language`, if it is one that the course can be shown in.

    Raises:
        SettingError: It is none; the message names those there are.
    """
    if language in LANGUAGES:
        return language
    raise SettingError(
        f"the course is not in the language {language!r}",
        next_step=f"Choose {', '.join(f'{name} ({own})' for name, own in LANGUAGES.items())}.",
    )


def speak(language: str) -> None:
    """From now on lessons in this kernel speak it: what checks, exercises and errors say.

    Args:
        language: One of `labkit.ground.language.LANGUAGES`, such as "zh".

    Raises:
        SettingError: It is none.
    """
    use(known(language))


def digest(text: str) -> str:
    """By what a translation knows the English it was made from: its words, not what leads them to the glossary."""
    return hashlib.sha256(unlinked(text).encode()).hexdigest()[:12]


def said(language: str, name: str) -> dict[str, Said]:
    """The translation of a notebook: the cell's id → what it says; empty where there is none.

    Args:
        language: One of `labkit.ground.language.LANGUAGES`.
        name: The notebook's name, "08-routing"; or "speaker-notes", whose cells are lessons.
    """
    path = notebooks() / language / f"{name}.md"
    if language == SOURCE or not path.is_file():
        return {}
    parts = _CELL.split(path.read_text(encoding="utf-8"))
    return {
        cell: Said(text.strip(), of or "") for cell, of, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def words_page(language: str) -> Path:
    """The course's glossary in a language."""
    return notebooks() / ("" if language == SOURCE else language) / GLOSSARY


def current_text(own: Said | None, english: str) -> str:
    """What is shown for a cell: its translation, or the English where there is none, or one of another English."""
    return own.text if own and own.of == digest(english) else english


def write(language: str, source: Path, out: Path) -> None:
    """Write all notebooks of a folder in a language, with their pictures: what a learner can play.

    Args:
        language: One of `labkit.ground.language.LANGUAGES`.
        source: The folder of the notebooks, as they were delivered or as they were played.
        out: The folder to write into; made where it is not there.

    Raises:
        OSError: It cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        texts = said(language, path.stem)
        for cell in notebook["cells"]:
            cell["source"] = _translated(cell, texts, language)
        (out / path.name).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copy(words_page(language), out)
    shutil.copytree(source / "images", out / "images", dirs_exist_ok=True)


def _translated(cell: dict[str, Any], texts: dict[str, Said], language: str) -> str:
    text = "".join(cell["source"])
    if cell["cell_type"] == "code":
        text = _COMMENT.sub(lambda line: f"# {translated(line[1], language)}", text)
        # A copy says itself what it speaks, whatever Jupyter it is opened in.
        return _BEGIN.sub(lambda begin: f'course.speak("{language}")\n{begin[0]}', text)
    if cell.get("id") == LINKS:
        return _TITLE.sub(lambda title: f"[{translated(title[1], language)}]", text)
    return current_text(texts.get(cell.get("id", "")), text)
