# SPDX-License-Identifier: Apache-2.0
"""What `istioctl analyze` can say: Istio's codes with their levels, names and words, and the step that each calls for.

Numbers, levels, names and words, in `messages.tsv`, are those of Istio 1.30 (pkg/config/analysis/msg/messages.yaml), so
that what is read here can be looked up at https://istio.io/latest/docs/reference/config/analysis/; the steps are ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

__all__ = ["MESSAGES", "Finding", "Level", "Message", "listed", "quoted"]

Level = Literal["Error", "Warning", "Info"]


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Args:
        level: "Error", "Warning" or "Info".
        code: istioctl's code, "IST0101"; "" where it has none.
        where: The object: "VirtualService bookinfo/reviews".
        message: What is wrong.
        next_step: What to do about it.
    """

    level: Level
    code: str
    where: str
    message: str
    next_step: str

    def __str__(self) -> str:
        code = f" [{self.code}]" if self.code else ""
        return f"{self.level}{code} ({self.where}) {self.message}"


class Message(NamedTuple):
    """A kind of finding.

    Args:
        level: How bad it is.
        name: Istio's name for it.
        words: What it says, with {} for each thing it is about.
        step: What to do about it, which may name these things as well.
    """

    level: Level
    name: str
    words: str
    step: str


def _read() -> dict[str, Message]:
    rows = Path(__file__).with_name("messages.tsv").read_text("utf-8").splitlines()[1:]
    cells = (row.split("\t") for row in rows)
    return {code: Message(cast("Level", level), name, words, step) for code, level, name, words, step in cells}


MESSAGES = _read()
"""By code."""


def quoted(text: str) -> str:
    """A text in quotes, as Istio's messages have it."""
    return json.dumps(text, ensure_ascii=False)


def listed(items: Iterable[object]) -> str:
    """Several things, as Istio's messages list them: "[a b]"."""
    return f"[{' '.join(map(str, items))}]"
