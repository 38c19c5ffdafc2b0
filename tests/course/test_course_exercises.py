# SPDX-License-Identifier: Apache-2.0
"""The engine of exercises without a mesh: definitions, looking again, hints, clicks, guesses, what is remembered."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import bookinfo, clicks, cluster, istio
from labkit.course import LESSONS, Progress, exercises, rules
from labkit.course import exercise as engine
from labkit.course import lesson as lessons
from labkit.course.checks import Check
from labkit.course.exercise import Exercise, of_lesson, only
from labkit.course.exercises import asking
from labkit.course.lesson import Lesson
from labkit.ground.errors import CheckError, ClusterError, NoTargetError
from tests.conftest import REPOSITORY

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
Judge = Callable[[Any], Iterator[Check]]


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What was asked of the namespace's rules."""
    asked: list[tuple[str, ...]] = []

    def restore(release: istio.Release, more: tuple[str, ...]) -> Any:
        asked.append(tuple(more))
        return engine.display.message("rules", "note")

    monkeypatch.setattr(rules, "restore", restore)
    monkeypatch.setattr(engine, "PATIENCE", 0.0)
    return asked


@pytest.fixture
def lesson(tmp_path: Path, brought: list[tuple[str, ...]]) -> Iterator[Lesson]:
    clicks.forget()
    yield Lesson("08-routing", istio.release("1.30.3"), Progress(tmp_path))
    clicks.forget()


def defined(monkeypatch: pytest.MonkeyPatch, judge: Judge, **more: Any) -> Exercise:
    """The lesson's only exercise from now on."""
    made = Exercise("x", "Title", "Do `it`.", ("First.", "Second."), judge, **more)
    monkeypatch.setattr(engine, "of_lesson", lambda name: (made,))
    return made


def test_every_definition_can_be_played() -> None:
    modules = {one.name for one in pkgutil.iter_modules(exercises.__path__)}
    shown = {name: set(re.findall(r'lesson\.exercise\(\\"([\w-]+)\\"\)', path.read_text()))
             for name in LESSONS for path in [REPOSITORY / "notebooks" / f"{name}.ipynb"]}  # fmt: skip
    assert shown["08-routing"]
    for name in LESSONS:
        names = [one.name for one in of_lesson(name)]
        assert set(names) == shown[name], f"{name} shows each exercise that it has"
        assert len(set(names)) == len(names)
        for one in of_lesson(name):
            assert NAME.fullmatch(one.name)
            assert len(one.name) <= 60, "clicks.js asks for no longer ones"
            assert len(one.hints) == 2
            assert one.title
            assert one.task
    for module in modules & {name.partition("-")[2].replace("-", "_") for name in LESSONS}:
        assert importlib.import_module(f"labkit.course.exercises.{module}").EXERCISES


def test_a_lesson_without_exercises_and_an_unknown_one_are_told() -> None:
    assert of_lesson("01-install-istio") == ()
    with pytest.raises(CheckError, match="02-bookinfo has no exercise 'x'") as caught:
        only("02-bookinfo", "x")
    assert caught.value.next_step == "It has: none at all."


