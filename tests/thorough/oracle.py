# SPDX-License-Identifier: Apache-2.0
"""Istio's own code, built from its modules where Go has them at hand: asked in lines of JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Ask", "built", "needs_go"]

Ask = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
"""Questions → answers, one for each."""

SOURCE = Path(__file__).parent / "istio_oracle"

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go to build the oracle with")


def built(program: str, factory: pytest.TempPathFactory) -> Ask:
    """One of the oracle's programs; the test is skipped where its modules are not at hand.

    Args:
        program: Its folder in `istio_oracle`.
        factory: Makes the folder that it is built in.
    """
    folder = factory.mktemp("oracle") / "source"
    shutil.copytree(SOURCE, folder)
    offline = {**os.environ, "GOFLAGS": "-mod=readonly", "GOPROXY": "off"}
    command = ["go", "build", "-o", "oracle", f"./{program}"]
    made = subprocess.run(command, cwd=folder, env=offline, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"the oracle cannot be built offline: {made.stderr[-200:]}")

    def ask(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lines = "".join(json.dumps(one) + "\n" for one in questions)
        told = subprocess.run([folder / "oracle"], input=lines, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in told.stdout.split("\n") if line]

    return ask
