# SPDX-License-Identifier: Apache-2.0
"""The course in other languages: nothing is missing or stale that was there, and copies can be played."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit.course import translations
from labkit.course.folder import notebooks
from labkit.ground import language
from labkit.ground.errors import SettingError
from tools import messages
from tools import translations as tool

WHOLE = {
    *("00-start", "00-kubernetes", "01-install-istio", "02-bookinfo", "03-ingress", "04-prometheus", "05-grafana"),
    *("06-jaeger", "07-kiali", "08-routing", "09-shifting", "10-resilience", "11-load-balancing", "12-egress"),
    *("13-identity", "14-who-may", "15-gateway-tls", "16-gateway-api", "99-clean-up", "speaker-notes"),
}
"""What has been translated: it stays so, but for single cells."""


@pytest.mark.parametrize("own", sorted(language.LANGUAGES.keys() - {"en"}))
def test_nothing_is_missing_or_stale(own: str) -> None:
    assert list(tool.faults(own)) == []
    assert set(tool.UNTRANSLATED[own]) & WHOLE == set()


def test_what_is_stale_is_told_and_shown_in_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "02-bookinfo.ipynb"
    book = json.loads((notebooks() / path.name).read_text())
    changed = next(cell for cell in book["cells"] if cell["id"] == "title-explained")
    changed["source"] = "Another English."
    book["cells"].append({"cell_type": "markdown", "id": "new-one", "metadata": {}, "source": "New."})
    path.write_text(json.dumps(book))
    (tmp_path / "images").mkdir()
    translations.write("zh", tmp_path, tmp_path / "out")
    made = {cell["id"]: cell["source"] for cell in json.loads((tmp_path / "out" / path.name).read_text())["cells"]}
    assert made["title-explained"] == "Another English."
    assert made["new-one"] == "New."
    assert made["title"].startswith("# 网格中的 BookInfo\n")
    english = tool.english("02-bookinfo") | {"title-explained": "Another English.", "new-one": "New."}
    real = tool.english
    monkeypatch.setattr(tool, "english", lambda name: english if name == "02-bookinfo" else real(name))
    where = "notebooks/zh/02-bookinfo.md: cell"
    assert list(tool.faults("zh")) == [
        f"{where} title-explained is stale: read the English again, and then `--stamp 02-bookinfo`",
        f"{where} new-one is missing",
    ]
    monkeypatch.setitem(tool.UNTRANSLATED, "zh", ("02-bookinfo/new-one", "02-bookinfo/title-explained"))
    assert list(tool.faults("zh")) == []
    assert tool.covered("zh").endswith("; shown in English: 02-bookinfo/new-one, 02-bookinfo/title-explained")
    monkeypatch.setattr(tool, "english", real)
    assert f"{where} title-explained is translated; take it out of UNTRANSLATED" in list(tool.faults("zh"))


def test_a_message_that_is_missing_or_of_other_parts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    known = language.entries("zh")
    known["Always v1"] = ""
    known["only {0} to answer"] = "只由它应答"
    known["nobody says this"] = "没有人说"
    monkeypatch.setattr(language, "entries", lambda _: known)
    assert list(tool.faults("zh")) == [
        "labkit/ground/languages/zh.po: 08-routing says 'Always v1', which is missing",
        "labkit/ground/languages/zh.po: nobody says 'nobody says this' any more",
        "labkit/ground/languages/zh.po: 'only {0} to answer' and its translation have other parts",
    ]


def test_a_copy_in_chinese_has_the_same_cells_and_speaks_itself(tmp_path: Path) -> None:
    translations.write("zh", notebooks(), tmp_path)
    names = {path.name for path in notebooks().glob("*.ipynb")}
    assert {path.name for path in tmp_path.glob("*.ipynb")} == names
    for name in names:
        own, english = (json.loads((folder / name).read_text())["cells"] for folder in (tmp_path, notebooks()))
        assert [(one["id"], one["metadata"]) for one in own] == [(one["id"], one["metadata"]) for one in english]
        for one, other in zip(own, english, strict=True):
            before = "".join(other["source"]).splitlines()
            if one["cell_type"] == "code":
                now = one["source"].replace('course.speak("zh")\n', "").splitlines()
                assert [a for a in now if a[:1] != "#"] == [b for b in before if b[:1] != "#"]
        code = "".join(one["source"] for one in own if one["cell_type"] == "code")
        assert code.count('course.speak("zh")\n') == (name != "00-start.ipynb")
    links = json.loads((tmp_path / "08-routing.ipynb").read_text())["cells"][-1]["source"]
    start, following = "[起始页](00-start.ipynb)", "[流量转移与镜像](09-shifting.ipynb)"
    assert links == f"← [网格的图：Kiali](07-kiali.ipynb) · {start} · [术语表](glossary.md) · {following} →"
    assert (tmp_path / "glossary.md").read_text() == (notebooks() / "zh" / "glossary.md").read_text()


def test_the_forms_of_what_is_said_are_found() -> None:
    source = (
        'check(f"{a} of {b} pods", ok, seen=x["no key"])\nraise LabError("no pod" if a else f"two {a}")\nprint("x y")'
    )
    assert list(messages._of_calls(source)) == ["{0} of {1} pods", "no pod", "two {0}"]
    assert "The only rule sends `end-user: jason` to v2. What does mary get?" in messages.messages()["08-routing"]
    assert "Red stars for jason" in messages.messages()["08-routing"]
    assert "`{0}` gets {1}" in messages.messages()["08-routing"]


def test_new_cells_are_stamped_and_old_ones_after_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zh").mkdir()
    path = tmp_path / "zh" / "02-bookinfo.md"
    path.write_text("<!-- cell: title -->\n# T\n\n<!-- cell: closing 000000000000 -->\nC\n")
    monkeypatch.setattr(tool, "notebooks", lambda: tmp_path)
    sums = {cell: translations.digest(text) for cell, text in {"title": "T", "closing": "C"}.items()}
    monkeypatch.setattr(tool, "english", lambda name: {"title": "T", "closing": "C"})
    tool.stamp("zh", [])
    assert path.read_text() == f"<!-- cell: title {sums['title']} -->\n# T\n\n<!-- cell: closing 000000000000 -->\nC\n"
    tool.stamp("zh", ["02-bookinfo"])
    assert f"<!-- cell: closing {sums['closing']} -->" in path.read_text()


def test_a_language_that_there_is_not() -> None:
    with pytest.raises(SettingError, match="not in the language 'tlh'") as caught:
        translations.speak("tlh")
    assert caught.value.next_step == "Choose en (English), zh (中文)."
