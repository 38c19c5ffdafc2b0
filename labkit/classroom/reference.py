# SPDX-License-Identifier: Apache-2.0
"""A glossary and a cheat sheet in the lessons' own words: nothing is said here a second time."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from labkit.course.progress import LESSONS
from labkit.ground.errors import NotebookError

__all__ = ["TERMS", "Term", "glossary", "learned"]

TERMS = {
    "00": ("context", "nodes", "object", "ServiceAccount", "ReplicaSet"),
    "01": ("CustomResourceDefinition",),
    "02": ("injector", "`istio-init`", "`istio-proxy`"),
    "03": ("Gateway", "subsets"),
    "04": ("histogram",),
    "06": ("span", "trace", "critical path"),
    "08": ("VirtualService", "404", "503"),
    "09": ("confidence interval",),
    "10": ("timeout",),
    "11": ("endpoints", "ring", "ejected", "locality"),
    "12": ("SNI", "ServiceEntry", "TLS origination"),
    "13": ("SPIFFE", "Mutual", "PeerAuthentication"),
    "14": ("AuthorizationPolicy", "principal", "JWT", "RequestAuthentication"),
    "15": ("secret discovery service",),
    "16": ("ReferenceGrant",),
}
"""Terms as the lessons write them where they say what they are, by the lesson's number."""

_ALONE = {
    "ejected": "ejection",
    "endpoints": "endpoint",
    "Mutual": "mutual TLS",
    "nodes": "node",
    "secret discovery service": "secret discovery service (SDS)",
    "SNI": "server name (SNI)",
    "subsets": "subset",
}
"""Those that read otherwise without their sentence."""

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=[-|#<]|```)")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+(?=[A-Z`*(])")


class Term(NamedTuple):
    """A word of the course.

    Args:
        name: The word, without marks.
        said: The sentence that says what it is, as Markdown.
        lesson: The lesson that says so.
    """

    name: str
    said: str
    lesson: str


def glossary(source: Path, names: Collection[str] = tuple(LESSONS)) -> list[Term]:
    """What lessons say their terms are, by the alphabet.

    Args:
        source: The folder of the notebooks.
        names: Of which lessons.

    Raises:
        NotebookError: A lesson is not there, or no longer says what a term is.
    """
    found = []
    for lesson in names:
        terms = TERMS.get(lesson.partition("-")[0], ())
        sentences = list(_sentences(source / f"{lesson}.ipynb"))
        for term in terms:
            said = next((one for one in sentences if f"**{term}**" in one), "")
            if not said:
                raise NotebookError(f"{lesson} does not say what **{term}** is", next_step="TERMS names the terms.")
            # A part of a list ends in what leads on to the next.
            whole = said[0].upper() + said[1:].rstrip(":;") + "." * said.endswith((":", ";"))
            found.append(Term(_ALONE.get(term, term.strip("`")), whole, lesson))
    return sorted(found, key=lambda one: one.name.lower())


def learned(source: Path, lesson: str) -> list[str]:
    """What a lesson says was learned in it: a sentence or two each, as Markdown.

    Raises:
        NotebookError: It is not there, or says nothing.
    """
    for text in _words(source / f"{lesson}.ipynb"):
        _, _, after = text.partition("## What was learned\n")
        if points := re.findall(r"^- (.+)$", after.partition("\n#")[0], flags=re.MULTILINE):
            return points
    raise NotebookError(f"{lesson} does not say what was learned", next_step="Install labkit anew.")


def _sentences(path: Path) -> Iterator[str]:
    for text in _words(path):
        for paragraph in _PARAGRAPH.split(text):
            line = " ".join(paragraph.split()).removeprefix("- ")
            if not line.startswith(("|", "#", "<", "```", "![")):
                yield from _SENTENCE.split(line)


def _words(path: Path) -> Iterator[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except OSError as error:
        raise NotebookError(f"{path} cannot be read: {error.strerror}", next_step="Install labkit anew.") from None
    yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
