# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.bench`: what it is told, and what it measures then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench import __main__ as bench
from tools.bench.figures import Figure


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The groups that are measured, and the release that a sandbox is started with; nothing is."""
    found: list[str] = []

    def noting(name: str) -> tuple[str, object]:
        return "", lambda _: [found.append(name), Figure(name, 3.0 if name == "idle" else 1.0, "s", None, "", 2.0)][1:]

    @contextlib.contextmanager
    def world(release: str) -> Iterator[None]:
        found.append(release)
        yield

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELEASE", raising=False)
    monkeypatch.setattr(bench, "world", world)
    for table in (bench.INSIDE, bench.ALONE):
        for name in table:
            monkeypatch.setitem(table, name, noting(name))
    return found


def test_help_measures_nothing(measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["--help"])
    assert (ended.value.code, measured) == (0, [])
    told = capsys.readouterr().out
    assert all(f"\n  {name}" in told for name in (*bench.INSIDE, *bench.ALONE))
    assert "RELEASE" in told


def test_all_is_measured_unless_a_group_is_named(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # One of the figures is over its limit.
    assert bench.main([]) == 1
    assert measured == ["1.30.3", *bench.INSIDE, *bench.ALONE]
    measured.clear()
    assert bench.main(["--only", "parts"]) == 0
    assert measured == ["parts"]
    assert "| parts | 1.00 s |" in Path("build/bench/benchmarks.md").read_text()
    measured.clear()
    monkeypatch.setenv("RELEASE", "1.2.2")
    assert bench.main(["--only", "rule", "--only", "crowd"]) == 0
    assert measured == ["1.2.2", "start", "rule", "crowd"]


@pytest.mark.parametrize(("words", "release"), [(["--only", "nothing"], ""), ([], "1.7")])
def test_what_there_is_not_is_refused(
    words: list[str], release: str, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEASE", release)
    with pytest.raises(SystemExit) as ended:
        bench.main(words)
    assert (ended.value.code, measured) == (2, [])
