# SPDX-License-Identifier: Apache-2.0
"""Check the course's translations: which are stale, which are missing. `make check` runs it.

python -m tools.translations             what is missing or stale; exit code 1 for what should not be
python -m tools.translations --stamp     give each translated cell the digest of today's English: after reading it
python -m tools.translations --update    give the catalogue an empty entry for each message that it lacks
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from labkit.course.folder import notebooks, unlinked
from labkit.course.progress import LESSONS
from labkit.course.translations import LINKS, digest, said
from labkit.ground import language
from tools.messages import messages

UNTRANSLATED: dict[str, tuple[str, ...]] = {"zh": ()}
"""What a language does not have yet: a notebook with its messages ("17-name"), or a cell ("00-start/the-map").
Until then it is shown in English. Nothing is added here but what is new.
"""

NOTES = "speaker-notes"
_CELL = re.compile(r"<!-- cell: ([a-z0-9-]+)(?: ([0-9a-f]{12}))? -->")


def english(name: str) -> dict[str, str]:
    """The cells of words of a notebook, or of the speaker notes, that a translation has to have."""
    if name == NOTES:
        from labkit.classroom.editions import speaker_notes

        with language.speaking(language.SOURCE):
            return speaker_notes()
    cells = json.loads((notebooks() / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return {
        cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown" and cell["id"] != LINKS
    }


def names() -> list[str]:
    """All that has a translation of its own: notebooks, and the speaker notes."""
    return ["00-start", *LESSONS, NOTES]


def faults(own: str) -> Iterator[str]:
    """What is wrong with a language's translations, a sentence each."""
    for name in names():
        where = f"notebooks/{own}/{name}.md"
        source, there = english(name), said(own, name)
        allowed = {cell for cell in source if f"{name}/{cell}" in UNTRANSLATED[own] or name in UNTRANSLATED[own]}
        fresh = {cell for cell in source if cell in there and there[cell].of == digest(source[cell])}
        if name in UNTRANSLATED[own] and source.keys() == fresh:
            yield f"{where}: it is whole; take it out of UNTRANSLATED"
        for cell in source:
            if f"{name}/{cell}" in UNTRANSLATED[own] and cell in fresh:
                yield f"{where}: cell {cell} is translated; take it out of UNTRANSLATED"
            elif cell not in there and cell not in allowed:
                yield f"{where}: cell {cell} is missing"
            elif cell in there and cell not in fresh and cell not in allowed:
                yield f"{where}: cell {cell} is stale: read the English again, and then `--stamp {name}`"
            elif cell in fresh and (lost := _codes(source[cell]) - _codes(there[cell].text)):
                yield f"{where}: cell {cell} lacks {', '.join(sorted(lost))}"
            elif cell in fresh and _stars(there[cell].text) > _stars(source[cell]):
                yield f"{where}: cell {cell} has ** that is shown as such: a blank is lacking before or after it"
        yield from (f"{where}: cell {cell} is not in the notebook" for cell in there if cell not in source)
    yield from _catalogue_faults(own)


def _codes(text: str) -> set[str]:
    """What has to be in a translation as it is: blocks of code, links and pictures."""
    text = unlinked(text)
    return {*re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL), *re.findall(r"\]\(([^)]+)\)", text)}


def _stars(text: str) -> int:
    """How many ** are shown as they are: Markdown sees no end of bold in one between a full stop and a letter."""
    from nbconvert.filters import markdown2html

    return re.sub(r"<(code|pre).*?</\1>", "", str(markdown2html(text)), flags=re.DOTALL).count("**")


def _catalogue_faults(own: str) -> Iterator[str]:
    known = language.entries(own)
    where = f"labkit/ground/languages/{own}.po"
    wanted = messages()
    for part, texts in wanted.items():
        if part not in UNTRANSLATED[own]:
            yield from (f"{where}: {part} says {text!r}, which is missing" for text in texts if not known.get(text))
    everything = {text for texts in wanted.values() for text in texts}
    yield from (f"{where}: nobody says {text!r} any more" for text in known if text not in everything)
    for text, translation in known.items():
        if translation and sorted(re.findall(r"\{\d+\}", text)) != sorted(re.findall(r"\{\d+\}", translation)):
            yield f"{where}: {text!r} and its translation have other parts"


def covered(own: str) -> str:
    """How far a language has come, in a sentence."""
    cells = [(cell, text, said(own, name)) for name in names() for cell, text in english(name).items()]
    fresh = sum(cell in there and there[cell].of == digest(text) for cell, text, there in cells)
    known, wanted = language.entries(own), {text for texts in messages().values() for text in texts}
    done = sum(bool(known.get(text)) for text in wanted)
    lacking = f"; shown in English: {', '.join(UNTRANSLATED[own])}" if UNTRANSLATED[own] else ""
    return f"{own}: {fresh} of {len(cells)} cells, {done} of {len(wanted)} messages{lacking}"


def stamp(own: str, read: list[str]) -> None:
    """Write the digest of today's English beside translated cells: of notebooks that were read again, and new ones."""
    for name in names():
        path = notebooks() / own / f"{name}.md"
        if not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        sums = {cell: digest(text) for cell, text in english(name).items()}
        for number, line in enumerate(lines):
            cell = _CELL.fullmatch(line.strip())
            if cell and cell[1] in sums and (name in read or not cell[2]):
                lines[number] = f"<!-- cell: {cell[1]} {sums[cell[1]]} -->\n"
        path.write_text("".join(lines), encoding="utf-8")


def write(own: str, known: dict[str, str]) -> None:
    """Write the catalogue: what is said, part by part, with what it says for it."""
    lines = ["# SPDX-License-Identifier: Apache-2.0", 'msgid ""', 'msgstr "Content-Type: text/plain; charset=UTF-8\\n"']
    seen: set[str] = set()
    for part, texts in messages().items():
        for text in texts:
            if text not in seen:
                seen.add(text)
                lines += ["", f"#: {part}", f"msgid {_quoted(text)}", f"msgstr {_quoted(known.get(text, ''))}"]
    path = Path(language.__file__).with_name("languages") / f"{own}.po"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def main(words: list[str]) -> int:
    """Check, stamp or update all languages."""
    wrong: list[str] = []
    for own in sorted(language.LANGUAGES.keys() - {language.SOURCE}):
        if "--stamp" in words:
            stamp(own, words[words.index("--stamp") + 1 :])
        if "--update" in words:
            write(own, language.entries(own))
        wrong += faults(own)
        print(covered(own))
    print("\n".join(wrong), end="\n" if wrong else "")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
