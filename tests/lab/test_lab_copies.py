# SPDX-License-Identifier: Apache-2.0
"""The learner's copy: made, kept, brought up to date, and never changed where the learner was."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.course.folder import notebooks
from labkit.ground.errors import SettingError
from labkit.lab import copies
from labkit.lab.copies import prepare


def book(*sources: str, **metadata: Any) -> str:
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for i, source in enumerate(sources)
    ]
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of two lessons and a picture."""
    folder = tmp_path / "course"
    (folder / "images").mkdir(parents=True)
    (folder / "00-one.ipynb").write_text(book("1"))
    (folder / "01-two.ipynb").write_text(book("2"))
    (folder / "images" / "a.svg").write_text("<svg/>")
    (folder / ".ipynb_checkpoints").mkdir()
    return folder


def played(path: Path) -> None:
    """What JupyterLab writes after a cell was run."""
    kept = json.loads(path.read_text())
    kept["cells"][0] |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}], "execution_count": 1}
    path.write_text(json.dumps(kept, indent=1))


def test_a_copy_is_made_and_then_left_alone(course: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    made = prepare(mine, source=course)
    assert (made.new, made.added) == (True, ("00-one.ipynb", "01-two.ipynb", "images/a.svg"))
    assert (mine / "01-two.ipynb").read_text() == book("2")
    played(mine / "00-one.ipynb")
    (mine / "notes.md").write_text("mine")
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    again = prepare(mine, source=course)
    assert (again.new, again.added, again.updated, again.kept, again.removed) == (False, (), (), (), ())
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before
    assert again.lines() == [f"your copy of the notebooks, as you left it: {mine}"]


def test_the_course_goes_on_where_the_learner_was_not(course: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (course / "03-old.ipynb").write_text(book("old"))
    (course / "04-old.ipynb").write_text(book("old"))
    prepare(mine, source=course)
    played(mine / "00-one.ipynb")
    played(mine / "04-old.ipynb")
    # JupyterLab writes a notebook down in its own way, also where nobody has changed a cell.
    (mine / "01-two.ipynb").write_text(json.dumps(json.loads(book("2", widgets={})), indent=4))
    (course / "00-one.ipynb").write_text(book("1, better"))
    (course / "01-two.ipynb").write_text(book("2, better"))
    (course / "02-new.ipynb").write_text(book("new"))
    (course / "03-old.ipynb").unlink()
    (course / "04-old.ipynb").unlink()
    touched = (mine / "00-one.ipynb").read_bytes()
    now = prepare(mine, source=course)
    assert (now.added, now.updated) == (("02-new.ipynb",), ("01-two.ipynb",))
    assert (now.kept, now.removed) == (("00-one.ipynb",), ("03-old.ipynb",))
    assert (mine / "01-two.ipynb").read_text() == book("2, better")
    assert (mine / "00-one.ipynb").read_bytes() == touched
    assert (mine / "04-old.ipynb").is_file()
    said = "\n".join(now.lines())
    assert "new: 02-new.ipynb" in said
    assert "updated: 01-two.ipynb" in said
    assert "no longer taught: 03-old.ipynb" in said
    assert "they stay, though the course has newer ones: 00-one.ipynb" in said
    # What was said once is still so the next time.
    assert prepare(mine, source=course).kept == ("00-one.ipynb",)
    # Taken back by hand to what the course has, it is the course's again.
    (mine / "00-one.ipynb").write_text(book("1, better"))
    assert prepare(mine, source=course).kept == ()


def test_a_fresh_one_keeps_the_old_one_aside(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both on one day, whenever this is run.
    noon = datetime(2026, 5, 4, 12, tzinfo=UTC)
    monkeypatch.setattr(copies, "datetime", SimpleNamespace(now=lambda: noon))
    mine = tmp_path / "mine"
    prepare(mine, source=course, fresh=True)
    seen = []
    for word in ("first", "second"):
        (mine / "notes.md").write_text(word)
        made = prepare(mine, source=course, fresh=True)
        assert made.new
        assert not (mine / "notes.md").exists()
        assert made.aside is not None
        assert made.aside.parent == mine.parent
        assert (made.aside / "notes.md").read_text() == word
        assert str(made.aside) in made.lines()[0]
        seen.append(made.aside.name)
    assert seen[1] == f"{seen[0]}-2"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"00-one.ipynb": 7}', b"\xff", b"[" * 100_000])
def test_a_damaged_record_costs_updates_not_work(course: Path, tmp_path: Path, content: bytes) -> None:
    mine = tmp_path / "mine"
    prepare(mine, source=course)
    played(mine / "00-one.ipynb")
    before = (mine / "00-one.ipynb").read_bytes()
    (course / "00-one.ipynb").write_text(book("1, better"))
    (mine / copies.KEEPING / "copied.json").write_bytes(content)
    assert prepare(mine, source=course).kept == ("00-one.ipynb",)
    assert (mine / "00-one.ipynb").read_bytes() == before


def test_what_was_cut_short_is_completed(course: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    prepare(mine, source=course)
    (mine / copies.KEEPING / "copied.json").write_text("{}")
    (mine / "01-two.ipynb").unlink()
    now = prepare(mine, source=course)
    assert (now.added, now.kept) == (("01-two.ipynb",), ())


def test_nothing_else_is_written_into(course: Path, tmp_path: Path) -> None:
    (other := tmp_path / "papers").mkdir()
    (other / "thesis.tex").touch()
    for folder, words in ((other, "it holds thesis.tex"), (course, "the course's own"), (course / "images", "own")):
        before = sorted(folder.rglob("*"))
        with pytest.raises(SettingError, match=words):
            prepare(folder, source=course, fresh=True)
        assert sorted(folder.rglob("*")) == before
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="is no folder"):
        prepare(tmp_path / "file", source=course)
    (tmp_path / "empty").mkdir()
    assert prepare(tmp_path / "empty", source=course).new


def test_the_course_itself_is_copied_whole(tmp_path: Path) -> None:
    made = prepare(tmp_path / "workshop")
    names = {path.name for path in notebooks().glob("*.ipynb")}
    assert {path.name for path in made.folder.glob("*.ipynb")} == names
    assert (made.folder / "00-start.ipynb").is_file()
    assert (made.folder / "glossary.md").read_text() == (notebooks() / "glossary.md").read_text()
    assert any((made.folder / "images").iterdir())
