# SPDX-License-Identifier: Apache-2.0
"""Who is how far: from the folders of this machine's users, or from what seats have told a class's folder."""

from __future__ import annotations

import json
import pwd
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labkit import display
from labkit.course.exercise import of_lesson
from labkit.course.progress import LESSONS, Ticks
from labkit.ground import files
from labkit.ground.errors import SettingError

__all__ = ["Reached", "by_users", "table", "told"]

_MOST_BYTES = 256 << 10
_LONGEST = 40
"""Characters of a name that are shown: whoever tells chooses it."""


@dataclass(frozen=True)
class Reached:
    """How far somebody is on one cluster.

    Args:
        who: A user or a seat.
        cluster: A sandbox's name, or a cluster's uid.
        ticks: What was finished and solved, and when.
    """

    who: str
    cluster: str
    ticks: Ticks

    @property
    def last(self) -> tuple[str, str]:
        """When something was last reached, and in which lesson; both "" for nothing yet."""
        found = [(at, lesson) for lesson, at in self.ticks.finished.items()]
        for of in (self.ticks.lessons, self.ticks.exercises):
            found += [(at, lesson) for lesson, ticks in of.items() for at in ticks.values()]
        return max((one for one in found if one[1] in LESSONS), default=("", ""))

    @property
    def solved(self) -> int:
        """How many of the course's exercises."""
        kept = self.ticks.exercises
        return sum(len({one.name for one in of_lesson(name)} & set(kept.get(name, {}))) for name in LESSONS)

    def row(self, now: datetime) -> dict[str, str]:
        """As a row of a table."""
        at, lesson = self.last
        return {
            "Who": self.who,
            "Cluster": self.cluster,
            "Lessons": str(len(LESSONS.keys() & self.ticks.finished.keys())),
            "Exercises": str(self.solved),
            "Last in": lesson,
            "When": _ago(at, now),
        }


def told(folder: Path) -> list[Reached]:
    """What seats have told a class's folder; a file that is damaged, or no such file, counts as not told.

    Raises:
        SettingError: There is no such folder, or it cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json" and not path.is_symlink())
    except OSError as error:
        raise SettingError(
            f"the class's folder {folder} cannot be read: {error.strerror}",
            next_step="Name the folder that seats tell: `labkit course progress --all --folder DIR`, or LABKIT_CLASS.",
        ) from None
    found = []
    for path in paths:
        ticks = Ticks.read(path)
        try:
            said = json.loads(files.read(path, _MOST_BYTES))
            who, cluster = said["who"], said["cluster"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
        if ticks is not None:
            found.append(Reached(_shown(who), _shown(cluster), ticks))
    return found


def by_users(homes: Mapping[Path, str] | None = None) -> tuple[list[Reached], list[str]]:
    """How far the users of this machine are, as far as whoever asks may read that: root may.

    Args:
        homes: Home folders, and whose they are; None for those of this machine's users.

    Returns:
        How far, and the names of those whose folders may not be read.
    """
    if homes is None:
        # Users of the system's own share homes.
        homes = {Path(one.pw_dir): one.pw_name for one in reversed(pwd.getpwall())}
    found, closed = [], []
    for home, who in homes.items():
        try:
            places = _places(home / ".labkit")
        except PermissionError:
            closed.append(who)
            continue
        for cluster, file in places:
            ticks = Ticks.read(file)
            if ticks is not None and (ticks.finished or ticks.lessons):
                found.append(Reached(who, cluster, ticks))
    return found, closed


def _places(state: Path) -> list[tuple[str, Path]]:
    """Clusters, and the files that tell how far somebody is there.

    Raises:
        PermissionError: Whoever asks may not read it.
    """
    found = []
    for folder, inside in (("sandboxes", "course"), ("course", "")):
        try:
            found += [(one.name, one / inside / "progress.json") for one in sorted((state / folder).iterdir())]
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def table(reached: Sequence[Reached], now: datetime | None = None) -> display.Rich:
    """As a table, whoever is behind first, and where they are.

    Args:
        reached: Of whom.
        now: What "ago" counts from; None for now.
    """
    now = now or datetime.now(UTC)
    order = list(LESSONS)
    ranked = sorted(reached, key=lambda one: (order.index(one.last[1]) if one.last[1] else -1, one.who))
    columns = ["Who", "Cluster", "Lessons", "Exercises", "Last in", "When"]
    shown = display.table([one.row(now) for one in ranked], columns)
    where = Counter(one.last[1] for one in ranked if one.last[1])
    words = ", ".join(f"{name} {where[name]}" for name in order if name in where)
    return shown + display.message(f"Where they are: {words or 'nobody has begun'}.", "note")


def _shown(word: object) -> str:
    """A name that somebody else wrote, without what would move a terminal's cursor."""
    return "".join(letter for letter in str(word) if letter.isprintable())[:_LONGEST]


def _ago(at: str, now: datetime) -> str:
    try:
        seconds = (now - datetime.fromisoformat(at)).total_seconds()
    except (ValueError, TypeError):
        return ""
    minutes = max(0, int(seconds // 60))
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days ago"
