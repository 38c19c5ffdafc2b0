"""What the course keeps beside a cluster, damaged: ticks are lost, or a sentence says what to do; never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit.cluster.inventory import Entry, Snapshot
from labkit.course.progress import Progress
from labkit.ground.errors import ClusterError
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
