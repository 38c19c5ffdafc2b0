# SPDX-License-Identifier: Apache-2.0
"""What a lesson claims, checked: each claim has a name, what was seen, and the next step if it is not so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit import display
from labkit.ground.errors import CheckError
from labkit.ground.language import translated

__all__ = ["Check", "Checklist"]


@dataclass(frozen=True)
class Check:
    """One claim.

    Args:
        name: The claim, as a sentence.
        passed: Whether it is so.
        seen: What was seen.
        next_step: What to do if it is not so.
        needed: Whether the lesson cannot go on without it; else it is a warning.
    """

    name: str
    passed: bool
    seen: str = ""
    next_step: str = ""
    needed: bool = True

    @property
    def kind(self) -> str:
        """How it is shown: "good", "warning" or "bad"."""
        return "good" if self.passed else "bad" if self.needed else "warning"

    @property
    def complaint(self) -> str:
        """What is said where it is not so."""
        return f"not so: {self.name}; seen: {self.seen}" if self.seen else f"not so: {self.name}"

    def rich(self) -> display.Rich:
        """As one line to show."""
        name = translated(self.name)
        text = f"{name}: {translated(self.seen)}" if self.seen else name
        return display.message(text, self.kind, next_step="" if self.passed else self.next_step)

    def require(self) -> None:
        """Go on only if it is so.

        Raises:
            CheckError: It is not.
        """
        if self.needed and not self.passed:
            raise CheckError(self.complaint, next_step=self.next_step)


class Checklist(display.Shown, Sequence[Check]):
    """Several claims, shown as a table."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._checks = tuple(checks)

    def __len__(self) -> int:
        return len(self._checks)

    def __getitem__(self, index: int) -> Check:  # type: ignore[override]
        return self._checks[index]

    def rich(self) -> display.Rich:
        """As a table to show."""
        rows = [
            {"": display.SYMBOLS[c.kind], "Check": c.name, "Seen": c.seen, "Next step": "" if c.passed else c.next_step}
            for c in self._checks
        ]
        return display.table(rows, ["", "Check", "Seen", *(["Next step"] if any(not c.passed for c in self) else [])])

    def require(self) -> Checklist:
        """Go on only if all that is needed is so.

        Raises:
            CheckError: Something is not; all of it is named, below the table.
        """
        failed = [c for c in self._checks if c.needed and not c.passed]
        if failed:
            display.show(self.rich())
            lines = "\n".join(c.complaint for c in failed)
            raise CheckError(lines, next_step=failed[0].next_step)
        return self
