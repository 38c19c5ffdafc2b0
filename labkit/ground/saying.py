# SPDX-License-Identifier: Apache-2.0
"""What a step that takes a while is doing: nobody has to wonder for five seconds whether anything happens."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["Note", "saying", "seen_live"]

PAUSE = 4.0
"""Seconds from line to line where no line can be written anew: a file, a pipe, a log of CI."""

_REDRAW = 0.5
_BAR = 24


class Note:
    """How far a step is: a few words, and the share that is done where it is known."""

    def __init__(self) -> None:
        self.now: Callable[[], tuple[str, float | None]] = lambda: ("", None)

    def __call__(self, words: str, share: float | None = None) -> None:
        """Say it as it changes.

        Args:
            words: E.g. "12 of 118 packages".
            share: What is done of it, 0 to 1; None draws no bar.
        """
        self.now = lambda: (words, share)

    def ask(self, now: Callable[[], tuple[str, float | None]]) -> None:
        """Have it asked for whenever it is told; `now` is called in another thread."""
        self.now = now


def seen_live(stream: TextIO | None = None) -> bool:
    """Whether somebody looks at a terminal that can write a line anew.

    Args:
        stream: Which; None for stderr.
    """
    stream = sys.stderr if stream is None else stream
    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextmanager
def saying(what: str, *, after: float = 1.0) -> Iterator[Note]:
    """Say on stderr what is being done while it is: in a terminal one line with the seconds, which is gone at the end;
    elsewhere a line every four seconds, without any control character. Nothing with ``LABKIT_PROGRESS=off``.

    Args:
        what: E.g. "starting sandbox 'default'".
        after: Seconds of silence that a terminal may have before: most steps are quick.

    Yields:
        What is told how far it is.
    """
    note, over, live = Note(), threading.Event(), seen_live()
    teller = threading.Thread(target=_tell, args=(what, note, over, after, live), daemon=True)
    if sys.stderr is not None and os.environ.get("LABKIT_PROGRESS") != "off":
        teller.start()
    try:
        yield note
    finally:
        over.set()
        if teller.ident is not None:
            teller.join()


def _tell(what: str, note: Note, over: threading.Event, after: float, live: bool) -> None:
    began, told = time.monotonic(), False
    try:
        while not over.wait((_REDRAW if told else after) if live else PAUSE):
            words = _line(what, note, time.monotonic() - began, live)
            # A line that is wider than the terminal would not be written over.
            text = f"\r\x1b[K{words[: shutil.get_terminal_size().columns - 1]}" if live else f"{words}\n"
            sys.stderr.write(text)
            sys.stderr.flush()
            told = True
        if told and live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
    except (OSError, ValueError):
        # Nobody reads it any more.
        return


def _line(what: str, note: Note, seconds: float, live: bool) -> str:
    minutes, rest = divmod(int(seconds), 60)
    parts = [what, f"{minutes}:{rest:02}"]
    words, share = note.now()
    if words:
        parts.insert(1, words)
    if share is not None and live:
        full = round(_BAR * min(max(share, 0.0), 1.0))
        parts.insert(1, f"[{'#' * full}{'.' * (_BAR - full)}]")
    return "  ".join(parts)
