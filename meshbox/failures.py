# SPDX-License-Identifier: Apache-2.0
"""What becomes of an error that nobody foresaw: one meaning, wherever it comes up.

The log has its traceback, once, under a short id; whoever meets it is told the id in words, where they look: in an
event of the object that was worked on (of the Node, where it was none), in a waiting reason, in the API's answer. The
rest goes on. The id is of the place in the code, so that the same fault has the same words: events are counted instead
of piling up, and neither they nor the log grow faster than with the logarithm of how often it happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from labkit.ground.errors import LabError
from meshbox.contracts import Objects, View
from meshbox.program import program

__all__ = [
    "Tell",
    "belongs_to",
    "fault",
    "identity",
    "in_log",
    "minded",
    "noted",
    "on_loop",
    "report",
    "report_here",
    "spared",
    "words",
]

log = logging.getLogger(__name__)

Tell = Callable[[BaseException], None]
"""Tells of an error where somebody looks for it."""

_REMEMBERED = 1024
_ANEW = 300.0
"""Seconds without an error after which it counts as another one."""

_counts: OrderedDict[tuple[str, ...], tuple[int, float]] = OrderedDict()
_belonging = ["daemon.log", ""]


def belongs_to(home: Path, name: str) -> None:
    """Say whose process this is, for the words.

    Args:
        home: The sandbox's folder.
        name: The sandbox's name.
    """
    _belonging[:] = [str(home / "daemon.log"), "" if name == "default" else f" --name {name}"]


def identity(error: BaseException) -> str:
    """Eight hexadecimal digits for the kind of an error and where it was raised; the same in each run of this code."""
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    # How it came there is another matter: the same fault may be met from several sides.
    return hashlib.sha256(" ".join([type(error).__name__, *frames[-3:]]).encode()).hexdigest()[:8]


def words(error: BaseException) -> str:
    """An error in one sentence: an object's event is no place for a traceback, nor for Python's own words."""
    if isinstance(error, LabError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    file, name = _belonging
    return (
        f"an internal error of the sandbox ({identity(error)}); the log {file} says more, and "
        f"`{program()} report{name}` packs what is needed to find it"
    )


def noted(error: BaseException, what: str) -> str:
    """An error's words; where the fault is the sandbox's own, all about it goes to the log, as trouble of `what`."""
    if not isinstance(error, LabError) and not (isinstance(error, OSError) and error.strerror):
        fault(error, what)
    return words(error)


def fault(error: BaseException, what: str) -> str:
    """Log a fault of the sandbox's own: with its traceback the first time, then ever more seldom. Its id."""
    known = identity(error)
    if _due("traceback", known):
        log.error("%s (%s)", what, known, exc_info=error)
        _due("what", known, what)
    elif _due("what", known, what):
        log.error("%s (%s), as above", what, known)
    return known


def _due(*key: str) -> bool:
    """Whether to tell of `key`: the first, second, fourth … time."""
    count, last = _counts.pop(key, (0, 0.0))
    now = time.monotonic()
    count = 1 if now - last > _ANEW else count + 1
    _counts[key] = count, now
    while len(_counts) > _REMEMBERED:
        _counts.popitem(last=False)
    # A traceback is long, and the same each time.
    return count == 1 if key[0] == "traceback" else count & (count - 1) == 0


def report(objects: Objects, obj: View, error: BaseException, reason: str, component: str) -> None:
    """Record `error` as a Warning event on `obj`, and where it is a fault of the sandbox's own in the log.

    Args:
        objects: Where events go.
        obj: What was worked on.
        error: The error.
        reason: The event's, such as "FailedSync".
        component: Who tells.
    """
    meta = obj.get("metadata") or {}
    said = noted(error, f"{obj.get('kind', '')} {meta.get('namespace') or ''}/{meta.get('name')}: {reason}")
    # An event about an event would have one about itself.
    if obj.get("kind") != "Event" and _due(str(meta.get("uid")), str(meta.get("name")), reason, said):
        objects.event(obj, "Warning", reason, said, component)


def report_here(objects: Objects, error: BaseException, what: str, component: str) -> None:
    """As `report`, where no object was worked on: on the Node, as what the sandbox as a whole has met.

    Args:
        objects: Where events go.
        error: The error.
        what: What could not be done.
        component: Who tells.
    """
    said = noted(error, what)
    if _due("here", what, said):
        for node in objects.list("nodes")[:1]:
            objects.event(node, "Warning", "InternalError", f"{what}: {said}", component)


def in_log(what: str) -> Tell:
    """Tells in the log only, for who knows no objects."""

    def tell(error: BaseException) -> None:
        said = noted(error, what)
        if _due("log", what, said):
            log.warning("%s: %s", what, said)

    return tell


@contextlib.contextmanager
def spared(tell: Tell) -> Iterator[None]:
    """Go on after what is in this block, whatever error it met: that is told."""
    try:
        yield
    except Exception as error:
        tell(error)


def minded(work: Coroutine[Any, Any, None], tell: Tell) -> asyncio.Task[None]:
    """A task whose error is told as soon as it ends with one, and not when its memory is collected."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            tell(error)

    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(ended)
    return task


def on_loop(objects: Objects) -> None:
    """Tell of what the running event loop meets in callbacks and tasks that nobody minds."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, OSError):
            # A connection that broke, mostly.
            loop.default_exception_handler(context)
        else:
            report_here(objects, error, "something was left undone", "labkit")

    asyncio.get_running_loop().set_exception_handler(handle)
