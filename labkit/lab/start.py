# SPDX-License-Identifier: Apache-2.0
"""What the start page says: the lessons and how far one is, what the course runs on, where to go on."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from labkit import sandbox, user
from labkit.choice import SANDBOX, choose, chosen
from labkit.cluster.kubeconfig import Target, contexts
from labkit.course.exercise import of_lesson
from labkit.course.folder import notebooks
from labkit.course.progress import Progress, lessons
from labkit.ground import config, files, sandboxes
from labkit.ground.errors import LabError
from labkit.ground.language import current, entries, translated

__all__ = ["START", "change", "facts", "following", "places", "state", "words"]

START = "00-start.ipynb"
"""The start page: a notebook of words, which JupyterLab shows as a page of its own where labkit's extension is."""

_TIME = re.compile(r"\*\*Time\.\*\* (\d+) minutes")


def facts() -> dict[str, Any]:
    """All that the page says but the cluster's state; no cluster is asked and no process started.

    Returns:
        "release", "releases", "target", "note" (what is wrong with the kept choice; mostly ""), "lessons" (each with
        "name", "title", "minutes" (0 where it does not say), "done" (when, "" for not yet), "passed" (how many of its
        checks), "exercises" (how many it has), "solved" (how many of them)), "next" (the name of the lesson to go on
        with; "" after the last).
    """
    what = chosen()
    place = places(what.release, what.target)
    progress = Progress(place) if place else None
    done = progress.finished if progress else {}
    passed = progress.lessons if progress else {}
    solved = progress.exercises if progress else {}
    return {
        "release": what.release,
        "releases": list(reversed(config.RELEASES)),
        "target": what.target,
        "note": translated(what.note),
        "next": following(done, passed, what.release),
        "lessons": [
            {
                "name": name,
                "title": translated(title),
                "minutes": minutes(name),
                "done": done.get(name, ""),
                "passed": len(passed.get(name, {})),
                "exercises": len(of_lesson(name)),
                "solved": len({one.name for one in of_lesson(name)} & set(solved.get(name, {}))),
            }
            for name, title in lessons(what.release).items()
        ],
    }


def following(done: dict[str, str], passed: dict[str, dict[str, str]], release: str = config.DEFAULT_RELEASE) -> str:
    """The lesson to go on with: the one that something was last done in, if it has not ended; else the first after it
    that has not; "" when there is none.

    Args:
        done: When which lessons ended.
        passed: When which checks of which lessons passed.
        release: Of Istio: only lessons that it has.
    """
    names = list(lessons(release))
    last = {name: max([done.get(name, ""), *passed.get(name, {}).values()]) for name in names}
    # Of those with the same second, the later lesson.
    latest = max(names, key=lambda name: (last[name], names.index(name))) if any(last.values()) else names[0]
    return next((name for name in names[names.index(latest) :] if name not in done), "")


def places(release: str, target: str) -> Path | None:
    """The folder with the progress of what the course runs on; None if no lesson was begun there.

    Args:
        release: The Istio release.
        target: "sandbox", or a context.
    """
    if target == SANDBOX:
        found = sandboxes.folder(sandboxes.named(release, user.sandbox())) / "course"
        return found if found.is_dir() else None
    # A context's cluster is known by its uid: the last lesson that began there has written the context's name down.
    named = []
    for file in (config.home() / "course").glob("*/context"):
        try:
            if files.read(file).decode() == target:
                named.append(file)
        except (OSError, ValueError):
            continue
    return max(named, key=lambda file: file.stat().st_mtime).parent if named else None


def state() -> dict[str, Any]:
    """The state of what the course runs on, and what else it could run on. It takes a process or two.

    Returns:
        "state" (a few words), "good" (whether a lesson finds it running), "contexts" (those of the
        user's own kubeconfig).
    """
    what = chosen()
    # Those of sandboxes are reached by "sandbox" and a release.
    own = [name for name in contexts(Target.from_environment()) if not name.startswith("labkit-")]
    said: dict[str, Any] = {"contexts": own, "good": False}
    if what.target != SANDBOX:
        return said | {"state": translated("where the lessons install Istio")}
    name = sandboxes.named(what.release, user.sandbox())
    try:
        now = next((one["state"] for one in sandbox.known() if one["name"] == name), "")
    except LabError as error:
        return said | {"state": error.told()}
    if now == "running":
        return said | {"state": translated("which is running"), "good": True}
    words = "which starts with the lesson" if now in ("", "stopped", "absent") else f"which is {now}"
    return said | {"state": translated(words)}


def words() -> dict[str, Any]:
    """What the page says in the reader's language.

    Returns:
        "words": English → its translation; empty for English.
    """
    return {"words": {english: own for english, own in entries(current()).items() if own}}


def change(release: str, target: str) -> None:
    """Choose what the course runs on; "" leaves it as it is.

    Raises:
        SettingError: There is no such release or context, or it cannot be kept.
    """
    choose(release, target)


@functools.cache
def minutes(lesson: str) -> int:
    """How long a lesson takes, as it says itself; 0 where it does not."""
    try:
        opening = json.loads((notebooks() / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"][0]["source"]
        found = _TIME.search("".join(opening))
    except (LabError, OSError, ValueError, LookupError, TypeError):
        found = None
    return int(found[1]) if found else 0