def test_it_is_looked_at_again_until_all_is_so(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([False, False, True, False])
    monkeypatch.setattr(engine, "PATIENCE", 600.0)
    monkeypatch.setattr(engine, "_REST", 0.0)
    defined(monkeypatch, lambda _: iter([Check("it is so", next(looks))]))
    lesson.exercise("x").check()
    assert next(looks) is False, "and then no more"
    assert list(lesson.progress.exercises["08-routing"]) == ["x"]
    assert list(Progress(lesson.progress.folder).exercises["08-routing"]) == ["x"], "kept"


def test_what_is_not_so_is_an_error_in_a_cell_and_a_table_at_a_click(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    defined(monkeypatch, lambda _: iter([Check("a", True), Check("b", False, "2 of 3", "Do B.")]))
    with pytest.raises(CheckError, match="not so: b; seen: 2 of 3") as caught:
        lesson.exercise("x").check()
    assert caught.value.next_step == "Do B."
    capsys.readouterr()
    clicks.clicked("check", "x")
    said = capsys.readouterr().out
    assert "✘  b      2 of 3  Do B." in said
    assert "Not yet" in said
    assert lesson.progress.exercises == {}


@pytest.mark.parametrize("found", [[], [Check("a", True), Check("b", True, needed=False)]], ids=["nothing", "all"])
def test_nothing_found_is_not_solved(lesson: Lesson, monkeypatch: pytest.MonkeyPatch, found: list[Check]) -> None:
    defined(monkeypatch, lambda _: iter(found))
    played = lesson.exercise("x")
    if found:
        played.check()
    else:
        with pytest.raises(CheckError):
            played.check()


def test_a_cluster_that_refuses_is_a_finding_and_a_lost_one_an_error(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Any) -> Iterator[Check]:
        yield Check("a", True)
        raise ClusterError("no such pod", next_step="Look.")

    defined(monkeypatch, refused)
    assert [(one.passed, one.seen) for one in lesson.exercise("x").look()] == [(True, ""), (False, "no such pod")]

    def lost(_: Any) -> Iterator[Check]:
        raise NoTargetError("lost")
        yield

    lesson.rules()
    defined(monkeypatch, lost)
    with pytest.raises(NoTargetError):
        lesson.exercise("x").look()


def test_hints_come_one_by_one_and_begin_anew_with_a_reset(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    defined(monkeypatch, lambda _: iter([]), start=("a.yaml",))
    played = lesson.exercise("x")
    said = []
    for call in ("hint", "hint", "hint", "reset", "hint"):
        capsys.readouterr()
        clicks.clicked(call, "x")
        said.append(capsys.readouterr().out)
    assert [re.findall(r"Hint \d", one) for one in said] == [["Hint 1"], ["Hint 2"], ["Hint 2"], [], ["Hint 1"]]
    assert "`" not in played.rich().html
    assert "<code>it</code>" in played.rich().html


def test_what_was_tried_stays_until_another_exercise_or_rules_come(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, brought: list[tuple[str, ...]]
) -> None:
    defined(monkeypatch, lambda _: iter([]), start=("a.yaml",))
    played = lesson.exercise("x")
    assert lesson.exercise("x") is played
    assert brought == [("a.yaml",)]
    played.reset()
    assert lesson.exercise("x") is played
    lesson.rules("b.yaml")
    assert lesson.exercise("x") is not played
    assert brought == [("a.yaml",), ("a.yaml",), ("b.yaml",), ("a.yaml",)]


def test_an_exercise_that_goes_on_keeps_what_was_made_before_it(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, brought: list[tuple[str, ...]]
) -> None:
    applied: list[tuple[str, str]] = []
    monkeypatch.setattr(cluster, "apply", lambda what, namespace, show: applied.append((what, namespace)))
    both = [
        Exercise(name, name, "Do it.", ("First.", "Second."), lambda _: iter([]), start=start, brings=brings)
        for name, start, brings in (("one", ("1.yaml",), None), ("two", ("2.yaml",), ("new.yaml", "newer.yaml")))
    ]
    monkeypatch.setattr(engine, "of_lesson", lambda name: tuple(both))
    lesson.exercise("one")
    lesson.exercise("two")
    assert (brought, applied) == ([("1.yaml",)], [("new.yaml", "bookinfo"), ("newer.yaml", "bookinfo")])
    # Shown once more it is left as it is; its start is its own, and what it begins with where nothing came before.
    lesson.exercise("two").reset()
    lesson.rules()
    lesson.exercise("two")
    assert (brought[1:], len(applied)) == ([("2.yaml",), (), ("2.yaml",)], 2)


def test_a_release_without_it_says_so_and_judges_nothing(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, brought: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    defined(monkeypatch, lambda _: iter([Check("a", False)]), releases=("1.2.2",))
    played = lesson.exercise("x")
    played.check()
    played.reset()
    assert brought == []
    assert capsys.readouterr().out.count("It is for 1.2.2") == 3


def test_a_click_in_a_kernel_that_knows_nothing_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    clicks.forget()
    for call, name in (("check", "x"), ("eval", "x")):
        clicks.clicked(call, name)
        assert "Run All Above Selected Cell" in capsys.readouterr().out


def test_the_page_and_the_kernel_have_the_same_calls() -> None:
    folder = REPOSITORY / "labkit" / "ui" / "jupyter" / "share" / "jupyter" / "labextensions" / "labkit"
    listed = re.search(r"const CALLS = (\[.*?\]);", (folder / "clicks.js").read_text())
    assert listed
    assert tuple(json.loads(listed[1])) == clicks.CALLS


def test_a_prediction_is_kept_until_the_experiment_answers(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["One.", "Two."]
    prediction = lesson.predict("What?", options)
    clicks.clicked("predict", prediction.name, 1)
    again = lesson.predict("What?", options)
    assert again.chosen == 1, "the cell was run again"
    capsys.readouterr()
    again.settle(0, seen="7 of 7")
    said = capsys.readouterr().out
    assert "It was A, “One”: 7 of 7" in said
    assert "You had said B, “Two”." in said
    again.choose("A")
    assert again.chosen == 1
    assert lesson.predict("What?", options).chosen is None, "a new experiment"


def test_nobody_has_to_predict(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    prediction = lesson.predict("What?", ["one", "two", "three"])
    prediction.settle("three")
    assert "said" not in capsys.readouterr().out.split("It was")[1]
    prediction = lesson.predict("What else?", ["one", "two", "three"])
    for which, number in (("b", 1), ("C", 2), ("one", 0), (1, 1)):
        prediction.choose(which)
        assert prediction.chosen == number
    prediction.settle("b")
    assert "That is what you had said." in capsys.readouterr().out
    for wrong in ("d", 3, -1, "four"):
        with pytest.raises(CheckError, match="none of the answers"):
            prediction.settle(wrong)
    with pytest.raises(CheckError, match="2 to 8 answers, not 1"):
        lesson.predict("Why?", ["only"])


def test_what_was_solved_before_there_were_exercises_is_nothing(tmp_path: Path) -> None:
    kept = {"of": "", "finished": {"02-bookinfo": "t"}, "lessons": {"02-bookinfo": {"a": "t"}}}
    (tmp_path / "progress.json").write_text(json.dumps(kept))
    progress = Progress(tmp_path)
    assert progress.exercises == {}
    progress.solved("08-routing", "x")
    assert Progress(tmp_path).lessons == {"02-bookinfo": {"a": "t"}}
    assert list(Progress(tmp_path).exercises) == ["08-routing"]
    progress.forget()
    assert Progress(tmp_path).exercises == {}


def test_a_lesson_that_begins_has_no_buttons_of_another(monkeypatch: pytest.MonkeyPatch, as_before: None) -> None:
    clicks.offer("x", Lesson)  # type: ignore[arg-type]
    monkeypatch.setattr(lessons.choice, "chosen", lambda *_: (_ for _ in ()).throw(CheckError("stop")))
    with pytest.raises(CheckError, match="stop"):
        lessons.begin("08-routing")
    assert clicks._known == {}


@pytest.mark.parametrize(
    ("bad", "asked", "seen"), [(0, 6, "Sorry"), (40, 60, "Sorry"), (60, 60, "60 pages, all whole")]
)
def test_a_page_is_whole_when_no_version_spoils_it(
    monkeypatch: pytest.MonkeyPatch, bad: int, asked: int, seen: str
) -> None:
    """One version may answer many times in a row before another one shows what is missing."""
    pages = [bookinfo.Page(200, bookinfo.TITLE, "none", "v1", ("Sorry",) if n == bad else ()) for n in range(60)]
    sent = iter(pages)
    monkeypatch.setattr(istio, "ingress", lambda show: type("Way", (), {"url": "http://127.0.0.1:1"}))
    monkeypatch.setattr(bookinfo, "page", lambda url: next(sent))
    (one,) = asking.page("the page is whole", "")
    assert (one.passed, one.seen, len([*sent])) == (bad == 60, seen, 60 - asked)
