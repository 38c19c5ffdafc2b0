# SPDX-License-Identifier: Apache-2.0
"""What is said in another language: looked up where it is shown; what is not there stays English."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import display
from labkit.ground import language
from labkit.ground.errors import CheckError
from labkit.ground.language import translated

CATALOGUE = """
# a head
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

#: somewhere
msgid "no pod"
msgstr "没有 Pod"

msgid "not so: {0}; seen: {1}"
msgstr "所见 {1}，不成立：{0}"

msgid "not so: {0}"
msgstr "不成立：{0}"

msgid "{0} of {1}"
msgstr "{1} 中的 {0}"

msgid ""
"a long "
"\\"text\\""
msgstr "长 {x}"

msgid "nothing yet"
msgstr ""
"""


@pytest.fixture
def chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zh.po").write_text(CATALOGUE, encoding="utf-8")
    monkeypatch.setattr(language, "_FOLDER", tmp_path)
    known = language._Catalogue({english: own for english, own in language.entries("zh").items() if own})
    monkeypatch.setattr(language._Catalogue, "of", lambda _: known)
    monkeypatch.setenv("LABKIT_LANG", "zh_CN.UTF-8")


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(
    ("english", "own"),
    [
        ("no pod", "没有 Pod"),
        ('a long "text"', "长 {x}"),
        # The form that says more comes first, and parts are looked up as well.
        ("not so: no pod; seen: 3", "所见 3，不成立：没有 Pod"),
        ("not so: no {0} pod", "不成立：no {0} pod"),
        ("no pod\n\nnot so: x", "没有 Pod\n\n不成立：x"),
        ("not so: x.\nnot so: no pod", "不成立：x.\n不成立：没有 Pod"),
        ("nothing yet", "nothing yet"),
        ("unknown", "unknown"),
        ("3 of 4", "4 中的 3"),
        ("what is left of it", "what is left of it"),
        ("", ""),
    ],
)
def test_a_text_is_looked_up_as_it_reads(english: str, own: str) -> None:
    assert translated(english) == own


@pytest.mark.usefixtures("chinese")
def test_what_is_shown_is_translated() -> None:
    assert display.message("no pod", "bad", next_step="not so: x").text == "✘ 没有 Pod\n  → 不成立：x"
    assert display.words("no pod").html == '<p style="margin:4px 0">没有 Pod</p>'
    assert display.table([{"no pod": "not so: y"}], ["no pod"]).text == "没有 Pod\n不成立：y"
    error = CheckError("no pod", next_step="unknown")
    assert error._render_traceback_() == ["CheckError: 没有 Pod\n→ unknown"]
    assert str(error) == "no pod\n→ unknown", "who compares errors compares English"


@pytest.mark.usefixtures("chinese")
def test_a_process_may_speak_another_language_than_it_was_told() -> None:
    with language.speaking("en"):
        assert translated("no pod") == "no pod"
    assert translated("no pod") == "没有 Pod"
    with pytest.raises(KeyError), language.speaking("tlh"):
        pass


def test_nobody_said_which_language(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, spoken in (("", "en"), ("tlh", "en"), ("zh", "zh"), ("ZH-Hans", "zh"), ("en_GB.UTF-8", "en")):
        monkeypatch.setenv("LABKIT_LANG", said)
        assert language.current() == spoken
    monkeypatch.delenv("LABKIT_LANG")
    assert language.current() == "en"
