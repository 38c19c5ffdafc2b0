# SPDX-License-Identifier: Apache-2.0
"""Buttons in what a cell shows. A click asks for one of a few fixed calls, of something that this kernel knows by name.

labkit's extension of JupyterLab (`clicks.js`) has the kernel run `clicked`, with words that it has looked at itself:
no code comes from what is shown. Where the extension is not, the buttons stay hidden, and the text beside them names
the calls.
"""

from __future__ import annotations

import html
from typing import Protocol

from labkit import display
from labkit.ground.errors import LabError
from labkit.ground.language import translated

__all__ = ["CALLS", "Clickable", "buttons", "clicked", "forget", "offer"]

CALLS = ("check", "hint", "reset", "predict", "start", "stop", "rate")
"""All that a button can ask for; `clicks.js` has the same list."""


class Clickable(Protocol):
    """What has buttons."""

    def clicked(self, call: str, choice: int) -> None:
        """Do what was asked for, and show it."""


_known: dict[str, Clickable] = {}


def offer(name: str, what: Clickable) -> None:
    """From now on buttons of this name ask `what`.

    Args:
        name: Lower-case letters, digits and hyphens, 60 at most.
        what: Who answers.
    """
    _known[name] = what


def forget() -> None:
    """Nothing has buttons any more: another lesson begins in this kernel."""
    _known.clear()


def buttons(name: str, *which: tuple[str, str], choice: int = -1) -> str:
    """The markup of buttons.

    Args:
        name: Whom they ask.
        which: Of each what it asks for, one of `CALLS`, and what stands on it.
        choice: What is chosen by them, from 0; -1 for nothing.
    """
    chosen = f' data-labkit-choice="{choice}"' if choice >= 0 else ""
    made = (
        f'<button type="button" hidden data-labkit-call="{call}" data-labkit-of="{html.escape(name)}"{chosen}>'
        f"{html.escape(translated(label))}</button>"
        for call, label in which
    )
    return "".join(made)


def clicked(call: str, name: str, choice: int = -1) -> None:
    """Answer a click.

    Args:
        call: One of `CALLS`.
        name: Whose button it was.
        choice: What was chosen, from 0; -1 for nothing.
    """
    if call not in CALLS or name not in _known:
        display.show(
            display.message(
                "This kernel has not run the cell above: it was started anew, or another lesson has begun in it.",
                "warning",
                next_step="Click into the cell, Run ▸ Run All Above Selected Cell, run the cell, and click again.",
            )
        )
        return
    try:
        _known[name].clicked(call, choice)
    except LabError as error:
        display.show(display.message(error.message, "bad", next_step=error.next_step))
