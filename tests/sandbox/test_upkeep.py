"""Small files of a running sandbox, looked at in between: any damage, at any moment, is made good by the next look."""

from __future__ import annotations

import itertools
from pathlib import Path

from labkit.sandbox.upkeep import Upkeep

from .damage import DAMAGES, damage


def test_every_damage_after_every_other_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"x" * 43)
    upkeep = Upkeep([path], {})
    for first, second in itertools.product(DAMAGES, repeat=2):
        for how in (first, second):
            damage(path, how)
            upkeep.check(path)
            assert path.read_bytes() == b"x" * 43, (first, second)
        upkeep.check(path)
    assert [file.name for file in tmp_path.iterdir()] == ["token"]


def test_what_the_user_may_change_is_the_new_right_content(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(b"server a")
    upkeep = Upkeep([path], {path: lambda content: b"server" in content})
    for content, kept in ((b"server a, namespace b", b"server a, namespace b"), (b"", b"server a, namespace b")):
        path.write_bytes(content)
        upkeep.check(path)
        assert path.read_bytes() == kept


def test_a_folder_that_is_deleted_stays_deleted(tmp_path: Path) -> None:
    path = tmp_path / "home" / "token"
    path.parent.mkdir()
    path.write_bytes(b"x")
    upkeep = Upkeep([path], {})
    path.unlink()
    path.parent.rmdir()
    upkeep.check(path)
    assert not path.parent.exists()
