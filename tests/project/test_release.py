# SPDX-License-Identifier: Apache-2.0
"""A release: the tag, the version, the changelog and the packages say the same."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import labkit
from tests.conftest import REPOSITORY
from tools import release_notes

CHANGELOG = """# Changelog

## 0.3.0 (unreleased)

### Added
- a thing

## 0.2.0 (2026-11-26)

### Added
- one thing

### Fixed
- another

## 0.1.0 (2026-01-02)

First.
"""


def test_the_notes_are_the_section_of_the_tag() -> None:
    assert release_notes.notes("v0.2.0", CHANGELOG, "0.2.0") == "### Added\n- one thing\n\n### Fixed\n- another"
    assert release_notes.notes("v0.1.0", CHANGELOG, "0.1.0") == "First."


@pytest.mark.parametrize(
    ("tag", "version", "why"),
    [
        ("v0.2.1", "0.2.0", "the tag v0.2.1 is not of version 0.2.0"),
        ("0.2.0", "0.2.0", "the tag 0.2.0 is not of version 0.2.0"),
        ("v0.3.0", "0.3.0", "0.3.0 (unreleased): write its date"),
        ("v0.4.0", "0.4.0", "no section `## 0.4.0 (YYYY-MM-DD)`"),
    ],
)
def test_what_is_not_to_be_released_is_said(tag: str, version: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        release_notes.notes(tag, CHANGELOG, version)
    with pytest.raises(ValueError, match="nothing to say"):
        release_notes.notes("v1.0.0", "## 1.0.0 (2026-01-01)\n\n## 0.9.0 (2025-01-01)\n\nx\n", "1.0.0")


def test_as_a_workflow_calls_it() -> None:
    command = [sys.executable, "-m", "tools.release_notes", "v0.0.0"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("not released: the tag v0.0.0 is not of version ")


def test_changelog_and_citation_are_of_this_version() -> None:
    newest = re.search(r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert newest[1] == labkit.__version__
    assert yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"] == labkit.__version__


@pytest.mark.long
def test_dist_makes_a_wheel_and_an_sdist(tmp_path: Path) -> None:
    """What `make dist` runs, into another folder."""
    recipe = (REPOSITORY / "Makefile").read_text().split("\ndist:")[1].split("\n\n")[0]
    assert "$(BIN)/python -m build --no-isolation --outdir build/dist" in recipe
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(REPOSITORY)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    wheel, sdist = (next(tmp_path.glob(kind)) for kind in ("*.whl", "*.tar.gz"))
    stem = wheel.name.partition("-py3")[0]
    assert sdist.name == f"{stem}.tar.gz"
    assert stem.endswith(f"-{labkit.__version__}")
    # What is for Jupyter lies beside the packages, where it is looked for.
    names = {name.rpartition(".data/data/")[2] for name in zipfile.ZipFile(wheel).namelist()}
    tracked = subprocess.run(
        ["git", "ls-files", "labkit", "meshbox", "grafana_figures"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.splitlines()
    assert tracked
    files = [path for path in tracked if not (REPOSITORY / path).is_symlink()]
    assert [path for path in files if path.removeprefix("labkit/ui/jupyter/") not in names and path not in names] == []
    with tarfile.open(sdist) as packed:
        assert {f"{stem}/pyproject.toml", f"{stem}/README.md", f"{stem}/LICENSE"} <= set(packed.getnames())
