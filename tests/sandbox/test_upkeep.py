# SPDX-License-Identifier: Apache-2.0
"""Small files of a running sandbox, looked at in between: any damage at any moment is made good at the second look."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from pathlib import Path

import pytest

from meshbox.upkeep import Home, Upkeep

from .damage import DAMAGES, damage


def test_every_damage_after_every_other_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"x" * 43)
    upkeep = Upkeep([path], {})
    for first, second in itertools.product(DAMAGES, repeat=2):
        for how in (first, second):
            damage(path, how)
            for _ in range(2):
                upkeep.check(path)
            assert path.read_bytes() == b"x" * 43, (first, second)
        upkeep.check(path)
    assert [file.name for file in tmp_path.iterdir()] == ["token"]


def test_what_the_user_may_change_is_the_new_right_content(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(b"server a")
    upkeep = Upkeep([path], {path: lambda content: content.endswith(b" b")})
    path.write_bytes(b"server a, namespace b")
    upkeep.check(path)
    assert path.read_bytes() == b"server a, namespace b"
    for how in DAMAGES:
        damage(path, how)
        for _ in range(2):
            upkeep.check(path)
        assert path.read_bytes() == b"server a, namespace b", how


def test_a_user_who_is_in_the_middle_of_writing_is_not_disturbed(tmp_path: Path) -> None:
    """kubectl empties its file, and then writes it."""
    path = tmp_path / "kubeconfig"
    path.write_bytes(b"server a")
    upkeep = Upkeep([path], {path: lambda content: b"server" in content})
    with open(path, "wb", buffering=0) as file:
        upkeep.check(path)
        file.write(b"server a, name")
        upkeep.check(path)
        file.write(b"space b")
    for _ in range(3):
        upkeep.check(path)
    assert path.read_bytes() == b"server a, namespace b"


def test_what_could_not_be_written_again_is_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"x")
    upkeep = Upkeep([path], {})
    path.unlink()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        for _ in range(3):
            upkeep.check(path)
    assert not path.exists()
    assert len(caplog.records) == 1
    upkeep.check(path)
    assert path.read_bytes() == b"x"


def refuse(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("then", ["deleted", "moved", "replaced"])
async def test_it_ends_with_its_folder_and_touches_no_other_in_its_place(tmp_path: Path, then: str) -> None:
    path = tmp_path / "home" / "token"
    path.parent.mkdir()
    path.write_bytes(b"x")
    upkeep, home = Upkeep([path], {}), Home(path.parent)
    assert not home.gone
    if then == "moved":
        path.parent.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(path.parent)
    if then == "replaced":
        path.parent.mkdir()
    told: list[str] = []
    await upkeep.run(home, lambda: told.append("gone"))
    assert told == ["gone"]
    assert home.gone
    home.close()
    assert not path.exists()


def test_a_folder_that_is_deleted_stays_deleted(tmp_path: Path) -> None:
    path = tmp_path / "home" / "token"
    path.parent.mkdir()
    path.write_bytes(b"x")
    upkeep = Upkeep([path], {})
    path.unlink()
    # `rm -rf` is in the middle of it.
    upkeep.check(path)
    path.parent.rmdir()
    upkeep.check(path)
    assert not path.parent.exists()
