# SPDX-License-Identifier: Apache-2.0
"""The course's words, and the sentences of its lessons that say what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from labkit.course import LESSONS
from labkit.course.folder import unlinked

__all__ = ["TERMS", "Explained", "explained", "named"]

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
    "subsets": "subset",
}
"""Those that read otherwise without their sentence."""

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=[-|#<]|```)")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+(?=[A-Z`*(])|(?<=[。！？])")


class Explained(NamedTuple):
    """A word, where a lesson says what it is.

    Args:
        key: The word as TERMS has it.
        own: As the lesson has it: in Chinese the word of that language, with the English one in brackets.
        said: The sentence, as Markdown.
        lesson: The lesson.
    """

    key: str
    own: str
    said: str
    lesson: str

    @property
    def word(self) -> str:
        """As the field has it."""
        return _ALONE.get(self.key, self.key.strip("`"))


def explained(source: Path) -> list[Explained]:
    """What the lessons in a folder say their words are, by the alphabet.

    Raises:
        LookupError: A lesson no longer says what a word is.
    """
    found = []
    for lesson in LESSONS:
        sentences = list(_sentences(source / f"{lesson}.ipynb"))
        for key in TERMS.get(lesson.partition("-")[0], ()):
            said = next((one for one in sentences if named(key, one)), "")
            if not said:
                raise LookupError(f"{lesson} does not say what **{key}** is: TERMS names the words")
            # A part of a list ends in what leads on to the next.
            whole = said[0].upper() + said[1:].rstrip(":;") + "." * said.endswith((":", ";"))
            found.append(Explained(key, named(key, said), re.sub("[：；]$", "。", whole), lesson))
    return sorted(found, key=lambda one: one.word.lower())


def named(term: str, sentence: str) -> str:
    """How a sentence names a term, in bold: as it is, or in brackets behind another language's word; "" for not."""
    found = re.search(rf"\*\*({re.escape(term)}|[^*（]+（{re.escape(term)}）)\*\*", sentence)
    return found[1] if found else ""


def _sentences(path: Path) -> Iterator[str]:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        for paragraph in _PARAGRAPH.split(unlinked("".join(cell["source"]))):
            line = " ".join(paragraph.split()).removeprefix("- ")
            if not line.startswith(("|", "#", "<", "```", "![")):
                yield from _SENTENCE.split(line)
