# SPDX-License-Identifier: Apache-2.0
"""Folders for temporary files: what a killed process left is gone when the next one needs one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.cluster import scratch

LEAVE = "import os, signal; from labkit.cluster import scratch; (scratch.make() / 'x').touch(); os.kill(os.getpid(), 9)"


def test_a_killed_processs_folder_goes_with_the_next_one(tmp_path: Path) -> None:
    other = tmp_path / "labkit-of-somebody"
    other.mkdir()
    mine = scratch.make(str(tmp_path))
    done = subprocess.run([sys.executable, "-c", LEAVE], env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == -signal.SIGKILL
    [left] = {*tmp_path.iterdir()} - {other, mine}
    assert left.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in left.iterdir()] == ["x"]
    # What runs keeps its own, and what has another name is nobody's to remove.
    again = scratch.make(str(tmp_path))
    assert {*tmp_path.iterdir()} == {other, mine, again}
    assert [*again.iterdir()] == []


def test_the_word_that_there_is_no_cluster_leaves_nothing_behind(tmp_path: Path) -> None:
    code = "import os; from labkit.cluster import kubeconfig as k; print(k.nowhere('none')); os.kill(os.getpid(), 9)"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
        assert done.returncode == -signal.SIGKILL
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize("number", ["99999999999999999999", "\u00b2", "-1", "", "one"])
def test_a_name_that_somebody_put_there_stops_nobody(tmp_path: Path, number: str) -> None:
    """The folder for temporary files is everybody's."""
    start = "-".join(scratch.make(str(tmp_path)).name.split("-")[:2])
    (tmp_path / f"{start}-{number}-x").mkdir()
    assert scratch.make(str(tmp_path)).is_dir()
