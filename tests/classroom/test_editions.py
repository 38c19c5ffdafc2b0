# SPDX-License-Identifier: Apache-2.0
"""The course in other shapes: what each has and lacks, and that nothing of somebody else's is written over."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.classroom import editions, reference
from labkit.cli import main
from labkit.course import LESSONS, lessons
from labkit.course.exercise import of_lesson
from labkit.ground.errors import NotebookError, SettingError
from tests.conftest import REPOSITORY

STEERING = [name for name in LESSONS if of_lesson(name)]


def cells(path: Path) -> list[dict[str, Any]]:
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    found: list[dict[str, Any]] = notebook.cells
    return found


def solutions(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in cells(path) if "solution" in cell["metadata"].get("tags", [])]


@pytest.mark.long
def test_learners_get_no_solutions(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["course", "export", "--edition", "student", "--out", str(out)]) == 0
    assert {path.stem for path in out.glob("*.ipynb")} == {*LESSONS, "00-start"}
    for name in LESSONS:
        there = cells(out / f"{name}.ipynb")
        own = cells(REPOSITORY / "notebooks" / f"{name}.ipynb")
        assert there == [cell for cell in own if "solution" not in cell["metadata"].get("tags", [])]
    assert {path.name for path in (out / "images").iterdir()} == {
        path.name for path in (REPOSITORY / "notebooks" / "images").iterdir()
    }


@pytest.mark.long
def test_the_instructor_sees_solutions_and_what_to_say(tmp_path: Path) -> None:
    editions.export("instructor", "1.30.3", tmp_path / "out", tmp_path)
    for name in LESSONS:
        path = tmp_path / "out" / f"{name}.ipynb"
        own = REPOSITORY / "notebooks" / f"{name}.ipynb"
        assert [cell["source"] for cell in solutions(path)] == [cell["source"] for cell in solutions(own)]
        assert not any("jupyter" in cell["metadata"] for cell in solutions(path)), "unfolded"
        assert bool(solutions(path)) or name not in STEERING
        assert "".join(cells(path)[1]["source"]).startswith("> **To say.**\n>\n> ")


def test_each_lesson_has_something_to_say() -> None:
    notes = editions.speaker_notes()
    assert list(notes) == list(LESSONS)
    assert all(len(text.split()) > 15 for text in notes.values())


def played(folder: Path, release: str) -> Path:
    """Notebooks as a run leaves them, with something that came out in each."""
    folder.mkdir()
    for name in lessons(release):
        notebook: Any = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
        code = next(cell for cell in notebook.cells if cell.cell_type == "code")
        code.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"<came out of {name}>")]  # type: ignore[no-untyped-call]
        if name == "04-prometheus":
            figure = {"data": [{"type": "bar", "y": [1]}], "layout": {}}
            data = {"application/vnd.plotly.v1+json": figure, "text/plain": "a figure"}
            code.outputs.append(nbformat.v4.new_output("display_data", data=data))  # type: ignore[no-untyped-call]
        nbformat.write(notebook, folder / f"{name}.ipynb")  # type: ignore[no-untyped-call]
    (folder / "images").symlink_to(REPOSITORY / "notebooks" / "images")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_the_book_reads_without_running_anything(tmp_path: Path, release: str) -> None:
    out = tmp_path / "book"
    index, *pages, sheet, terms = editions.export("book", release, out, played(tmp_path / "played", release))
    text = index.read_text()
    assert re.findall(r'<td><a href="([\w-]+)\.html">', text) == list(lessons(release))
    assert "25 minutes" in text
    for path, name in zip(pages, lessons(release), strict=True):
        text = path.read_text()
        assert f"&lt;came out of {name}&gt;" in text
        assert 'href="index.html"' in text
        assert not re.search(r'href="\d\d-[a-z-]+\.ipynb"', text)
        assert not re.search(r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//', text), "nothing from elsewhere"
        assert ("Plotly.newPlot" in text) == ('src="plotly.js"' in text) == (name == "04-prometheus")
    pages += [sheet, terms]
    linked = {one for path in [index, *pages] for one in re.findall(r'href="([\w-]+\.html)"', path.read_text())}
    assert linked == {path.name for path in [index, *pages]}
    assert len((out / "plotly.js").read_text()) > 1_000_000


def test_the_cheat_sheet_and_the_glossary_are_the_lessons_own_words(tmp_path: Path) -> None:
    sheet, terms = editions.export("cheat-sheet", "1.30.3", tmp_path / "out", tmp_path)
    text = sheet.read_text()
    assert "<h2>08 Routing by request</h2>" in text
    assert text.count("<section>") == len(lessons("1.30.3")) - 1
    assert all(text.count(f"<section><h2>{name[:2]} ") == 1 for name in list(lessons("1.30.3"))[:-1])
    words = terms.read_text()
    said = "A <strong>VirtualService</strong> is a list of rules for a host. <small>08 Routing by request</small>"
    assert f'<dt id="VirtualService">VirtualService</dt><dd>{said}</dd>' in words
    assert "<a " not in text + words, "there is no book to lead to"


def test_each_term_is_said_in_whole_sentences() -> None:
    found = reference.glossary(REPOSITORY / "notebooks")
    assert [one.name for one in found] == sorted((one.name for one in found), key=str.lower)
    assert len(found) == len({one.name for one in found}) == sum(map(len, reference.TERMS.values()))
    for one in found:
        assert re.fullmatch(r"[A-Z`*].*[.!…]\)?", one.said), one
        assert one.said.count("`") % 2 == one.said.count("**") % 2 == 0, one
        assert one.said.count("(") == one.said.count(")"), one


def test_a_term_that_no_lesson_explains_is_told(tmp_path: Path) -> None:
    for path in (REPOSITORY / "notebooks").glob("*.ipynb"):
        (tmp_path / path.name).write_text(path.read_text().replace("**ring**", "ring"))
    with pytest.raises(NotebookError, match=r"11-load-balancing does not say what \*\*ring\*\* is"):
        reference.glossary(tmp_path)


def test_a_book_of_what_was_not_played(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"has no 00-kubernetes\.ipynb, nor \d+ others") as caught:
        editions.export("book", "1.30.3", tmp_path / "book", tmp_path / "played")
    assert "labkit run --release 1.30.3" in caught.value.next_step
    assert not (tmp_path / "book").exists()


def test_nothing_of_others_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for out in (tmp_path, tmp_path / "mine"):
        with pytest.raises(SettingError, match="holds something else"):
            editions.export("student", "1.30.3", out, tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"
    for _ in range(2):
        editions.export("student", "1.2.2", tmp_path / "new", tmp_path)


def test_no_such_edition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "export", "--edition", "teacher", "--out", str(tmp_path / "out")]) == 1
    assert (
        "there is no edition 'teacher'\n→ The editions: student, instructor, book, cheat-sheet."
        in capsys.readouterr().err
    )
