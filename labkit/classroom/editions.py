# SPDX-License-Identifier: Apache-2.0
"""The course in other shapes, all made from the same notebooks: for learners, for the instructor, and to read."""

from __future__ import annotations

import html
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from labkit.classroom import slides
from labkit.classroom.reference import learned, terms
from labkit.course import translations
from labkit.course.folder import GLOSSARY, notebooks
from labkit.course.pages import Pages, plotly_script, style
from labkit.course.progress import CLEAN_UP, LESSONS, lessons
from labkit.ground.errors import NotebookError, SettingError
from labkit.ground.language import SOURCE, current, speaking, translated
from labkit.lab.start import START, minutes

__all__ = ["EDITIONS", "export", "speaker_notes"]

_NOTES = Path(__file__).with_name("speaker_notes.md")
_LINK = re.compile(rf'<a href="(\d\d-[a-z-]+\.ipynb|{GLOSSARY}(?:#[^"]+)?)">(.*?)</a>', re.DOTALL)


def export(edition: str, release: str, out: Path, played: Path, language: str = SOURCE) -> list[Path]:
    """Write one edition of the course.

    Args:
        edition: One of `EDITIONS`.
        release: Of Istio: pages have only the lessons that it has, notebooks are all, as `labkit lab` has them.
        out: The folder to write into: a new one, or one that this has written before.
        played: Where `labkit run` left the notebooks that it played; only the book is made from them.
        language: One of `labkit.ground.language.LANGUAGES`; what has no translation stays English.

    Returns:
        The files, first the one to open.

    Raises:
        SettingError: There is no such edition or language, or the folder holds something else.
        NotebookError: The notebooks are not there, or were not played.
        MissingToolError: Slides need what is not installed.
        OSError: It cannot be written.
    """
    if edition not in EDITIONS:
        raise SettingError(f"there is no edition {edition!r}", next_step=f"The editions: {', '.join(EDITIONS)}.")
    translations.known(language)
    mark = out / ".labkit-edition"
    if out.exists() and not mark.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingError(f"{out} holds something else", next_step="Name a folder that is not there yet: `--out DIR`.")
    source = played if edition == "book" else notebooks()
    lacking = [
        name
        for name in (lessons(release) if edition == "book" else LESSONS)
        if not (source / f"{name}.ipynb").is_file()
    ]
    if lacking:
        raise NotebookError(
            f"{source} has no {lacking[0]}.ipynb" + (f", nor {len(lacking) - 1} others" if len(lacking) > 1 else ""),
            next_step=f"`labkit run --release {release} --out {played}` plays them, in five minutes.",
        )
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    mark.write_text(f"{edition}\n")
    if language == SOURCE:
        return EDITIONS[edition](source, release, out)
    with speaking(language), tempfile.TemporaryDirectory() as folder:
        translations.write(language, source, Path(folder))
        return EDITIONS[edition](Path(folder), release, out)


