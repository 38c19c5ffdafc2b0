# SPDX-License-Identifier: Apache-2.0
"""What became of a damaged journal: which objects were lost, and of which an older state is left."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from meshbox.api.journal.format import Damage
from meshbox.api.loading import Loaded

__all__ = ["report", "tell"]

log = logging.getLogger(__name__)

_ABOUT = re.compile(
    rb'\{"(put|delete)":"([!#-\[\]-~]{1,300})","namespace":"([!#-\[\]-~]{0,63})","name":"([ !#-\[\]-~]{1,253})"'
    rb'(?:,"version":(\d{1,18}))?'
)
"""How a record begins, where that much of it can still be read."""

_FORMER = re.compile(rb'\{"(put|delete)":"([!#-\[\]-~]{1,300})"')
_NAMES = re.compile(rb'"(namespace|name)":"([!#-\[\]-~]{1,253})"')
_MOST = 200
"""Lines of a report; thousands tell no more."""


def report(loaded: Loaded, journal: Path, kept: Path) -> list[str]:
    """What a learner should know after a damaged journal was recovered, one sentence a line."""
    reading = loaded.reading
    places, objects = _count(len(reading.damages), "place"), len(loaded.objects)
    lines = [f"{journal} was damaged in {places}; objects kept: {objects}."]
    if kept.exists():
        lines[0] += f" The damaged file is {kept}."
    about = [line for damage in reading.damages for line in _of(damage, loaded)]
    lines += list(dict.fromkeys(about))[:_MOST]
    if len(about) > _MOST:
        lines.append(f"… and {len(about) - _MOST} more")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _of(damage: Damage, loaded: Loaded) -> Iterator[str]:
    yield str(damage)
    known = [found for line in damage.rest for found in _read(line)]
    for verb, resource, key, version in known:
        yield f"  {_fate(verb, resource, key, version, loaded)}"
    gone = [n for n in range(damage.first, damage.last + 1) if n and n not in loaded.reading.records]
    # Of a file that was cut nobody knows how much is gone.
    unknown = len(gone) - len(known)
    if unknown > 0:
        yield (
            f"  {_count(unknown, 'write')} lost of which nothing can be read: objects may be missing, back from their "
            "deletion, or as they were before"
        )
    elif damage.first == 0 and not loaded.reading.records:
        yield "  whatever was stored is lost"
    elif not gone and not known:
        yield "  nothing is lost there"


def _read(line: bytes) -> Iterator[tuple[str, str, tuple[str, str], int]]:
    """What can be told of the records in a damaged line."""
    found = list(_ABOUT.finditer(line))
    for one in found:
        yield one[1].decode(), one[2].decode(), (one[3].decode(), one[4].decode()), int(one[5] or 0)
    if not found and (former := _FORMER.match(line)):
        # The former format has the names within the object.
        names = dict(reversed(_NAMES.findall(line)))
        if b"name" in names:
            key = names.get(b"namespace", b"").decode(), names[b"name"].decode()
            yield former[1].decode(), former[2].decode(), key, 0


def _fate(verb: str, resource: str, key: tuple[str, str], version: int, loaded: Loaded) -> str:
    name = f"{resource} {key[0]}/{key[1]}" if key[0] else f"{resource} {key[1]}"
    state = loaded.objects.get((resource, key))
    if state is None:
        return f"{name}: deleted, as was meant" if verb == "delete" else f"{name}: lost, or deleted later"
    if version and state[2] > version:
        return f"{name}: nothing is lost, a later state is there"
    if verb == "delete":
        return f"{name}: is back, since its deletion is lost"
    return f"{name}: is as it was before, since a later state is lost"


def tell(file: Path, lines: list[str]) -> None:
    """Write a report where `labkit up` finds it, and to the log."""
    for line in lines:
        log.warning("%s", line)
    # The objects matter more than what is said about them.
    with (
        contextlib.suppress(OSError),
        open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as out,
    ):
        out.write("\n".join(lines) + "\n")
