# SPDX-License-Identifier: Apache-2.0
"""The console's package: checked before it is unpacked, and nothing but the console taken out."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from labkit.ground.errors import MissingToolError
from meshbox import kiali_console as console


def packed(path: Path, **files: str) -> str:
    """A package at `path`; its integrity."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def test_only_the_build_is_taken(tmp_path):
    files = {"package__build__index.html": "page", "package__build__static__a.js": "1", "package__README": "no"}
    integrity = packed(tmp_path / "kiali.tgz", **files)
    console.unpack(tmp_path / "kiali.tgz", tmp_path / "out", integrity)
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"build/index.html", "build/static/a.js"}


def test_another_package_is_refused(tmp_path, monkeypatch):
    packed(tmp_path / "other.tgz", package__build__index="page")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LABKIT_KIALI_TARBALL", str(tmp_path / "other.tgz"))
    with pytest.raises(MissingToolError, match="its digest is"):
        console.fetch_console()
    assert console.console() is None
    assert list((tmp_path / "home" / "tools").iterdir()) == []


def test_paths_that_lead_out_are_refused(tmp_path):
    integrity = packed(tmp_path / "evil.tgz", **{"package/build/../../../evil": "x"})
    with pytest.raises(MissingToolError, match="no console has"):
        console.unpack(tmp_path / "evil.tgz", tmp_path / "out", integrity)
    assert not (tmp_path / "evil").exists()


def test_a_package_without_a_page(tmp_path):
    integrity = packed(tmp_path / "empty.tgz", package__build__other="x")
    with pytest.raises(MissingToolError, match=r"no build/index\.html"):
        console.unpack(tmp_path / "empty.tgz", tmp_path / "out", integrity)


def test_without_npm_the_next_step_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.delenv("LABKIT_KIALI_TARBALL", raising=False)
    monkeypatch.setattr(console.shutil, "which", lambda name: None)
    monkeypatch.setattr(console.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match="LABKIT_KIALI_TARBALL"):
        console.fetch_console()
