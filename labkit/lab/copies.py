# SPDX-License-Identifier: Apache-2.0
"""The learner's copy of the notebooks: what is played lies apart from what was delivered, and outlives its updates."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labkit.course.folder import GLOSSARY, notebooks
from labkit.ground import files
from labkit.ground.errors import SettingError
from labkit.ground.language import LANGUAGES, SOURCE

__all__ = ["KEEPING", "Copy", "language", "prepare"]

KEEPING = ".labkit"
"""Folder in a copy with what labkit keeps of it: what was copied, and how JupyterLab is arranged."""

_RECORD = f"{KEEPING}/copied.json"
_LANGUAGE = f"{KEEPING}/language"


@dataclass(frozen=True)
class Copy:
    """A learner's copy, and what `prepare` did about it. Names are relative to the folder, as "images/ingress.svg".

    Args:
        folder: Where it is.
        new: Whether it was made just now.
        added: Lessons that were not there yet.
        updated: Lessons that the course has changed since and the learner has not touched.
        removed: Lessons that the course has no more and the learner has not touched.
        kept: Lessons that the course has changed since, and that stay as the learner has left them.
        aside: Where the copy before is now; None if there is none.
    """

    folder: Path
    new: bool
    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    aside: Path | None = None

    def lines(self) -> list[str]:
        """What was done, a sentence each: nothing that a learner has to notice is left out."""
        said = [f"your copy before is kept: {self.aside}"] if self.aside else []
        if self.new:
            return [*said, f"your copy of the notebooks: {self.folder}"]
        said.append(f"your copy of the notebooks, as you left it: {self.folder}")
        for what, names in (("new", self.added), ("updated", self.updated), ("no longer taught", self.removed)):
            if lessons := [name for name in names if name.endswith(".ipynb")]:
                said.append(f"  {what}: {', '.join(lessons)}")
        if self.kept:
            said.append(
                f"  changed by you, so they stay, though the course has newer ones: {', '.join(self.kept)}\n"
                "  → `labkit lab --fresh` starts anew and keeps yours aside"
            )
        return said


def language(folder: Path) -> str:
    """What the copy in a folder is in: one of `labkit.ground.language.LANGUAGES`; "" where there is no copy."""
    folder = folder.expanduser()
    if not (folder / _RECORD).exists():
        return ""
    try:
        said = files.read(folder / _LANGUAGE).decode().strip()
    except (OSError, ValueError):
        said = ""
    return said if said in LANGUAGES else SOURCE


def prepare(folder: Path, *, fresh: bool = False, source: Path | None = None, language: str = SOURCE) -> Copy:
    """Make a copy of the course's notebooks, or bring one up to date; what the learner has touched is never changed.

    A notebook counts as touched once it has been edited or played.

    Args:
        folder: Where the copy is or shall be.
        fresh: Whether to begin anew; the copy before is then kept beside it, with the date in its name.
        source: What to copy; None for the notebooks that came with labkit.
        language: What that is in; written down in a new copy.

    Raises:
        SettingError: The folder holds something else.
        NotebookError: labkit has no notebooks.
        OSError: It cannot be written.
    """
    source = (source or notebooks()).resolve()
    folder = folder.expanduser().absolute()
    _require_own(folder, source)
    aside = None
    if fresh and (folder / _RECORD).exists():
        aside = _dated(folder)
        folder.rename(aside)
    new = not (folder / _RECORD).exists()
    record = _read(folder / _RECORD)
    if new:
        (folder / KEEPING).mkdir(parents=True, exist_ok=True)
        # First of all: what is cut short now is a copy all the same, and completed the next time.
        files.write(folder / _LANGUAGE, f"{language}\n".encode(), mode=0o644)
        _keep(folder / _RECORD, {})
    done: dict[str, list[str]] = {"added": [], "updated": [], "removed": [], "kept": []}
    there = {path.relative_to(source).as_posix(): path for path in _delivered(source)}
    for name, path in there.items():
        what, record[name] = _bring(path, folder / name, record.get(name, ["", ""]))
        if what:
            done[what].append(name)
    for name in sorted(record.keys() - there.keys()):
        if (folder / name).is_file() and _cells(folder / name) == record[name][1]:
            (folder / name).unlink()
            done["removed"].append(name)
        del record[name]
    _keep(folder / _RECORD, record)
    return Copy(folder, new, aside=aside, **{what: tuple(names) for what, names in done.items()})


def _require_own(folder: Path, source: Path) -> None:
    if folder.resolve() == source or source in folder.resolve().parents:
        raise SettingError(
            f"{folder} holds the course's own notebooks, which playing would change",
            next_step="Name another folder: `labkit lab DIR` makes a copy there. "
            "Whoever writes lessons opens them with `jupyter lab`.",
        )
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"{folder} is no folder", next_step="Name another one: `labkit lab DIR`.")
    if folder.is_dir() and not (folder / _RECORD).exists() and (found := next(folder.iterdir(), None)) is not None:
        raise SettingError(
            f"{folder} is no copy of the workshop: it holds {found.name}",
            next_step="Name a folder that is empty or not there yet: `labkit lab DIR`.",
        )


def _dated(folder: Path) -> Path:
    """A name that is free, with today's date in it."""
    name = f"{folder.name}-{datetime.now().astimezone():%Y-%m-%d}"
    found, number = folder.with_name(name), 1
    while found.exists():
        number += 1
        found = folder.with_name(f"{name}-{number}")
    return found


def _delivered(source: Path) -> list[Path]:
    words = [source / GLOSSARY, *(source / "images").glob("*")]
    return sorted([*source.glob("*.ipynb"), *(path for path in words if path.is_file())])


def _bring(path: Path, own: Path, before: list[str]) -> tuple[str, list[str]]:
    """Bring one file; returns what was done ("" for nothing), and what is to be remembered: of the file as it was
    delivered, and of the cells that the learner got.
    """
    content = path.read_bytes()
    now = [hashlib.sha256(content).hexdigest(), _cells(path)]
    if not own.exists():
        what = "added"
    elif before == now or (seen := _cells(own)) == now[1]:
        return "", now
    elif seen == before[1]:
        what = "updated"
    else:
        return "kept", before
    own.parent.mkdir(parents=True, exist_ok=True)
    files.write(own, content, mode=0o644, lasting=False)
    return what, now


def _cells(path: Path) -> str:
    """A sum of what is seen of a notebook: its cells with their outputs. JupyterLab writes down more when it saves."""
    content = path.read_bytes()
    if path.suffix == ".ipynb":
        # What is no notebook any more stays as it is: then each byte counts.
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
            cells = json.loads(content)["cells"]
            seen = [[one["cell_type"], "".join(one["source"]), one.get("outputs")] for one in cells]
            content = json.dumps(seen).encode()
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> dict[str, list[str]]:
    try:
        kept = dict(json.loads(files.read(path)))
        return {str(name): [str(whole), str(cells)] for name, (whole, cells) in kept.items()}
    except (OSError, ValueError, TypeError, RecursionError):
        # With a damaged record no file counts as untouched.
        return {}


def _keep(path: Path, record: dict[str, list[str]]) -> None:
    files.write(path, json.dumps(record, indent=1).encode(), mode=0o644)
