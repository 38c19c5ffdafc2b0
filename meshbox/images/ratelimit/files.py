# SPDX-License-Identifier: Apache-2.0
"""The folder with the program's configuration: what is in it, and whether that has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from meshbox.images.ratelimit.log import Log
from meshbox.images.ratelimit.settings import Settings

__all__ = ["Files"]


class Files:
    """The folder.

    Args:
        settings: Where it is.
        root: What plays the container's "/".
        log: Where it is said what cannot be read.
    """

    def __init__(self, settings: Settings, root: Path, log: Log) -> None:
        self._log = log
        self._no_dots = settings.flag("RUNTIME_IGNOREDOTFILES")
        parts = [settings.text(f"RUNTIME_{name}").strip("/") for name in ("ROOT", "SUBDIRECTORY", "APPDIRECTORY")]
        self._whole = settings.flag("RUNTIME_WATCH_ROOT")
        self._nothing = self._whole and not parts[1]
        self._link = root / parts[0]
        # A whole tree is taken as it is linked, and what is in one of its folders counts; else that folder.
        self.folder = root.joinpath(*parts[:2]) if self._whole else root.joinpath(*parts)
        self.watched = self._link.parent if self._whole and parts[0] else self.folder
        self._kept = f"{parts[2]}." if self._whole else ""
        self.inside = f"/{self.watched.relative_to(root)}"

    def read(self) -> list[tuple[str, str]]:
        """Names, with dots for slashes, and contents."""
        found: list[tuple[str, str]] = []
        if self._nothing:
            self._log.warning("no runtime configuration. using nil loader.")
            return found
        for file in self._walked(self.folder):
            name = str(file.relative_to(self.folder)).replace("/", ".")
            self._log.debug(f"runtime: processing {name}")
            if not name.startswith(self._kept):
                continue
            try:
                found.append((name, file.read_text(encoding="utf-8", errors="replace")))
            except OSError as error:
                self._log.warning(f"runtime: error reading {name}: {str(error.strerror).lower()}")
        return found

    def state(self) -> tuple[object, ...]:
        """What is another one when the configuration is to be read again."""
        if self._whole:
            return (os.readlink(self._link),) if self._link.is_symlink() else ()
        made = []
        for file in self._walked(self.folder):
            try:
                about = file.stat()
            except OSError:
                # It goes as we look.
                continue
            made.append((str(file), about.st_mtime_ns, about.st_size, about.st_ino))
        return tuple(made)

    def _walked(self, folder: Path) -> Iterator[Path]:
        try:
            inside = sorted(os.scandir(folder), key=lambda one: one.name)
        except OSError:
            return
        for one in inside:
            if self._no_dots and one.name.startswith("."):
                continue
            if one.is_dir(follow_symlinks=False):
                yield from self._walked(Path(one.path))
            else:
                yield Path(one.path)
