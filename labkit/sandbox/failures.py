"""What is said of an error that nobody foresaw: on the object it was about, and not only in the daemon's log."""

from __future__ import annotations

import logging

from labkit.errors import LabError
from labkit.sandbox.contracts import Obj, Objects

__all__ = ["report", "words"]

log = logging.getLogger(__name__)


def words(error: BaseException) -> str:
    """An error in one sentence: an object's event is no place for a traceback."""
    if isinstance(error, LabError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"an error inside the sandbox, whose daemon.log says more: {type(error).__name__} {error}".strip()


def report(objects: Objects, obj: Obj, error: BaseException, reason: str, component: str) -> None:
    """Record `error` as a Warning event on `obj`, and where it is a fault of the sandbox's own in the log."""
    if not isinstance(error, LabError | OSError):
        meta = obj.get("metadata") or {}
        where = f"{obj.get('kind', '')} {meta.get('namespace') or ''}/{meta.get('name')}"
        log.error("%s: %s", where, reason, exc_info=error)
    objects.event(obj, "Warning", reason, words(error), component)
