# SPDX-License-Identifier: Apache-2.0
"""Archives: what was there is replaced, all or nothing, and names that cannot be seen are refused."""

from __future__ import annotations

import errno
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from labkit.ground import archives
from labkit.ground.archives import unpack
from labkit.ground.errors import ReleaseError


def packed(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"istio-1.0/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return path


def test_what_was_there_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "release"
    unpack(packed(tmp_path / "a.tar.gz", a="1", b="2"), target)
    assert unpack(packed(tmp_path / "b.tar.gz", b="3"), target) == target
    assert {file.name: file.read_text() for file in target.iterdir()} == {"b": "3"}
    (tmp_path / "c.tar.gz").write_bytes(b"no")
    with pytest.raises(ReleaseError, match=r"no readable \.tar\.gz"):
        unpack(tmp_path / "c.tar.gz", target)
    assert (target / "b").read_text() == "3"
    assert {one.name for one in tmp_path.iterdir()} == {"release", "a.tar.gz", "b.tar.gz", "c.tar.gz"}


@pytest.mark.parametrize("letter", ["\x07", "\u200b", "\u2028", "\u2029"])
def test_a_name_with_what_cannot_be_seen_is_refused(tmp_path: Path, letter: str) -> None:
    archive = packed(tmp_path / "a.tar.gz", **{f"a{letter}b": "1"})
    with pytest.raises(ReleaseError, match="has control characters in its name"):
        unpack(archive, tmp_path / "release")
    assert not (tmp_path / "release").exists()


def archive_of(path: Path, *members: tuple[str, dict[str, Any]]) -> Path:
    """An archive of members without content: their names, and what else their headers say."""
    with tarfile.open(path, "w:gz") as tar:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member)
    return path


def symlink(target: str) -> dict[str, Any]:
    return {"type": tarfile.SYMTYPE, "linkname": target}


FILE: dict[str, Any] = {}
OUTSIDE = "lands outside the folder"


@pytest.mark.parametrize("data_filter", [True, False])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_links_that_stay_inside_are_kept(tmp_path: Path, data_filter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not data_filter:
        # As the first versions of Python 3.11.
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    members = [
        ("r/tools/x", FILE),
        ("r/bin/a", symlink("../tools/x")),
        ("r/bin/b", symlink("a")),
        ("r/c", {"type": tarfile.LNKTYPE, "linkname": "r/tools/x"}),
    ]
    target = unpack(archive_of(tmp_path / "a.tar.gz", *members), tmp_path / "new" / "deep" / "release")
    assert sorted(str(one.relative_to(target)) for one in target.rglob("*")) == [
        *("bin", "bin/a", "bin/b", "c", "tools", "tools/x")
    ]
    assert {name: str((target / name).readlink()) for name in ("bin/a", "bin/b")} == {
        "bin/a": "../tools/x",
        "bin/b": "a",
    }
    assert (target / "c").samefile(target / "tools/x")
    assert (tmp_path / "new").stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ([("../x", FILE)], OUTSIDE),
        ([("..", FILE)], OUTSIDE),
        ([("/etc/x", FILE)], OUTSIDE),
        ([("a/../../x", FILE)], OUTSIDE),
        ([("a", symlink("b")), ("a/x", FILE)], OUTSIDE),
        ([("d/a", symlink("b")), ("d/a/c/x", FILE)], OUTSIDE),
        ([("a", symlink("../x"))], "is a link to '../x', outside the folder"),
        ([("d/a", symlink("../../x"))], "is a link to '../../x', outside the folder"),
        ([("a", symlink("/etc/x"))], "is a link to '/etc/x', outside the folder"),
        ([("d/a", symlink(".."))], ""),
        ([("a", symlink(".."))], "is a link to '..', outside the folder"),
        ([("d/a", {"type": tarfile.LNKTYPE, "linkname": "../x"})], "is a link to '../x', outside the folder"),
        # By name it is inside: but "d/a" leads to the folder, and ".." from there out of it.
        ([("d/a", symlink("..")), ("e", symlink("d/a/../x"))], "is a link to 'd/a/../x', outside the folder"),
        (
            [("d/a", symlink("..")), ("e", {"type": tarfile.LNKTYPE, "linkname": "d/a/../x"})],
            "is a link to 'd/a/../x', outside the folder",
        ),
        ([("e/f", symlink(".././d/a/.."))], "is a link to '.././d/a/..', outside the folder"),
        ([("e/f", symlink(".././d/..a/x"))], ""),
        ([("a", {"type": tarfile.FIFOTYPE})], "is neither file, folder nor link"),
        ([("a", {"type": tarfile.CHRTYPE})], "is neither file, folder nor link"),
    ],
)
def test_what_would_land_elsewhere_is_refused(tmp_path: Path, members: list[Any], wrong: str) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", *members)
    if not wrong:
        assert unpack(archive, tmp_path / "release").is_dir()
        return
    with pytest.raises(ReleaseError) as raised:
        unpack(archive, tmp_path / "release")
    assert str(raised.value).startswith(f"a.tar.gz: {members[-1][0]!r} {wrong}; nothing was unpacked")
    assert [one.name for one in tmp_path.iterdir()] == ["a.tar.gz"]


def test_an_archive_holds_no_more_than_a_release_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_SIZE_LIMIT", 10)
    monkeypatch.setattr(archives, "_COUNT_LIMIT", 3)
    assert unpack(packed(tmp_path / "a.tar.gz", a="12345", b="12345", c=""), tmp_path / "release").is_dir()
    for files in ({"a": "12345", "b": "123456"}, dict.fromkeys("abcd", "")):
        archive = packed(tmp_path / "b.tar.gz", **files)
        with pytest.raises(ReleaseError, match=r"^b\.tar\.gz holds more than a release of Istio can"):
            unpack(archive, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_empty_archive_is_an_empty_folder(tmp_path: Path) -> None:
    assert list(unpack(archive_of(tmp_path / "a.tar.gz"), tmp_path / "release").iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_full_disk_is_said_and_other_faults_stay_what_they_are(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(archives, "_extract", fails)
    full = code != errno.EACCES
    with pytest.raises(ReleaseError if full else PermissionError, match="the disk is full: " if full else "no"):
        unpack(packed(tmp_path / "a.tar.gz", a="1"), tmp_path / "release")
    assert [one.name for one in tmp_path.iterdir()] == ["a.tar.gz"]
