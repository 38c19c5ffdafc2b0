# SPDX-License-Identifier: Apache-2.0
"""How one notebook of a run went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """How one notebook went.

    Args:
        notebook: Its name, "02-bookinfo".
        outcome: "passed", "failed" or "skipped" (one before it failed).
        seconds: How long it took.
        cells: Code cells played.
        cell: The id of the cell that failed; "" otherwise.
        error: What that cell said; of a skipped notebook, why.
        shown: What it had shown by then, as text, or the end of that.
        path: The executed notebook; None if there is none.
    """

    notebook: str
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float = 0.0
    cells: int = 0
    cell: str = ""
    error: str = ""
    shown: str = ""
    path: Path | None = None

    def line(self) -> str:
        """One line that tells it all."""
        if self.outcome == "passed":
            return f"✔ {self.notebook:<18} {self.cells:>3} cells {self.seconds:6.1f} s"
        if self.outcome == "skipped":
            return f"○ {self.notebook:<18} not played: {self.error}"
        told = self.error.strip().splitlines() or ["?"]
        return f"✘ {self.notebook:<18} {f'cell {self.cell}: ' if self.cell else ''}{told[0]}"

    def story(self) -> str:
        """Where it failed, what the cell said, and what it had shown: enough to understand it from a log."""
        where = f", cell {self.cell}" if self.cell else ""
        return f"{self.notebook}{where}:\n{self.error.strip()}\n{self.shown}".rstrip()
