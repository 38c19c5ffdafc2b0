# SPDX-License-Identifier: Apache-2.0
"""Write the course's glossary, and lead each lesson's first use of a word to its entry, in every language.

python -m tools.glossary             write `glossary.md` and the links
python -m tools.glossary --check     what would be written anew; exit code 1 for anything

The page says nothing of its own: its sentences are the lessons'. It is Markdown, which JupyterLab shows with no kernel.
Its headings are the field's own words in each language, so that a link leads to the same place in all.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labkit.course import LESSONS, translations
from labkit.course.folder import GLOSSARY, notebooks, unlinked
from labkit.ground.language import LANGUAGES, SOURCE, speaking, translated
from tools.terms import Explained, explained, named

WORDS = {
    "Gateway": r"Gateways?(?! API)",
    "ejection": r"[Ee]ject(?:ed|ions?|s)",
    "mutual TLS": r"[Mm]utual\s+TLS",
    # Not Node.js, and not what a graph is drawn of.
    "node": r"(?<!edge or a )[Nn]odes?(?!\.js)",
    # Not what something does.
    "span": r"(?<!that )[Ss]pans?",
    "trace": r"(?<!encrypts and )[Tt]races?",
    "双向": r"双向\s?TLS",
    "对象": "(?<!比较的)对象",
    "环": "(?<![回循])环(?!境)",
    "位置": "位置(?=（)",
}
"""Words that are not written as they are, with an s for several, or with a capital where a sentence begins."""

_BLOCK = r"^<(?:details|summary|div|p|table|ul|ol)\b[^\n]*(?:\n[^\n]+)*"
"""HTML, until a line is empty: Markdown reads nothing there."""

_APART = rf"```.*?```|{_BLOCK}|^#+ [^\n]*|`[^`]*`|!?\[[^]]*\]\([^)]*\)|<!--.*?-->|<[^>]*>|https?:\S+"
"""Where no word is led anywhere: code, headings, links and pictures, markup."""


def linked(lesson: str, texts: dict[str, str], terms: list[Explained]) -> dict[str, str]:
    """A lesson's cells of words, by their ids, with the first use of each word led to its entry.

    Args:
        lesson: Its name, "08-routing".
        texts: What its cells say, with links of an earlier run or without.
        terms: The glossary in this language.
    """
    texts = {cell: unlinked(text) for cell, text in texts.items()}
    for term in terms:
        for cell, text in texts.items():
            found = _first(term, text)
            # Where a lesson says what a word is, nobody has to look it up.
            if term.lesson == lesson and named(term.key, text[: found.end() + 40 if found else None]):
                break
            if found:
                link = f"[{found['word']}]({GLOSSARY}#{term.word.replace(' ', '-')})"
                texts[cell] = text[: found.start()] + link + text[found.end() :]
                break
    return texts


def _first(term: Explained, text: str) -> re.Match[str] | None:
    # Chinese lessons write now their own word, now the English one.
    own = term.own.strip("`").partition("（")[0]
    word = "|".join([f"`{re.escape(own)}`", *map(_word, sorted({own, term.word}))])
    # The marks of bold stand within the link: outside, Chinese letters behind them would undo them.
    words = re.compile(rf"(?P<word>(?P<mark>\*\*|\*|)(?:{word})(?P=mark))|{_APART}", re.DOTALL | re.MULTILINE)
    return next((found for found in words.finditer(text) if found["word"]), None)


def _word(word: str) -> str:
    if not word.isascii():
        # Chinese has no blanks between words.
        return WORDS.get(word, word)
    rest = r"\s+".join(map(re.escape, word[1:].split(" ")))
    plain = rf"[{word[0]}{word[0].upper()}]{rest}s?"
    return rf"(?<![A-Za-z0-9_-])(?:{WORDS.get(word, plain)})(?![A-Za-z0-9_-])"


def page(terms: list[Explained]) -> str:
    """The glossary as Markdown: an entry a word, with the lesson that says so."""
    parts = [f"# {translated('Glossary')}"]
    for term in terms:
        lesson = f"[{term.lesson.partition('-')[0]} {translated(LESSONS[term.lesson])}]({term.lesson}.ipynb)"
        parts += [f"## {term.word}", f"{term.said} ({lesson})"]
    return "\n\n".join(parts) + "\n"


def files() -> Iterator[tuple[Path, str]]:
    """Each file that this writes, with what it has to hold."""
    for language in sorted(LANGUAGES):
        with tempfile.TemporaryDirectory() as folder, speaking(language):
            if language == SOURCE:
                source, own = notebooks(), notebooks()
            else:
                source, own = Path(folder), notebooks() / language
                translations.write(language, notebooks(), source)
            terms = explained(source)
            yield own / GLOSSARY, page(terms)
            for lesson in LESSONS:
                if language == SOURCE:
                    yield own / f"{lesson}.ipynb", _notebook(own / f"{lesson}.ipynb", terms)
                else:
                    yield own / f"{lesson}.md", _translation(own / f"{lesson}.md", terms)


def _notebook(path: Path, terms: list[Explained]) -> str:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    words = {
        cell["id"]: cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown" and cell["id"] != translations.LINKS
    }
    texts = {name: "".join(cell["source"]) for name, cell in words.items()}
    for name, text in linked(path.stem, texts, terms).items():
        if text != texts[name]:
            whole = isinstance(words[name]["source"], str)
            words[name]["source"] = text if whole else text.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _translation(path: Path, terms: list[Explained]) -> str:
    head, *parts = re.split(r"^(<!-- cell: .*? -->\n)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    texts = linked(path.stem, dict(zip(parts[::2], parts[1::2], strict=True)), terms)
    return head + "".join(mark + text for mark, text in texts.items())


def main(words: list[str]) -> int:
    """Write all, or say what is stale."""
    stale = [(path, text) for path, text in files() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path, text in stale:
        name = path.relative_to(notebooks().parent)
        if "--check" in words:
            print(f"{name}: the glossary, or what leads there, is stale: `python -m tools.glossary` writes it")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{name}: written")
    return bool(stale) and "--check" in words


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
