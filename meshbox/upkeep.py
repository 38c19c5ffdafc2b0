# SPDX-License-Identifier: Apache-2.0
"""While a sandbox runs, its small files stay what they are: one that is deleted or damaged is written again.

Without its folder a sandbox ends: its journal would go on in a file without a name, and nobody could find its process.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from labkit.ground import files
from labkit.ground.errors import LabError
from meshbox import failures, kept

__all__ = ["Home", "Upkeep"]

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between looks."""

_Seen = tuple[int, int, int]


class Home:
    """A folder as it is now, told from another that comes to its place.

    Args:
        path: The folder.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # As long as it is open, no other folder gets its number.
        self._held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def gone(self) -> bool:
        """Whether it was deleted, moved or replaced. A folder that cannot be looked at is not gone."""
        try:
            return not os.path.samestat(os.fstat(self._held), os.stat(self._path))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Look no more."""
        os.close(self._held)


_tell = failures.in_log("a small file could not be looked after")


class Upkeep:
    """Knows what files hold, and sees to it that they go on holding it.

    Args:
        paths: The files; what they hold now is right.
        accepts: For a file that its user may change: says whether a new content will do.
        tell: Told why a file could not be looked after; the others are, and it is tried again.
    """

    def __init__(
        self, paths: list[Path], accepts: dict[Path, Callable[[bytes], bool]], tell: failures.Tell = _tell
    ) -> None:
        self._tell = tell
        self._right = {path: files.read(path) for path in paths}
        self._seen: dict[Path, _Seen | None] = {path: _look(path) for path in paths}
        self._accepts = accepts
        self._doubted: dict[Path, _Seen | None] = {}
        self._said: dict[Path, str] = {}

    async def run(self, home: Home, gone: Callable[[], None]) -> None:
        """Look again and again, until cancelled; call `gone` once, and end, when `home` has gone."""
        while not home.gone:
            for path in self._right:
                with failures.spared(self._tell):
                    self.check(path)
            await asyncio.sleep(EVERY)
        gone()

    def check(self, path: Path) -> None:
        """Look at one file; write it again if it is not what it should be, and was so at the last look.

        Whoever writes a file first empties it, and whoever deletes the folder deletes one file after the other.
        """
        look = _look(path)
        # Without its folder somebody is deleting the sandbox: not our place to bring it back.
        if (path in self._seen and look == self._seen[path]) or not path.parent.is_dir():
            return
        self._seen[path] = look
        doubted = self._doubted.pop(path, ())
        try:
            found = files.read(path)
        except (OSError, ValueError):
            found = b""
        if found == self._right[path]:
            return
        if found and self._accepts.get(path, _never)(found):
            self._right[path] = found
            return
        if doubted != look:
            self._doubted[path] = look
            del self._seen[path]
            return
        try:
            kept.put(path, self._right[path].decode())
        except LabError as error:
            # Tried again: a disk does not stay full for ever.
            del self._seen[path]
            if self._said.get(path) != error.message:
                self._said[path] = error.message
                log.error("%s is damaged, and cannot be written again: %s", path, error.message)
            return
        # The next round reads it once more: it may have been damaged again by now.
        del self._seen[path]
        self._said.pop(path, None)
        log.warning("%s was damaged: it was written again", path)


def _never(_: bytes) -> bool:
    return False


def _look(path: Path) -> _Seen | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
