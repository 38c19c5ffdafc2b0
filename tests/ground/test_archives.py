# SPDX-License-Identifier: Apache-2.0
"""Archives: what was there is replaced, all or nothing, and names that cannot be seen are refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

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
