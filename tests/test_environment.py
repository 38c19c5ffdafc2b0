# SPDX-License-Identifier: Apache-2.0
"""How the virtual environment is made: what is said of pip's work, and what of its failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from labkit.ground.saying import Note
from tools import environment


def test_pips_lines_become_how_far_it_is(tmp_path: Path) -> None:
    note = Note()
    told = environment._Progress(note, 4, tmp_path)
    told("Collecting numpy>=1.26 (from pandas>=2.2->mesh-workshop==0.1.0)")
    assert note.now() == ("1 of about 4: numpy", 0.25)
    told("  Downloading numpy-2.4.1-cp311-manylinux_2_28_x86_64.whl (16.5 MB)")
    told("Progress 1048576 of 16500000")
    assert note.now() == ("1 of about 4: numpy, 16.5 MB", 0.25)
    told("Requirement already satisfied: six in ./.venv/lib/python3.11/site-packages")
    assert note.now()[1] == 0.25

    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (packages / "pip-26.0.dist-info").mkdir(parents=True)
    told("Installing collected packages: six, numpy")
    assert note.now() == ("0 of 2 unpacked", 0.0)
    (packages / "six-1.17.0.dist-info").mkdir()
    assert note.now() == ("1 of 2 unpacked", 0.5)
    told("Successfully installed numpy-2.4.1 six-1.17.0")
    assert note.now() == ("1 of 2 unpacked", 0.5)


def test_what_pip_said_last_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    code = "print('ERROR: Could not find a version'); print('Progress 1 of 2'); raise SystemExit(3)"
    assert environment._run([sys.executable, "-c", code], lambda _: None) == 3
    said = capfd.readouterr().err
    assert said.startswith("ERROR: Could not find a version\n→ is there a network")


def test_a_python_that_makes_no_environments_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ensurepip is not available'; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert environment.main(tmp_path / "env", "sandbox") == 1
    said = capfd.readouterr().err
    assert said == f"ensurepip is not available\n→ {python} cannot make virtual environments: install python3-venv\n"


def test_what_the_project_was_called_before_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pip = [sys.executable, "-c", "import sys; open('asked', 'a').write(' '.join(sys.argv[1:]))"]
    environment._forget_old_name(tmp_path / "env", pip)
    assert not (tmp_path / "asked").exists()

    (tmp_path / "labkit.egg-info").mkdir()
    (tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "labkit-0.1.0.dist-info").mkdir(parents=True)
    environment._forget_old_name(tmp_path / "env", pip)
    assert not (tmp_path / "labkit.egg-info").exists()
    assert (tmp_path / "asked").read_text() == "uninstall --quiet --yes labkit"
