# SPDX-License-Identifier: Apache-2.0
"""What the course keeps beside a cluster, damaged: ticks are lost, or a sentence says what to do; never a traceback."""

from __future__ import annotations

import errno
import json
import multiprocessing
from pathlib import Path

import pytest

from labkit.cluster.inventory import Entry, Snapshot
from labkit.course.progress import Progress
from labkit.ground import files
from labkit.ground.errors import ClusterError
from tests.conftest import PATIENCE
from tests.sandbox.damage import DAMAGES

ODD = {
    "a list": b"[]",
    "other kinds": b'{"lessons": {"00-kubernetes": 7}, "finished": [], "objects": 7, "images": 7}',
    "deep": b"[" * 100_000,
}


def damaged(content: bytes) -> dict[str, bytes | None]:
    return {how: change(content) for how, change in DAMAGES.items()} | ODD


def test_damaged_progress_costs_ticks_only(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    progress.passed("00-kubernetes", "nodes")
    progress.finish("00-kubernetes")
    path = tmp_path / "progress.json"
    whole = path.read_bytes()
    for how, content in damaged(whole).items():
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        again = Progress(tmp_path)
        assert (again.lessons, again.finished) == ({}, {}), how
        assert "00-kubernetes" in again.rich("00-kubernetes").text
        again.passed("00-kubernetes", "nodes")
        assert set(json.loads(path.read_bytes())["lessons"]) == {"00-kubernetes"}


def test_progress_that_cannot_be_kept_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    Progress(tmp_path / "file" / "course").finish("00-kubernetes")
    assert "Your progress cannot be kept" in capsys.readouterr().out


def tick(folder: Path, lesson: str, count: int) -> None:
    progress = Progress(folder)
    for number in range(count):
        progress.passed(lesson, f"{number}")
    progress.finish(lesson)


def test_notebooks_open_at_once_lose_no_tick(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    playing = [processes.Process(target=tick, args=(tmp_path, name, 40)) for name in ("02-bookinfo", "03-ingress")]
    for one in playing:
        one.start()
    for one in playing:
        one.join(PATIENCE)
        assert one.exitcode == 0
    kept = Progress(tmp_path)
    assert {name: len(ticks) for name, ticks in kept.lessons.items()} == {"02-bookinfo": 40, "03-ingress": 40}
    assert set(kept.finished) == {"02-bookinfo", "03-ingress"}


def test_what_another_notebook_ticked_meanwhile_stays(tmp_path: Path) -> None:
    one, other = Progress(tmp_path), Progress(tmp_path)
    one.passed("02-bookinfo", "six pods")
    other.finish("03-ingress")
    one.passed("02-bookinfo", "2/2")
    for seen in (one, Progress(tmp_path)):
        assert {name: list(ticks) for name, ticks in seen.lessons.items()} == {"02-bookinfo": ["six pods", "2/2"]}
        assert list(seen.finished) == ["03-ingress"]


def test_what_was_forgotten_does_not_come_back(tmp_path: Path) -> None:
    one, other = Progress(tmp_path), Progress(tmp_path)
    one.passed("02-bookinfo", "six pods")
    other.forget()
    one.passed("02-bookinfo", "2/2")
    assert {name: list(ticks) for name, ticks in Progress(tmp_path).lessons.items()} == {"02-bookinfo": ["2/2"]}
    # Where the file is gone, its folder was emptied: the sandbox was made anew.
    (tmp_path / "progress.json").unlink()
    one.passed("02-bookinfo", "title")
    assert {name: list(ticks) for name, ticks in Progress(tmp_path).lessons.items()} == {"02-bookinfo": ["title"]}


def test_a_notebook_mends_what_was_damaged_with_its_own_ticks(tmp_path: Path) -> None:
    one = Progress(tmp_path)
    one.passed("02-bookinfo", "six pods")
    (tmp_path / "progress.json").write_bytes(b"{")
    one.passed("02-bookinfo", "2/2")
    assert list(Progress(tmp_path).lessons["02-bookinfo"]) == ["six pods", "2/2"]


def test_ticks_of_a_full_disk_are_kept_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Progress(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(files, "write", no_room)
        one.passed("02-bookinfo", "six pods")
    assert "Your progress cannot be kept" in capsys.readouterr().out
    assert list(one.lessons["02-bookinfo"]) == ["six pods"]
    one.passed("02-bookinfo", "2/2")
    assert list(Progress(tmp_path).lessons["02-bookinfo"]) == ["six pods", "2/2"]


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_damaged_snapshot_is_told_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    Snapshot(frozenset({Entry("Namespace", "", "default")}), frozenset()).save(path)
    whole = path.read_bytes()
    assert Snapshot.load(path).entries == {Entry("Namespace", "", "default")}
    for how, content in damaged(whole).items():
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ClusterError) as caught:
            Snapshot.load(path)
        assert "00-kubernetes" in caught.value.next_step, how
    with pytest.raises(ClusterError, match="cannot be kept"):
        Snapshot(frozenset(), frozenset()).save(path / "below" / "before.json")
