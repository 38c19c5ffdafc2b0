"""The file that brings objects back after a kill: one JSON line a write, appended before the write is visible.

A line is whole or it is not there: a write that fails half-way (disk full) is cut off again at once, and a torn last
line (the process was killed in the middle of it) is dropped at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from labkit.errors import SandboxError
from labkit.sandbox.contracts import ApiError

__all__ = ["Journal"]

log = logging.getLogger(__name__)

_HEADER = {"journal": "labkit objects", "format": 1}
_COMPACT_FROM = 4 << 20
"""Bytes below which rewriting the file is not worth it."""


class Journal:
    """An append-only file of records.

    Args:
        path: The file; its folder is created (0700). Locked while open, so that two processes never share it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._size = 0
        self._compact_at = _COMPACT_FROM

    def open(self) -> Iterator[dict[str, Any]]:
        """Every record written so far, oldest first; ready for `append` once exhausted.

        Raises:
            SandboxError: if the file cannot be opened, is in use, or holds something else than records.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if error.errno == errno.EWOULDBLOCK:
                raise SandboxError(
                    f"The sandbox's objects in {self._path} are in use by another process.",
                    next_step="A sandbox of this name runs already: see `labkit status`, or end it with `labkit down`.",
                ) from None
            raise SandboxError(
                f"The sandbox's objects in {self._path} cannot be opened: {error.strerror}.",
                next_step=f"Check the permissions and the free space of {self._path.parent}.",
            ) from error
        return self._records()

    def _records(self) -> Iterator[dict[str, Any]]:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            log.warning("%s: dropped a last line that was never finished (%d bytes)", self._path, len(content) - whole)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            yield self._parse(number, line)
        self._size = whole
        os.ftruncate(self._fd, whole)
        self._compact_at = max(_COMPACT_FROM, whole * 2)
        if whole == 0:
            self.append(_HEADER)

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or (number == 1 and record.get("format") != _HEADER["format"]):
            raise SandboxError(
                f"{self._path} is damaged: line {number} is not a record of this version of labkit.",
                next_step=f"Move {self._path} away to start this sandbox without its objects.",
            )
        return record

    def append(self, record: dict[str, Any]) -> None:
        """Write one record; returns once the kernel has it (it survives the process, not the machine).

        Raises:
            ApiError: 507 where the disk is full or the file cannot be written; nothing of it stays in the file.
        """
        self.append_raw(_line(record))

    def append_raw(self, line: bytes) -> None:
        """As `append`, for a line that is JSON already and ends with a newline."""
        done = 0
        try:
            while done < len(line):
                done += os.pwrite(self._fd, line[done:] if done else line, self._size + done)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise ApiError(
                507,
                "InternalError",
                f"the object could not be saved in {self._path}: {error.strerror}; nothing was changed",
            ) from error
        self._size += done

    @property
    def wants_compaction(self) -> bool:
        """Whether the file has grown to twice what it was after the last compaction (and past 4 MB)."""
        return self._size > self._compact_at

    def compact(self, records: Iterable[bytes]) -> None:
        """Replace the file by `records` (lines); kept as it is where that fails."""
        fresh = self._path.with_name(self._path.name + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            with open(os.open(fresh, flags, 0o600), "wb") as out:
                out.write(_line(_HEADER))
                out.writelines(records)
                out.flush()
                size = out.tell()
                # The lock moves with the file: taken before the new one has its name.
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fd = os.dup(out.fileno())
            os.replace(fresh, self._path)
        except OSError as error:
            log.warning("%s: could not be compacted: %s", self._path, error)
            with contextlib.suppress(OSError):
                fresh.unlink()
            self._compact_at = self._size * 2
            return
        os.close(self._fd)
        self._fd, self._size = fd, size
        self._compact_at = max(_COMPACT_FROM, size * 2)

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
