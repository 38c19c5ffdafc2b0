"""What is said of an error that nobody foresaw: on the object it was about, and not only in the daemon's log."""

from __future__ import annotations

import logging

from labkit.ground.errors import LabError
from meshbox.contracts import Objects, View

__all__ = ["noted", "report", "words"]

log = logging.getLogger(__name__)


def words(error: BaseException) -> str:
    """An error in one sentence: an object's event is no place for a traceback."""
    if isinstance(error, LabError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"an error inside the sandbox, whose daemon.log says more: {type(error).__name__} {error}".strip()


def noted(error: BaseException, what: str) -> str:
    """An error's words; where the fault is the sandbox's own, all about it goes to the log, as trouble of `what`."""
    if not isinstance(error, LabError | OSError):
        log.error("%s", what, exc_info=error)
    return words(error)


def report(objects: Objects, obj: View, error: BaseException, reason: str, component: str) -> None:
    """Record `error` as a Warning event on `obj`, and where it is a fault of the sandbox's own in the log."""
    meta = obj.get("metadata") or {}
    what = f"{obj.get('kind', '')} {meta.get('namespace') or ''}/{meta.get('name')}: {reason}"
    objects.event(obj, "Warning", reason, noted(error, what), component)
