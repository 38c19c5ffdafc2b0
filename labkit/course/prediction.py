# SPDX-License-Identifier: Apache-2.0
"""A question before an experiment: what a learner says is kept until the experiment answers, and shown beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from labkit import clicks, display
from labkit.ground.errors import CheckError
from labkit.ground.language import translated

__all__ = ["Prediction"]

_LETTERS = "ABCDEFGH"
_LIST = "list-style:none;padding-left:.5em;margin:4px 0"


class Prediction(display.Shown):
    """What will happen? Made by `lesson.predict`.

    Args:
        question: The question.
        options: Two to eight possible answers.
    """

    def __init__(self, question: str, options: Sequence[str]) -> None:
        if not 2 <= len(options) <= len(_LETTERS):
            raise CheckError(f"a question has 2 to {len(_LETTERS)} answers, not {len(options)}")
        self.question, self.options = question, tuple(options)
        self.chosen: int | None = None
        """Which answer the learner has chosen, from 0; None for none."""
        self.settled = False
        """Whether the experiment has answered."""

    @property
    def name(self) -> str:
        """What its buttons call it: it is known by its question."""
        return f"q-{hashlib.sha256(self.question.encode()).hexdigest()[:12]}"

    def rich(self) -> display.Rich:
        """The question with its answers."""
        question = translated(self.question)
        lettered = list(zip(_LETTERS, map(translated, self.options), strict=False))
        rows = "".join(
            f"<li>{clicks.buttons(self.name, ('predict', letter), choice=number)}"
            f'<b class="labkit-letter">{letter} </b>{display.marked(option)}</li>'
            for number, (letter, option) in enumerate(lettered)
        )
        asked = display.Rich(
            f'<div><b>{display.marked(question)}</b></div><ul class="labkit-options" style="{_LIST}">{rows}</ul>',
            "\n".join([question, *(f"  {letter}  {option}" for letter, option in lettered)]),
        )
        how = display.words('What do you think? A click says it, or `prediction.choose("A")`. Nobody keeps a score.')
        return display.box(asked + how, "command", "labkit-prediction")

    def choose(self, which: int | str) -> None:
        """Say what will happen; it may be said again until the experiment has answered.

        Args:
            which: The answer's letter, its words, or its number from 0.

        Raises:
            CheckError: There is no such answer.
        """
        number = self._number(which)
        if self.settled:
            display.show(display.message("The experiment has answered already; look below.", "note"))
            return
        self.chosen = number
        display.show(display.message(f"You say {self._words(number)}", "note", next_step="Now see what happens."))

    def settle(self, which: int | str, seen: object = "") -> None:
        """What happened: shown beside what the learner has said.

        Args:
            which: The answer that turned out right: its number from 0, its letter or its words.
            seen: What was seen.

        Raises:
            CheckError: There is no such answer.
        """
        number = self._number(which)
        self.settled = True
        words = f"It was {self._words(number)}"
        happened = [self.question, f"{translated(words)}: {translated(str(seen))}" if seen else words]
        if self.chosen == number:
            happened.append("That is what you had said.")
        elif self.chosen is not None:
            happened.append(f"You had said {self._words(self.chosen)}.")
        display.show(display.message("\n".join(happened), "good" if self.chosen == number else "note"))

    def clicked(self, call: str, choice: int) -> None:
        """A button of it was clicked."""
        self.choose(choice)

    def _number(self, which: int | str) -> int:
        known = [
            *range(len(self.options)),
            *_LETTERS[: len(self.options)],
            *_LETTERS[: len(self.options)].lower(),
            *self.options,
        ]
        if which not in known:
            raise CheckError(
                f"{which!r} is none of the answers", next_step=f"They are {', '.join(_LETTERS[: len(self.options)])}."
            )
        return known.index(which) % len(self.options)

    def _words(self, number: int) -> str:
        return f"{_LETTERS[number]}, “{translated(self.options[number]).rstrip('.。')}”"
