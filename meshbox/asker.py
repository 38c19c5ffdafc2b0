# SPDX-License-Identifier: Apache-2.0
"""The process that asks for a sandbox, so as to be known again.

A pid alone may be another process's by the time it is looked at: a process is meant by its pid and the moment it
started.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from labkit.ground.errors import SettingError

__all__ = ["Asker"]


class Asker(NamedTuple):
    """The process that a sandbox ends with.

    Args:
        pid: Its id.
        began: When it started, in the kernel's ticks since the machine's start.
    """

    pid: int
    began: int

    @classmethod
    def of(cls, pid: int) -> Asker:
        """The process that has the id `pid` now.

        Raises:
            SettingError: there is none.
        """
        began = _began(pid)
        if began is None:
            raise SettingError(
                f"there is no process {pid} that the sandbox could end with",
                next_step="give --with-pid the id of a process that runs, such as $$ in a shell",
            )
        return cls(pid, began)

    @classmethod
    def parse(cls, text: str) -> Asker:
        """The opposite of `str`."""
        pid, _, began = text.partition(":")
        return cls(int(pid), int(began))

    def __str__(self) -> str:
        return f"{self.pid}:{self.began}"

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return _began(self.pid) == self.began


def _began(pid: int) -> int | None:
    """When `pid` started, in ticks since the machine's start; None if it has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in ("Z", "X") else int(words[19])