def _student(source: Path, _release: str, out: Path) -> list[Path]:
    """Without solutions: who needs one has the hints, and the instructor."""

    def without(name: str, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [cell for cell in cells if "solution" not in cell["metadata"].get("tags", [])]

    return _rewritten(source, out, without)


def _instructor(source: Path, _release: str, out: Path) -> list[Path]:
    """With solutions unfolded, and what to say under each lesson's title."""
    notes = speaker_notes()

    def with_notes(name: str, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for cell in cells:
            if "solution" in cell["metadata"].get("tags", []):
                cell["metadata"].pop("jupyter", None)
        said = "\n".join(f"> {line}".rstrip() for line in notes[name].splitlines())
        source = f"> **{translated('To say.')}**\n>\n{said}"
        note = {"cell_type": "markdown", "id": "speaker-notes", "metadata": {}, "source": source}
        return [cells[0], note, *cells[1:]]

    return _rewritten(source, out, with_notes)


def _rewritten(
    source: Path, out: Path, change: Callable[[str, list[dict[str, Any]]], list[dict[str, Any]]]
) -> list[Path]:
    import nbformat

    written = [out / START]
    shutil.copy(source / START, out / START)
    shutil.copy(translations.words_page(current()), out)
    shutil.copytree(source / "images", out / "images")
    for name in LESSONS:
        notebook: Any = nbformat.read(source / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
        notebook.cells = [nbformat.from_dict(cell) for cell in change(name, notebook.cells)]  # type: ignore[no-untyped-call]
        path = out / f"{name}.ipynb"
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        written.append(path)
    return written


def _book(source: Path, release: str, out: Path) -> list[Path]:
    """A page a lesson, with what came out when it was played, and a table of contents: to read without running it."""
    names = list(lessons(release))
    words = [_anchor(word) for word, _, lesson in terms(current()) if lesson in names]
    title = translated(f"Learn Istio {release}")
    (out / "plotly.js").write_text(plotly_script(), encoding="utf-8")
    rows = [
        f'<tr><td>{number}</td><td><a href="{name}.html">{html.escape(translated(lessons(release)[name]))}</a></td>'
        f"<td>{translated(f'{minutes(name)} minutes')}</td></tr>"
        for number, name in ((name.partition("-")[0], name) for name in names)
    ]
    about = (
        translated("Each lesson as it was played, with what came out. To play it yourself:")
        + " <code>labkit lab</code> · "
    )
    about += f'<a href="cheat-sheet.html">{translated("On a page")}</a> · '
    about += f'<a href="glossary.html">{translated("Glossary")}</a>'
    _page(out / "index.html", title, f"<h1>{title}</h1><p>{about}</p><table>{''.join(rows)}</table>")
    for number, name in enumerate(names):
        pages = Pages()
        body = _LINK.sub(_to_page(names, words), pages.body(source / f"{name}.ipynb"))
        before = f'<a rel="prev" href="{names[number - 1]}.html">←</a> ' if number else ""
        after = f' <a rel="next" href="{names[number + 1]}.html">→</a>' if number + 1 < len(names) else ""
        way = f'<nav aria-label="{translated("Lessons")}">{before}<a href="index.html">{title}</a>{after}</nav>'
        about = f"{translated(lessons(release)[name])} · {title}"
        _page(out / f"{name}.html", about, f"{way}<main>{body}</main>{way}", figures=pages.figures)
    way = f'<nav aria-label="{translated("Lessons")}"><a href="index.html">{title}</a></nav>'
    further = _reference(source, names, out, way=way)
    return [out / "index.html", *(out / f"{name}.html" for name in names), *further]


def _cheat_sheet(source: Path, release: str, out: Path) -> list[Path]:
    """What the lessons say was learned, on one page, and what they say their terms are, on another."""
    return _reference(source, list(lessons(release)), out)


def _reference(source: Path, names: Sequence[str], out: Path, *, way: str = "") -> list[Path]:
    """Both pages; with a way back to a book they lead to its lessons."""
    from nbconvert.filters import markdown2html

    def named(name: str) -> str:
        words = f"{name.partition('-')[0]} {html.escape(translated(LESSONS[name]))}"
        return f'<a href="{name}.html">{words}</a>' if way else words

    parts = [
        f"<section><h2>{named(name)}</h2><ul>"
        + "".join(f"<li>{_inline(markdown2html(point))}</li>" for point in learned(source, name))
        + "</ul></section>"
        for name in names
        if name != CLEAN_UP
    ]
    sheet, words = out / "cheat-sheet.html", out / "glossary.html"
    title, other = translated("Istio on a page"), translated("Glossary")
    _page(sheet, title, f'{way}<h1>{title}</h1><div class="sheet">{"".join(parts)}</div>{way}')
    rows = [
        f'<dt id="{_anchor(word)}">{html.escape(word)}</dt>'
        f"<dd>{_inline(markdown2html(said))} <small>{named(lesson)}</small></dd>"
        for word, said, lesson in terms(current())
        if lesson in names
    ]
    _page(words, other, f"{way}<h1>{other}</h1><dl>{''.join(rows)}</dl>{way}")
    return [sheet, words]


def _anchor(word: str) -> str:
    return word.replace(" ", "-")


def _inline(markup: str) -> str:
    return markup.strip().removeprefix("<p>").removesuffix("</p>")


def _to_page(names: Sequence[str], words: Collection[str]) -> Callable[[re.Match[str]], str]:
    """How a link reads in the book, to a notebook or a word: to its page, or, to what the release lacks, none."""
    pages = {f"{name}.ipynb": f"{name}.html" for name in names} | {START: "index.html", GLOSSARY: "glossary.html"}
    pages |= {f"{GLOSSARY}#{word}": f"glossary.html#{word}" for word in words}
    return lambda link: f'<a href="{pages[link[1]]}">{link[2]}</a>' if link[1] in pages else link[2]


def _page(path: Path, title: str, body: str, *, figures: bool = False) -> None:
    script = '<script src="plotly.js"></script>' if figures else ""
    path.write_text(
        f'<!DOCTYPE html><html lang="{current()}"><head><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
        f"<style>{style()}</style>{script}</head><body>{body}</body></html>\n",
        encoding="utf-8",
    )


def _slides(source: Path, release: str, out: Path) -> list[Path]:
    """Slides a lesson, with what to say in the notes: to show, with no network."""
    import nbformat

    slides.bring_reveal(out / "reveal")
    shutil.copytree(source / "images", out / "images")
    notes, title, rows = speaker_notes(), translated(f"Learn Istio {release}"), []
    for name, about in lessons(release).items():
        notebook: Any = nbformat.read(source / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
        points = learned(source, name) if name != CLEAN_UP else []
        body = slides.deck(name, notebook.cells, points, notes[name], release)
        (out / f"{name}.html").write_text(slides.page(f"{translated(about)} · {title}", body), encoding="utf-8")
        rows.append(f'<li><a href="{name}.html">{html.escape(translated(about))}</a></li>')
    words = translated("Arrows lead on: → to the next section, ↓ within one. S opens the notes, Esc shows all slides.")
    body = f'<div class="decks"><h1>{title}</h1><p>{words}</p><ol start="0">{"".join(rows)}</ol></div>'
    index = out / "index.html"
    index.write_text(slides.page(title, body), encoding="utf-8")
    return [index, *(out / f"{name}.html" for name in lessons(release))]


def speaker_notes() -> dict[str, str]:
    """What an instructor may say in each lesson: Markdown, by the lesson's name."""
    parts = re.split(r"^## (\S+)\n", _NOTES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    own = translations.said(current(), "speaker-notes")
    english = {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return {name: translations.current_text(own.get(name), text) for name, text in english.items()}


EDITIONS = {
    "student": _student,
    "instructor": _instructor,
    "book": _book,
    "slides": _slides,
    "cheat-sheet": _cheat_sheet,
}
"""The editions, and what writes each."""
