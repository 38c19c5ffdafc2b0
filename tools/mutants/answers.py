# SPDX-License-Identifier: Apache-2.0
"""What kubectl answers by itself is asked once, and not again for each mutant.

Where a test compares us with what kubectl reads or refuses without a cluster, the answer hangs on the question alone.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["Answers"]

_Question = tuple[Any, ...]


class Answers:
    """Stands in the place of `subprocess.run`, and remembers what it returned for a kubectl without a kubeconfig."""

    def __init__(self) -> None:
        self.known: dict[_Question, subprocess.CompletedProcess[Any]] = {}
        """Made to be handed on: a fork knows what its parent knows, and its parent nothing of it."""
        self._ask = subprocess.run

    def install(self) -> None:
        """Be asked from now on, by whoever asks `subprocess.run`."""
        subprocess.run = self.run  # type: ignore[assignment]

    def run(self, command: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
        """As `subprocess.run`."""
        environment = options.get("env") or {}
        alone = isinstance(command, list) and Path(str(command[0])).name == "kubectl"
        if not alone or environment.get("KUBECONFIG") != os.devnull or options.get("stdin"):
            return self._ask(command, **options)
        rest = sorted((name, str(value)) for name, value in options.items() if name != "env")
        question = (*command, *rest)
        if question not in self.known:
            self.known[question] = self._ask(command, **options)
        return self.known[question]
