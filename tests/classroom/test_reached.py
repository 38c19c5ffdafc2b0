# SPDX-License-Identifier: Apache-2.0
"""Who is how far: told by seats, or read from users' folders; nobody's name or damage reaches a terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labkit.classroom import reached
from labkit.cli import main
from labkit.course import LESSONS, Progress, telling
from labkit.course.exercise import of_lesson
from labkit.ground.errors import SettingError
from tests.sandbox.damage import DAMAGES

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def said(who: str, finished: dict[str, str], **more: object) -> bytes:
    return json.dumps({"who": who, "cluster": "default", "finished": finished, "lessons": {}, **more}).encode()


def row(shown: str, who: str) -> list[str]:
    (line,) = (line for line in shown.splitlines() if line.startswith(who))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_what_a_seat_plays_is_told_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "class").mkdir()
    monkeypatch.setenv(telling.FOLDER, str(tmp_path / "class"))
    monkeypatch.setenv(telling.SEAT, "seat 07/..")
    progress = Progress(tmp_path / "default" / "course")
    progress.passed("08-routing", "a claim")
    progress.solved("08-routing", of_lesson("08-routing")[0].name)
    progress.finish("02-bookinfo")
    (file,) = (tmp_path / "class").iterdir()
    assert file.name == "seat_07_...default.json"
    assert file.stat().st_mode & 0o777 == 0o644, "the instructor is another user"
    (one,) = reached.told(tmp_path / "class")
    assert (one.who, one.cluster, one.solved) == ("seat 07/..", "default", 1)
    assert set(one.ticks.finished) == {"02-bookinfo"}
    assert set(one.ticks.lessons["08-routing"]) == {"a claim"}


def test_nobody_is_told_who_was_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(telling.FOLDER, raising=False)
    Progress(tmp_path / "course").finish("02-bookinfo")
    assert [path.name for path in tmp_path.rglob("*.json")] == ["progress.json"]


@pytest.mark.parametrize(
    ("names", "who"),
    [({}, "the-login"), ({"JUPYTERHUB_USER": "ada"}, "ada"), ({"JUPYTERHUB_USER": "ada", telling.SEAT: "s1"}, "s1")],
)
def test_the_name_it_tells_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, str], who: str
) -> None:
    for name in ("JUPYTERHUB_USER", telling.SEAT):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"LOGNAME": "the-login", telling.FOLDER: str(tmp_path)} | names).items():
        monkeypatch.setenv(name, value)
    Progress(tmp_path / "a-uid").finish("02-bookinfo")
    (one,) = reached.told(tmp_path)
    assert (one.who, one.cluster) == (who, "a-uid")


def test_a_class_that_cannot_be_told_costs_no_lesson(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(telling.FOLDER, str(tmp_path / "not-there"))
    Progress(tmp_path / "course").finish("02-bookinfo")
    assert f"Your progress cannot be kept: {tmp_path / 'not-there'}" in capsys.readouterr().out
    assert set(Progress(tmp_path / "course").finished) == {"02-bookinfo"}


def test_the_table_begins_with_who_is_behind(tmp_path: Path) -> None:
    ahead = {"00-kubernetes": "2026-05-04T09:00:00+00:00", "14-who-may": "2026-05-04T10:00:00+00:00"}
    (tmp_path / "a.json").write_bytes(said("ahead", ahead))
    (tmp_path / "b.json").write_bytes(said("behind", {"00-kubernetes": "2026-05-04T11:48:00+00:00"}))
    (tmp_path / "c.json").write_bytes(said("nowhere", {"a-lesson-of-tomorrow": "2026-05-04T11:48:00+00:00"}))
    shown = reached.table(reached.told(tmp_path), NOW).text
    assert [shown.index(who) for who in ("nowhere", "behind", "ahead")] == sorted(
        shown.index(who) for who in ("nowhere", "behind", "ahead")
    )
    assert row(shown, "ahead") == ["ahead", "default", "2", "0", "14-who-may", "2 h ago"]
    assert row(shown, "behind") == ["behind", "default", "1", "0", "00-kubernetes", "12 min ago"]
    assert row(shown, "nowhere") == ["nowhere", "default", "0", "0"]
    assert "Where they are: 00-kubernetes 1, 14-who-may 1." in shown


def test_what_is_damaged_or_odd_is_not_told(tmp_path: Path) -> None:
    whole = said("a", {"00-kubernetes": "2026-05-04T09:00:00+00:00"})
    for number, change in enumerate(DAMAGES.values()):
        content = change(whole)
        if content is not None:
            (tmp_path / f"{number}.json").write_bytes(content)
    (tmp_path / "names").write_bytes(whole)
    (tmp_path / "link.json").symlink_to(tmp_path / "names")
    (tmp_path / "no-name.json").write_bytes(b'{"finished": {}, "lessons": {}}')
    assert reached.told(tmp_path) == []


def test_a_name_moves_no_cursor(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(said("\x1b[2Jx\r" + "y" * 100, {}))
    (one,) = reached.told(tmp_path)
    assert one.who == "[2Jx" + "y" * 36


def test_no_such_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        reached.told(tmp_path / "class")
    assert main(["course", "progress", "--all", "--folder", str(tmp_path / "class")]) == 1
    assert "labkit course progress --all --folder DIR" in capsys.readouterr().err


def test_this_machines_users(tmp_path: Path) -> None:
    for who, place in (("ada", ".labkit/sandboxes/default/course"), ("bob", ".labkit/course/a-uid")):
        Progress(tmp_path / who / place).finish("03-ingress")
    (tmp_path / "eve").mkdir()
    (tmp_path / "dan" / ".labkit").mkdir(parents=True)
    found, closed = reached.by_users({tmp_path / who: who for who in ("ada", "bob", "dan", "eve", "nobody")})
    assert [(one.who, one.cluster, one.last[1]) for one in found] == [
        ("ada", "default", "03-ingress"),
        ("bob", "a-uid", "03-ingress"),
    ]
    assert closed == []


def test_whose_folders_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(self: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(self))

    # Root, as which tests run as well, may read everything.
    monkeypatch.setattr(Path, "iterdir", closed)
    assert reached.by_users({tmp_path: "ada"}) == ([], ["ada"])


def test_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    place = tmp_path / "sandboxes" / "default" / "course"
    place.mkdir(parents=True)
    progress = Progress(place)
    for name in list(LESSONS)[:9]:
        progress.finish(name)
    progress.solved("08-routing", of_lesson("08-routing")[0].name)
    assert main(["course", "progress"]) == 0
    shown = capsys.readouterr().out
    assert f"1 of {len(of_lesson('08-routing'))}" in next(line for line in shown.splitlines() if "08-routing" in line)
    assert "Go on with 09-shifting." in shown
