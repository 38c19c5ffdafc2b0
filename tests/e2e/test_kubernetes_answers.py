# SPDX-License-Identifier: Apache-2.0
"""Hundreds of kubectl commands, answered as a real Kubernetes answered them, but for what a page explains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, SandboxUnderTest

CASES = REPOSITORY.parent / "shared" / "cases" / "kubectl"
TIMED = re.compile(r"\b(sleep|timeout|wait|status)\b")
"""What a slow machine may answer otherwise: commands that wait for so many seconds and no longer."""

MOST_ALIKE = 390
EXPLAINED = REPOSITORY / "docs" / "kubernetes-differences.md"


@pytest.mark.again
def test_every_answer_is_kubernetes_own_or_explained(start_sandbox: Callable[..., SandboxUnderTest]) -> None:
    script = CASES / "run.py"
    if not script.is_file():
        pytest.skip(f"the answers of a real Kubernetes are not at {CASES}")
    sandbox = start_sandbox("1.30.3")
    # The kubectl that this house pins, not the machine's: each prints in its own way what it was answered.
    path = f"{Path(sys.executable).parent}{os.pathsep}{sandbox.env['PATH']}"
    command = [sys.executable, str(script), "--show"]
    done = subprocess.run(command, env={**sandbox.env, "PATH": path}, capture_output=True, text=True, timeout=580)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("430 commands: "), done.stdout + done.stderr
    counts = {name: int(number) for name, number in re.findall(r"([a-z][a-z ]*) (\d+)", last.partition(": ")[2])}
    assert counts["same"] + counts.get("order only", 0) >= MOST_ALIKE, done.stdout
    differing = set(re.findall(r"^== (\S+): ", done.stdout, re.MULTILINE))
    explained = set(re.findall(r"`([a-z]+\.[a-z0-9.]+)`", EXPLAINED.read_text(encoding="utf-8")))
    cases = [line.split(maxsplit=1) for line in (CASES / "cases.txt").read_text().splitlines() if line]
    timed = {ident for ident, command in cases if TIMED.search(command)}
    assert differing - explained - timed == set(), done.stdout
