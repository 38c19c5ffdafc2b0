# SPDX-License-Identifier: Apache-2.0
"""What an exam's result says, and the page that is made of it."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from labkit import cluster, display, kernel
from labkit.course.exercises import certificate
from labkit.course.exercises.slo import LEAST, OBJECTIVES, Result, Spent
from labkit.ground.errors import CheckError, SettingError

FAILED, LATE = OBJECTIVES
BEGUN, ENDED = datetime(2026, 5, 4, 9, 0, tzinfo=UTC), datetime(2026, 5, 4, 9, 12, 34, tzinfo=UTC)
PASSED = Result(
    "1.30.3",
    BEGUN,
    ENDED,
    (Spent(FAILED, 4000, 10), Spent(LATE, 4000, 120)),
    0.0834,
    (("A canary", True), ("Who may call", True)),
)


class Text(HTMLParser):
    """What a reader of a page sees, and the tags in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip() and self.tags[-1] != "style":
            self.words.append(data.strip())


def test_a_budget_in_numbers_and_words() -> None:
    kept, missed = Spent(LATE, 4000, 120), Spent(FAILED, 4000, 100)
    assert kept.share == 0.03
    assert kept.used == pytest.approx(0.6)
    assert kept.words == "120 of 4000 later than 1 s (3.0%); 200 are allowed"
    assert (missed.share, missed.used) == (0.025, 2.5)
    assert missed.words == "100 of 4000 not answered with 200 (2.5%); 40 are allowed: 60 too many, 2.5 times the budget"
    assert (Spent(FAILED, 0, 0).share, Spent(FAILED, 0, 0).used) == (0.0, 0.0)


def test_all_of_a_budget_may_be_used_and_no_more() -> None:
    assert replace(PASSED, spent=(Spent(FAILED, 4000, 40), Spent(LATE, 4000, 200))).lacks == ()
    (over,) = replace(PASSED, spent=(Spent(FAILED, 4000, 41), Spent(LATE, 4000, 200))).lacks
    assert "1 too many" in over


def test_what_a_result_lacks() -> None:
    assert PASSED.lacks == ()
    assert PASSED.require() is PASSED
    assert "2 of 2 tasks solved; 4000 calls counted in 754 s; 95 of 100 answered within 83 ms" in str(PASSED)
    few = replace(PASSED, spent=tuple(Spent(one, LEAST - 1, 0) for one in OBJECTIVES))
    assert few.lacks == ("only 199 calls were counted, 200 at least are to be",)
    half = replace(PASSED, tasks=(("A canary", True), ("Who may call", False)))
    assert half.lacks == ("not solved: Who may call",)
    assert "1 of 2 tasks solved" in str(half)
    with pytest.raises(CheckError, match="not passed: not solved: Who may call") as raised:
        half.require()
    assert "What was lost counts" in raised.value.next_step


def test_the_page_says_what_was_measured() -> None:
    seen = Text(certificate.page(PASSED, "Ann  Example"))
    text = " ".join(seen.words)
    for said in (
        "Ann Example has passed the exam of the course “Learn Istio, by playing it” with Istio 1.30.3, on 2026-05-04.",
        "Tasks solved 2 of 2: A canary; Who may call",
        "Requests counted 4000, of productpage to reviews",
        "Time under load 12 min 34 s",
        "95 of 100 answered within 83 ms",
        "at most 1% not answered with 200 10 of 4000 25%",
        "at most 5% later than 1 s 120 of 4000 60%",
        "Nobody has watched, and nobody has signed this page.",
    ):
        assert said in text, said
    assert "Apache" not in certificate.page(PASSED, ""), "the form's licence is not that of what is written on it"


def test_a_name_is_words_whatever_is_in_it() -> None:
    name = '<script>alert(1)</script> & "Ann" $rows </title>\''
    page = certificate.page(PASSED, name)
    seen = Text(page)
    assert "script" not in seen.tags
    assert seen.words.count(name) == 1
    assert seen.words[0] == f"{name}: a new version, out under load"
    assert "default-src 'none'" in page, "nothing is loaded by it"


def test_without_a_name_there_is_a_line_to_write_on() -> None:
    page = certificate.page(PASSED, "  ")
    assert 'class="blank" role="img" aria-label="a line for the name"' in page
    assert 'class="blank"' not in certificate.page(PASSED, "Ann")


def test_a_name_that_is_too_long_is_refused() -> None:
    certificate.page(PASSED, "a" * 80)
    with pytest.raises(SettingError, match="a name of 81 characters has no place"):
        certificate.page(PASSED, "a" * 81)


def test_it_is_for_light_for_dark_and_for_paper() -> None:
    style = certificate.page(PASSED, "Ann").partition("</style>")[0]
    # Each colour is said for each of them, and none stands anywhere else.
    names = [set(re.findall(r"(--[a-z]+): #", block)) for block in re.findall(r":root \{([^}]*)\}", style)]
    assert len(names) == 3
    assert names[0] == names[1] == names[2]
    assert set(re.findall(r"var\((--[a-z]+)\)", style)) <= names[0]
    for said in ("prefers-color-scheme: dark", "@media print", "@page"):
        assert said in style


def test_a_page_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = certificate.show(PASSED, "Ann", tmp_path)
    assert first == tmp_path / "certificate-2026-05-04.html"
    assert first.stat().st_mode & 0o777 == 0o600
    before = first.read_text()
    assert "stays" not in capsys.readouterr().out
    second = certificate.show(PASSED, "Bob", tmp_path)
    said = capsys.readouterr().out
    assert second == tmp_path / "certificate-2026-05-04-2.html"
    assert f"{second}. What was there of an earlier exam stays." in said
    assert "Open it in a browser to print it." in said
    assert first.read_text() == before
    assert "Bob" in second.read_text()
    (tmp_path / "certificate-2026-05-04-3.html").symlink_to(tmp_path / "elsewhere")
    assert certificate.write(PASSED, "Eve", tmp_path).name == "certificate-2026-05-04-4.html"
    assert not (tmp_path / "elsewhere").exists()


def test_the_frame_holds_the_page_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(display, "show", lambda what: shown.append(what.html))
    path = certificate.show(PASSED, '"><b>Ann', tmp_path)
    (source,) = re.findall(r'<iframe srcdoc="([^"]*)" title="The certificate" sandbox=""', shown[0])
    assert html.unescape(source) == path.read_text()


def test_where_it_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"the certificate cannot be written: .*: No such file or directory"):
        certificate.write(PASSED, "Ann", tmp_path / "nowhere")
    with pytest.raises(CheckError, match="not solved"):
        certificate.write(replace(PASSED, tasks=(("A canary", False),)), "Ann", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_is_written_beside_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "course_folder", lambda: tmp_path / "course")
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("JPY_SESSION_NAME", str(mine / "19-exam.ipynb"))
    assert certificate.folder() == mine
    for elsewhere in ("19-exam.ipynb", str(tmp_path / "gone" / "19-exam.ipynb")):
        monkeypatch.setenv("JPY_SESSION_NAME", elsewhere)
        assert certificate.folder() == tmp_path / "course"
    monkeypatch.delenv("JPY_SESSION_NAME")
    assert certificate.folder() == tmp_path / "course"

    class Shell:
        user_ns = {"__vsc_ipynb_file__": str(mine / "19-exam.ipynb")}  # noqa: RUF012

    monkeypatch.setattr(kernel, "running", Shell)
    assert certificate.folder() == mine
