"""While a sandbox runs, its small files stay what they are: one that is deleted or damaged is written again."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from labkit import files
from labkit.errors import LabError
from labkit.sandbox import kept

__all__ = ["Upkeep"]

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between looks."""

_Seen = tuple[int, int, int]


class Upkeep:
    """Knows what files hold, and sees to it that they go on holding it.

    Args:
        paths: The files; what they hold now is right.
        accepts: For a file that its user may change: says whether a new content will do.
    """

    def __init__(self, paths: list[Path], accepts: dict[Path, Callable[[bytes], bool]]) -> None:
        self._right = {path: files.read(path) for path in paths}
        self._seen: dict[Path, _Seen | None] = {path: _look(path) for path in paths}
        self._accepts = accepts

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            for path in self._right:
                self.check(path)

    def check(self, path: Path) -> None:
        """Look at one file; write it again if it is not what it should be."""
        look = _look(path)
        # Without its folder somebody is deleting the sandbox: not our place to bring it back.
        if (path in self._seen and look == self._seen[path]) or not path.parent.is_dir():
            return
        self._seen[path] = look
        try:
            found = files.read(path)
        except (OSError, ValueError):
            found = b""
        if found == self._right[path]:
            return
        if found and self._accepts.get(path, _never)(found):
            self._right[path] = found
            return
        try:
            kept.put(path, self._right[path].decode())
        except LabError as error:
            log.error("%s is damaged, and cannot be written again: %s", path, error.message)
            return
        # The next round reads it once more: it may have been damaged again by now.
        del self._seen[path]
        log.warning("%s was damaged: it was written again", path)


def _never(_: bytes) -> bool:
    return False


def _look(path: Path) -> _Seen | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
