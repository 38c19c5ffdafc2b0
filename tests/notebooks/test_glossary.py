# SPDX-License-Identifier: Apache-2.0
"""The glossary, and what leads there: first uses of its words, in each lesson and language."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from labkit.course import LESSONS, translations
from labkit.course.folder import GLOSSARY, notebooks, unlinked
from labkit.ground import language
from tools import glossary
from tools.terms import TERMS, Explained, explained

LED = re.compile(r"\[([^]]+)\]\(glossary\.md#([^)]+)\)")
RING = Explained("ring", "ring", "A **ring**.", "11-load-balancing")
GATEWAY = Explained("Gateway", "Gateway", "A **Gateway**.", "03-ingress")
SUBSET = Explained("subsets", "subsets", "**subsets**", "03-ingress")
RESOLVED = Explained("subsets", "子集（subsets）", "**子集（subsets）**", "03-ingress")
INIT = Explained("`istio-init`", "`istio-init`", "**`istio-init`**", "02-bookinfo")


@pytest.mark.parametrize("own", sorted(language.LANGUAGES))
def test_nothing_is_stale_and_each_link_leads_to_an_entry(own: str, tmp_path: Path) -> None:
    assert [path for path, text in glossary.files() if path.read_text(encoding="utf-8") != text] == []
    source = notebooks()
    if own != language.SOURCE:
        translations.write(own, notebooks(), tmp_path)
        source = tmp_path
    page = (source / GLOSSARY).read_text(encoding="utf-8")
    entries = [heading.replace(" ", "-") for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)]
    assert len(set(entries)) == len(entries) == sum(map(len, TERMS.values()))
    assert entries == sorted(entries, key=lambda entry: entry.replace("-", " ").lower())
    assert {*re.findall(r"\]\((.+)\.ipynb\)", page)} <= LESSONS.keys()
    led: set[str] = set()
    for name in LESSONS:
        cells = json.loads((source / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        found = [word for cell in cells for _, word in LED.findall("".join(cell["source"]))]
        assert len(found) == len(set(found)), f"{name} leads to a word once"
        led.update(found)
    assert led <= set(entries)
    assert {"VirtualService", "endpoint", "mutual-TLS", "subset", "timeout", "trace"} <= led


@pytest.mark.parametrize(
    ("term", "text", "expected"),
    [
        (GATEWAY, "A Gateway, and a Gateway.", "A [Gateway](glossary.md#Gateway), and a Gateway."),
        (GATEWAY, "The Gateway API has Gateways.", "The Gateway API has [Gateways](glossary.md#Gateway)."),
        (GATEWAY, "# A Gateway\nthe `Gateway`", "# A Gateway\nthe [`Gateway`](glossary.md#Gateway)"),
        (GATEWAY, "```yaml\nkind: Gateway\n```", "```yaml\nkind: Gateway\n```"),
        (GATEWAY, "`kind: Gateway` or [a Gateway](x.md)", "`kind: Gateway` or [a Gateway](x.md)"),
        (GATEWAY, "![A Gateway](a.svg) <b title='Gateway'>", "![A Gateway](a.svg) <b title='Gateway'>"),
        (
            GATEWAY,
            "<summary>A Gateway?\nA Gateway.\n\nA Gateway.",
            "<summary>A Gateway?\nA Gateway.\n\nA [Gateway](glossary.md#Gateway).",
        ),
        (GATEWAY, "a **Gateway**, old", "a [**Gateway**](glossary.md#Gateway), old"),
        (GATEWAY, "[Gateway](glossary.md#elsewhere)", "[Gateway](glossary.md#Gateway)"),
        (RING, "Ring by ring, a string", "[Ring](glossary.md#ring) by ring, a string"),
        (RING, "a string, a ring-shaped", "a string, a ring-shaped"),
        (SUBSET, "two subsets", "two [subsets](glossary.md#subset)"),
        (INIT, "first `istio-init`", "first [`istio-init`](glossary.md#istio-init)"),
        (RESOLVED, "通向**子集**的", "通向[**子集**](glossary.md#subset)的"),
        (RESOLVED, "每个 subset 都有", "每个 [subset](glossary.md#subset) 都有"),
    ],
)
def test_the_first_use_is_led(term: Explained, text: str, expected: str) -> None:
    assert glossary.linked("08-routing", {"a": text, "b": text}, [term])["a"] == expected
    assert glossary.linked("08-routing", {"a": expected}, [term])["a"] == expected, "written again, nothing changes"
    assert (
        LED.search(glossary.linked("08-routing", {"a": expected, "b": text}, [term])["b"]) is None or expected == text
    )


def test_where_a_word_is_explained_it_is_not_led() -> None:
    before = {"a": "Users lie on a ring.", "b": "A **ring** is round. The ring."}
    assert glossary.linked("11-load-balancing", before, [RING])["b"] == before["b"]
    assert glossary.linked("11-load-balancing", before, [RING])["a"] == "Users lie on a [ring](glossary.md#ring)."
    after = {"b": before["b"], "c": "the ring"}
    assert glossary.linked("11-load-balancing", after, [RING]) == after


def test_links_make_no_translation_stale() -> None:
    text = "A [**ring**](glossary.md#ring) of [endpoints](glossary.md#endpoint), [here](11-load-balancing.ipynb)."
    plain = "A **ring** of endpoints, [here](11-load-balancing.ipynb)."
    assert unlinked(text) == plain
    assert translations.digest(text) == translations.digest(plain)


def test_what_is_stale_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebooks() / GLOSSARY
    monkeypatch.setattr(glossary, "files", lambda: iter([(path, "other"), (path, path.read_text(encoding="utf-8"))]))
    assert glossary.main(["--check"]) == 1
    assert capsys.readouterr().out == (
        "notebooks/glossary.md: the glossary, or what leads there, is stale: `python -m tools.glossary` writes it\n"
    )
    monkeypatch.setattr(glossary, "files", lambda: iter([(path, path.read_text(encoding="utf-8"))]))
    assert glossary.main(["--check"]) == 0


def test_each_word_is_explained_in_whole_sentences() -> None:
    found = explained(notebooks())
    assert [one.word for one in found] == sorted((one.word for one in found), key=str.lower)
    assert len(found) == len({one.word for one in found}) == sum(map(len, TERMS.values()))
    for one in found:
        assert re.fullmatch(r"[A-Z`*].*[.!…]\)?", one.said), one
        assert one.said.count("`") % 2 == one.said.count("**") % 2 == 0, one
        assert one.said.count("(") == one.said.count(")"), one


def test_a_word_that_no_lesson_explains_is_told(tmp_path: Path) -> None:
    for path in notebooks().glob("*.ipynb"):
        (tmp_path / path.name).write_text(path.read_text().replace("**ring**", "ring"))
    with pytest.raises(LookupError, match=r"11-load-balancing does not say what \*\*ring\*\* is"):
        explained(tmp_path)
