# SPDX-License-Identifier: Apache-2.0
"""A real API server's verdicts, asked of a running sandbox: what it refuses and how, and what it stores."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import REPOSITORY, SandboxUnderTest

CASES = REPOSITORY.parent / "shared" / "cases"
MOST = {
    "5xx": 0,
    "only the real one refuses": 5,
    "only this one refuses": 5,
    "refused, other code": 5,
    "refused, other words": 20,
    "stored differently": 20,
}
"""How many of the 5 161 objects may end otherwise than they did with the real server."""


def test_each_verdict_message_and_stored_object_is_kubernetes_own(
    start_sandbox: Callable[..., SandboxUnderTest],
) -> None:
    script = CASES / "kube.py"
    if not script.is_file():
        pytest.skip(f"the verdicts of the genuine API server are not at {CASES}")
    sandbox = start_sandbox("1.30.3")
    command = [sys.executable, str(script), "--show"]
    done = subprocess.run(command, env=sandbox.env, capture_output=True, text=True, timeout=500)
    last = done.stdout.splitlines()[-1]
    total, _, told = last.partition(" objects: ")
    # "refused, other words" has a comma of its own.
    counts = {name: int(number) for name, number in re.findall(r"(\D+) (\d+)(?:, |$)", told)}
    assert total == "5161", done.stdout
    assert {name: counts.get(name, 0) for name in MOST if counts.get(name, 0) > MOST[name]} == {}, done.stdout
