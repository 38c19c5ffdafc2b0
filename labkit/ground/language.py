# SPDX-License-Identifier: Apache-2.0
"""What labkit says, in the reader's language. English is the source; what has no translation is shown in English.

A text is looked up where it is shown, as it reads by then: those who write messages write English, and nothing else.
Where an f-string made it, the catalogue has its form, with {0}, {1} for its parts, and the parts are found in the text.
Catalogues are gettext's .po files in `languages`, which editors for translators know; they are read as they are.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LANGUAGES", "SOURCE", "current", "entries", "form", "speaking", "told", "translated", "use"]

SOURCE = "en"
LANGUAGES = {SOURCE: "English", "zh": "中文"}
"""What the course can be shown in."""

_FOLDER = Path(__file__).with_name("languages")
_FIGURES = r"[\d.,:%/ T+-]+"
_PART = re.compile(r"\{(\d+)\}")
_MOST_DEEP = 4
_used = ""


def use(language: str) -> None:
    """From now on this process speaks it; it comes before `$LABKIT_LANG`.

    Args:
        language: One of `LANGUAGES`.

    Raises:
        KeyError: It is none.
    """
    global _used
    LANGUAGES[language]
    _used = language


@contextlib.contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak it, and then again what was spoken before."""
    global _used
    before = _used
    use(language)
    try:
        yield
    finally:
        _used = before


def current() -> str:
    """What is spoken: what `use` was told, what `$LABKIT_LANG` says (zh, or like a locale: zh_CN.UTF-8), or English."""
    said = _used or told()
    return said if said in LANGUAGES else SOURCE


def told() -> str:
    """What `$LABKIT_LANG` asks for, whether there is such a language or not; "" for nothing."""
    return re.split(r"[_.@-]", os.environ.get("LABKIT_LANG", "").strip().lower())[0]


def translated(text: str, language: str = "") -> str:
    """The text in the reader's language: as a whole, by its form, or line by line; else as it is.

    Args:
        text: English.
        language: One of `LANGUAGES`; "" for the one that is spoken.
    """
    language = language or current()
    return text if language == SOURCE or not text.strip() else _Catalogue.of(language).say(text)


def entries(language: str) -> dict[str, str]:
    """The catalogue: English → its translation, "" where there is none yet."""
    path = _FOLDER / f"{language}.po"
    return dict(_pairs(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def form(text: str) -> re.Pattern[str] | None:
    """What texts of a form with {0}, {1} read like; None for a text that has no such parts."""
    pieces = _PART.split(text)
    if len(pieces) == 1:
        return None
    # split gives text, number, text, … Where a form begins with a part and says little by itself ("{0} of {1}"), its
    # parts are figures: else much of what is written would be of that form.
    letters = sum(map(str.isalpha, "".join(pieces[::2])))
    part = _FIGURES if not pieces[0] and letters < 10 else ".+?"
    named = (f"(?P<p{one}>{part})" if number % 2 else re.escape(one) for number, one in enumerate(pieces))
    return re.compile("".join(named), re.DOTALL)


class _Catalogue:
    @staticmethod
    @functools.cache
    def of(language: str) -> _Catalogue:
        return _Catalogue({english: own for english, own in entries(language).items() if own})

    def __init__(self, known: dict[str, str]) -> None:
        self._whole = known
        # Of two forms that fit, the one that says more itself.
        longest = sorted(known, key=lambda one: len(_PART.sub("", one)), reverse=True)
        self._forms = [
            (max(_PART.split(one)[::2], key=len), shape, known[one]) for one in longest if (shape := form(one))
        ]
        self.say = functools.lru_cache(4096)(self._say)

    def _say(self, text: str, deep: int = 0) -> str:
        if (whole := self._whole.get(text)) is not None:
            return whole
        if "\n" not in text:
            return self._by_form(text, deep, lines=1) or text
        # Mostly each line is a sentence of its own; a part of several lines is what is left.
        said = self._by_form(text, deep, lines=2) or "\n".join(self._say(line, deep) for line in text.split("\n"))
        return self._by_form(text, deep, lines=1) or text if said == text else said

    def _by_form(self, text: str, deep: int, lines: int) -> str:
        """By the first form that fits, of those with so many lines or more; "" for none."""
        for piece, shape, own in self._forms if deep < _MOST_DEEP else ():
            if piece in text and own.count("\n") + 1 >= lines and (found := shape.fullmatch(text)):
                parts = {name[1:]: self._say(part, deep + 1) for name, part in found.groupdict().items()}
                return _PART.sub(lambda part, parts=parts: parts.get(part[1], part[0]), own)  # type: ignore[misc]
        return ""


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """msgid and msgstr of each entry; the first, whose msgid is empty, is the file's head."""
    said = {"msgid": "", "msgstr": ""}
    last = ""
    for line in [*text.splitlines(), 'msgid ""']:
        word, _, rest = line.strip().partition(" ")
        if word in said:
            if word == "msgid" and said["msgid"]:
                yield said["msgid"], said["msgstr"]
            if word == "msgid":
                said = dict.fromkeys(said, "")
            said[word], last = json.loads(rest), word
        elif word.startswith('"') and last:
            said[last] += json.loads(line.strip())
        else:
            last = ""
