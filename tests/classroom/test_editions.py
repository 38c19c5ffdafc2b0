# SPDX-License-Identifier: Apache-2.0
"""The course in other shapes: what each has and lacks, and that nothing of somebody else's is written over."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit import display
from labkit.classroom import editions, reference
from labkit.cli import main
from labkit.course import LESSONS, lessons
from labkit.course.exercise import of_lesson
from labkit.ground import language
from labkit.ground.errors import MissingToolError, NotebookError, SettingError
from tests.classroom.book import is_a_book
from tests.conftest import REPOSITORY
from tools.terms import TERMS

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
    assert (out / "glossary.md").read_text() == (REPOSITORY / "notebooks" / "glossary.md").read_text()
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
            data = {"text/html": display.command("kubectl get pods", "NAME " * 60).html, "text/plain": "NAME"}
            code.outputs.append(nbformat.v4.new_output("display_data", data=data))  # type: ignore[no-untyped-call]
        nbformat.write(notebook, folder / f"{name}.ipynb")  # type: ignore[no-untyped-call]
    (folder / "images").symlink_to(REPOSITORY / "notebooks" / "images")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_the_book_reads_without_running_anything(tmp_path: Path, release: str) -> None:
    out = tmp_path / "book"
    index, *pages, sheet, terms = editions.export("book", release, out, played(tmp_path / "played", release))
    assert {index, *pages, sheet, terms} == set(out.glob("*.html"))
    assert "25 minutes" in index.read_text()
    for name, text in is_a_book(out, release).items():
        assert f"&lt;came out of {name}&gt;" in text
        assert ("Plotly.newPlot" in text) == (name == "04-prometheus")
    scrolled = re.search("<pre[^>]*Output of kubectl get pods[^>]*>", (out / "04-prometheus.html").read_text())
    assert scrolled is not None
    assert 'tabindex="0"' in scrolled[0], "it is reached by the keyboard"
    lesson = (out / "12-egress.html").read_text()
    assert '<a href="glossary.html#timeout">timeout</a>' in lesson


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


def test_each_term_is_found_in_a_translation_too(tmp_path: Path) -> None:
    sheet, terms = editions.export("cheat-sheet", "1.30.3", tmp_path / "out", tmp_path, "zh")
    text, words = sheet.read_text(), terms.read_text()
    assert "<h2>08 按请求路由</h2>" in text
    assert text.count("<section>") == len(lessons("1.30.3")) - 1
    assert '<html lang="zh">' in words
    assert words.count("<dt ") == len(reference.terms("en")) == sum(map(len, TERMS.values()))
    said = "Service 是一些 Pod 的名字，这些 Pod 是它的<strong>端点（endpoints）</strong>。"
    assert f"<dd>{said} <small>11 负载均衡与熔断</small></dd>" in words
    assert "**" not in re.sub("<code>.*?</code>", "", text + words)
    assert language.current() == "en", "the process goes on in its own"


def test_what_is_said_to_an_instructor_in_chinese(tmp_path: Path) -> None:
    editions.export("instructor", "1.30.3", tmp_path / "out", tmp_path, "zh")
    said = "".join(cells(tmp_path / "out" / "05-grafana.ipynb")[1]["source"])
    assert said.startswith("> **讲解要点。**\n>\n> 这里没有测量新的东西")
    with pytest.raises(SettingError, match="not in the language 'tlh'"):
        editions.export("book", "1.30.3", tmp_path / "out", tmp_path, "tlh")


@pytest.mark.long
def test_the_book_in_chinese_keeps_what_came_out(tmp_path: Path) -> None:
    out = tmp_path / "book"
    index, *_ = editions.export("book", "1.30.3", out, played(tmp_path / "played", "1.30.3"), "zh")
    assert "<h1>学习 Istio 1.30.3</h1>" in index.read_text()
    assert "<td>25 分钟</td>" in index.read_text()
    page = (out / "08-routing.html").read_text()
    assert '<a href="glossary.html#subset"><strong>子集</strong></a>' in page
    assert '<dt id="subset">subset</dt>' in (out / "glossary.html").read_text()
    assert "谁来决定" in page
    assert "&lt;came out of 08-routing&gt;" in page


@pytest.mark.parametrize("spoken", ["en", "zh"])
def test_slides_are_the_lessons_and_need_nothing_from_elsewhere(tmp_path: Path, spoken: str) -> None:
    out = tmp_path / "slides"
    options = ["--edition", "slides", "--lang", spoken, "--release", "1.2.2", "--out", str(out)]
    assert main(["course", "export", *options]) == 0
    index = (out / "index.html").read_text()
    assert re.findall(r'<li><a href="([\w-]+)\.html">', index) == list(lessons("1.2.2"))
    assert {path.name for path in (out / "reveal").iterdir()} == {
        *("LICENSE", "notes.js", "reset.css", "reveal.css", "reveal.js", "slides.css")
    }
    assert "Hakim El Hattab" in (out / "reveal" / "LICENSE").read_text()
    for name in lessons("1.2.2"):
        text = (out / f"{name}.html").read_text()
        assert f'<html lang="{spoken}">' in text
        assert not re.search(r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//', text), "nothing from elsewhere"
        assert not re.search(r'href="[^"]+\.(ipynb|md)', text), "no notebook is beside it"
        there = re.findall(r'<(?:script|img|link)[^>]* (?:src|href)="([^"]+)"', text)
        assert len(there) >= 5
        assert [one for one in there if not (out / one).is_file()] == []
        assert text.count("<section>") == text.count("</section>")
        assert text.count('<aside class="notes">') >= 1
    said = {"en": "The order of the rules surprises people", "zh": "规则的顺序比规则本身更让人意外"}
    assert said[spoken] in (out / "08-routing.html").read_text()


def test_a_lessons_slides_ask_try_answer_and_set_a_task(tmp_path: Path) -> None:
    editions.export("slides", "1.30.3", tmp_path / "out", tmp_path)
    text = (tmp_path / "out" / "08-routing.html").read_text()
    shown = [re.sub("<[^>]+>", "", part).strip() for part in re.split("<section>", text.partition("<script")[0])]
    asked = [
        number for number, part in enumerate(shown) if part.startswith("The only rule sends end-user: jason to v2")
    ]
    assert len(asked) == 2, "before and after"
    assert shown[asked[0]].endswith("Any of the three versions, as beforeAlways v1Status 404")
    assert shown[asked[0] + 1].startswith("apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService")
    assert '<li class="right">Status 404</li></ol><p>mary and nobody got 404, 30 times of 30</p>' in text
    assert any(part.startswith("Red stars for jasonVersion 3 of reviews is new") for part in shown)
    assert "subset: v3-trial" not in text, "no solution is shown"
    assert text.count('<img class="picture" src="images/routing.svg" alt="The Envoy beside productpage') == 1
    assert shown[-1].startswith("What was learnedThe caller's Envoy decides")
    first = (tmp_path / "out" / "00-kubernetes.html").read_text()
    assert "kubectl config view --minify" in re.sub("<[^>]+>", "", first)


def test_slides_without_reveal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"reveal\.js, which is not installed") as caught:
        editions.export("slides", "1.30.3", tmp_path / "out", tmp_path)
    assert "mesh-workshop[slides]" in caught.value.next_step


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
        "there is no edition 'teacher'\n→ The editions: student, instructor, book, slides, cheat-sheet."
        in capsys.readouterr().err
    )
